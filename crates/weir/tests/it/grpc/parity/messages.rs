//! Questions over gRPC.

use std::collections::BTreeMap;

use serde_json::Value;
use tonic::{Code, Status};
use weir_api::grpc::wire::inference::*;

use super::{Form, Outcome, Step, answers, comparable};
use crate::grpc::{
    client::{Client, INFERENCE},
    tensors::{Tensor, bytes_of, typed_of, values_of},
};

/// Asks what `step` asks.
pub(super) async fn ask(step: &Step, client: &Client, form: Form) -> Outcome {
    if step.infer.is_some() {
        return infer(step, client, form).await;
    }
    match answers::ask(step, client).await {
        Ok(answer) => Outcome::Answer(comparable(answer)),
        Err(status) => Outcome::Refused(status.code(), status.message().to_owned()),
    }
}

async fn infer(step: &Step, client: &Client, form: Form) -> Outcome {
    let Some(question) = message_of(step, form) else { return Outcome::Unsayable };
    let answer = if form == Form::Streamed {
        let stream = tokio_stream::iter([question]);
        let mut answers: tonic::Streaming<ModelStreamInferResponse> =
            client.stream(INFERENCE, "ModelStreamInfer", stream).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert!(answers.message().await.unwrap().is_none(), "the stream ends OK behind its answer");
        match answer.error_message.as_str() {
            "" => Ok(answer.infer_response.unwrap()),
            // A stream's error has no code of its own.
            text => Err(Status::new(Code::Unknown, text)),
        }
    } else {
        client.ask("ModelInfer", question).await
    };
    match answer {
        Ok(answer) => tensors_of_grpc(answer),
        Err(status) => Outcome::Refused(status.code(), status.message().to_owned()),
    }
}

fn message_of(step: &Step, form: Form) -> Option<ModelInferRequest> {
    let (model_name, model_version) = step.target();
    let body = step.infer.as_ref().unwrap();
    let mut message = ModelInferRequest {
        model_name: model_name.to_owned(),
        model_version: model_version.to_owned(),
        id: body["id"].as_str().unwrap_or_default().to_owned(),
        parameters: parameters(&body["parameters"]),
        ..Default::default()
    };
    for tensor in step.inputs() {
        let contents = match form {
            Form::Typed => Some(typed_of(&tensor)?),
            _ => {
                message.raw_input_contents.push(bytes_of(&tensor)?.into());
                None
            }
        };
        message.inputs.push(model_infer_request::InferInputTensor {
            name: tensor.name,
            datatype: tensor.datatype,
            shape: tensor.shape,
            contents,
            ..Default::default()
        });
    }
    for output in body["outputs"].as_array().into_iter().flatten() {
        message.outputs.push(model_infer_request::InferRequestedOutputTensor {
            name: output["name"].as_str().unwrap().to_owned(),
            parameters: parameters(&output["parameters"]),
        });
    }
    Some(message)
}

fn parameters(json: &Value) -> BTreeMap<String, InferParameter> {
    use infer_parameter::ParameterChoice;
    let one = |(name, value): (&String, &Value)| {
        let choice = match value {
            Value::Bool(b) => ParameterChoice::BoolParam(*b),
            Value::String(s) => ParameterChoice::StringParam(s.clone()),
            other => match other.as_i64() {
                Some(n) => ParameterChoice::Int64Param(n),
                None => ParameterChoice::DoubleParam(other.as_f64().unwrap()),
            },
        };
        (name.clone(), InferParameter { parameter_choice: Some(choice) })
    };
    json.as_object().into_iter().flatten().map(one).collect()
}

fn tensors_of_grpc(answer: ModelInferResponse) -> Outcome {
    let raw = &answer.raw_output_contents;
    let output = |(i, o): (usize, &model_infer_response::InferOutputTensor)| Tensor {
        name: o.name.clone(),
        datatype: o.datatype.clone(),
        shape: o.shape.clone(),
        values: match &o.contents {
            Some(contents) => values_of(&o.datatype, contents),
            None => Tensor::values_from_bytes(&o.datatype, &raw[i]),
        },
    };
    Outcome::Tensors {
        model: answer.model_name.clone(),
        version: answer.model_version.clone(),
        id: answer.id.clone(),
        outputs: answer.outputs.iter().enumerate().map(output).collect(),
    }
}
