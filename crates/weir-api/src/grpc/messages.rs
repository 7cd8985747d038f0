//! Requests and answers of the inference service: from messages and into them.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_types::{Error, ErrorCode, Tensor};

use super::{
    contents,
    generated::inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
        model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
    },
};
use crate::v2::core::{
    InferRequest, InferResponse, MAX_ID_BYTES, NamedTensor, OutputTensor, Parameter, Parameters,
    RequestedOutput, cut, datatype, dtype, read_raw, write_raw,
};

/// Asks a stream to mark the last answer to each request; all of ours are the last.
const WANT_FINAL: &str = "triton_enable_empty_final_response";
/// The mark.
pub(super) const FINAL: &str = "triton_final_response";

/// What of a request concerns its form alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// The inputs came as raw contents, so that the outputs go as such.
    pub(super) raw: bool,
    /// The answer is marked as the last.
    pub(super) mark_final: bool,
}

/// Reads a request.
///
/// # Errors
/// `InvalidArgument` where its parts do not fit each other, `Unsupported` for what Weir
/// does not do.
pub(super) fn request(message: ModelInferRequest) -> Result<(InferRequest, Form), Error> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents, .. } = message;
    let mut parameters = self::parameters(parameters)?;
    let mark_final = parameters.flag(WANT_FINAL)?.unwrap_or(false);
    parameters.0.retain(|(name, _)| name != WANT_FINAL);
    let raw = !raw_input_contents.is_empty();
    let inputs = if raw { raw_inputs(inputs, &raw_input_contents)? } else { typed_inputs(inputs)? };
    let output = |o: super::generated::inference::model_infer_request::InferRequestedOutputTensor| {
        let parameters = self::parameters(o.parameters)?;
        no_shared_memory(&o.name, &parameters)?;
        Ok(RequestedOutput { name: o.name, parameters })
    };
    let outputs = outputs.into_iter().map(output).collect::<Result<_, Error>>()?;
    if id.len() > MAX_ID_BYTES {
        return Err(Error::invalid(format!("`id` is longer than {MAX_ID_BYTES} bytes")));
    }
    let id = (!id.is_empty()).then_some(id);
    Ok((InferRequest { id, parameters, inputs, outputs }, Form { raw, mark_final }))
}

fn raw_inputs(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Vec<NamedTensor>, Error> {
    if inputs.len() != raw.len() {
        let text =
            format!("{} inputs and {} raw_input_contents: there is one for each", inputs.len(), raw.len());
        return Err(Error::invalid(text));
    }
    let both = |i: &&InferInputTensor| i.contents.as_ref().is_some_and(|c| *c != Default::default());
    if let Some(input) = inputs.iter().find(both) {
        let text = format!("input `{}` has contents beside raw_input_contents", cut(&input.name));
        return Err(Error::invalid(text));
    }
    let input = |(input, bytes): (InferInputTensor, &Bytes)| {
        named(input, |name, dtype, shape, _| read_raw(name, dtype, shape, bytes))
    };
    inputs.into_iter().zip(raw).map(input).collect()
}

fn typed_inputs(inputs: Vec<InferInputTensor>) -> Result<Vec<NamedTensor>, Error> {
    let read = |input| {
        named(input, |name, dtype, shape, typed| {
            contents::read(name, dtype, shape, typed.unwrap_or_default())
        })
    };
    inputs.into_iter().map(read).collect()
}

fn named(
    input: InferInputTensor,
    read: impl FnOnce(
        &str,
        weir_types::DType,
        &[usize],
        Option<super::generated::inference::InferTensorContents>,
    ) -> Result<weir_types::TensorData, Error>,
) -> Result<NamedTensor, Error> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    no_shared_memory(&name, &self::parameters(parameters)?)?;
    let wrong = |why: String| Error::invalid(format!("input `{}`: {why}", cut(&name)));
    let dtype = dtype(&datatype).map_err(|e| wrong(e.message.into_owned()))?;
    let size = |n: i64| usize::try_from(n).map_err(|_| wrong(format!("the shape has the dimension {n}")));
    let shape = shape.into_iter().map(size).collect::<Result<Vec<_>, Error>>()?;
    let data = read(&name, dtype, &shape, contents)?;
    let tensor = Tensor::new(shape, data).map_err(|e| wrong(e.to_string()))?;
    Ok(NamedTensor { name, tensor })
}

/// Clients that put tensors into shared memory send none here; to read nothing instead of
/// them would be a lie.
fn no_shared_memory(name: &str, parameters: &Parameters) -> Result<(), Error> {
    match parameters.get("shared_memory_region") {
        None => Ok(()),
        Some(_) => {
            let text =
                format!("`{}` is in shared memory, which is not supported: send its contents", cut(name));
            Err(Error::new(ErrorCode::Unsupported, text))
        }
    }
}

fn parameters(parameters: BTreeMap<String, InferParameter>) -> Result<Parameters, Error> {
    let one = |(name, parameter): (String, InferParameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(b)) => Parameter::Bool(b),
            Some(ParameterChoice::Int64Param(n)) => Parameter::Int(n),
            Some(ParameterChoice::Uint64Param(n)) => {
                i64::try_from(n).map_or(Parameter::Uint(n), Parameter::Int)
            }
            Some(ParameterChoice::DoubleParam(x)) => Parameter::Double(x),
            Some(ParameterChoice::StringParam(s)) => Parameter::String(s),
            None => return Err(Error::invalid(format!("the parameter `{}` has no value", cut(&name)))),
        };
        Ok((name, value))
    };
    parameters.into_iter().map(one).collect::<Result<_, _>>().map(Parameters)
}

/// Writes an answer in the request's own form. An output that has no typed form (FP16, BF16)
/// makes all of them raw: the protocol has no mixture.
pub(super) fn response(response: InferResponse, form: Form) -> ModelInferResponse {
    let InferResponse { model, version, id, outputs, .. } = response;
    let raw = form.raw || outputs.iter().any(|o| !contents::has_typed(o.tensor.dtype()));
    let mut message = ModelInferResponse {
        model_name: model,
        model_version: version,
        id: id.unwrap_or_default(),
        ..ModelInferResponse::default()
    };
    for OutputTensor { name, tensor } in outputs {
        let mut output = InferOutputTensor {
            name,
            datatype: datatype(tensor.dtype()).to_owned(),
            // Sizes of what is in memory.
            shape: tensor.shape().iter().map(|&n| n as i64).collect(),
            ..InferOutputTensor::default()
        };
        if raw {
            let mut bytes = Vec::new();
            write_raw(tensor.data(), &mut bytes);
            message.raw_output_contents.push(bytes.into());
        } else {
            output.contents = Some(contents::write(tensor.into_data()));
        }
        message.outputs.push(output);
    }
    if form.mark_final {
        message.parameters.insert(FINAL.to_owned(), flag(true));
    }
    message
}

/// A parameter that is true or false.
pub(super) fn flag(value: bool) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}

/// Whether a stream's caller wants the last answer to a request marked, also where the
/// request itself is refused.
pub(super) fn wants_final(message: &ModelInferRequest) -> bool {
    message.parameters.get(WANT_FINAL) == Some(&flag(true))
}
