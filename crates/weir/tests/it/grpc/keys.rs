//! `idempotency-key` in gRPC's metadata.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Barrier;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding};
use weir_api::grpc::wire::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
};

use super::client::{Client, INFERENCE, houses, raw, typed};
use crate::{drain::serve, metrics::metric};

const MARK: &str = "idempotency-replayed";

async fn under(
    client: &Client,
    key: &str,
    question: ModelInferRequest,
) -> Result<Response<ModelInferResponse>, Status> {
    let mut question = Request::new(question);
    question.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    client.respond(INFERENCE, "ModelInfer", question).await
}

fn rows(server: &crate::server::Server) -> f64 {
    metric(server.address, r#"weir_rows_total{model="housing",version="1"}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_a_key_runs_once() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let first = under(&client, "k-1", raw(&houses(200))).await.unwrap();
    assert!(!first.metadata().contains_key(MARK));
    // What is kept is not compressed: each caller takes it as it likes.
    let compressing = client.clone().compressing(CompressionEncoding::Gzip);
    for client in [&client, &compressing] {
        let again = under(client, "\"k-1\"", raw(&houses(200))).await.unwrap();
        assert_eq!(again.metadata().get(MARK).unwrap(), "true");
        assert_eq!(again.get_ref(), first.get_ref());
    }
    assert_eq!(rows(&server), 200.0, "run once");
    // Typed contents of the same rows are answered in another form: another request.
    for other in [typed(&houses(200)), raw(&houses(199))] {
        let refused = under(&client, "k-1", other).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("Another request has used this key"), "{refused}");
    }
    let without = client.ask::<_, ModelInferResponse>("ModelInfer", raw(&houses(200))).await.unwrap();
    assert_eq!((&without, rows(&server)), (first.get_ref(), 400.0), "without a key it runs");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_kept_and_what_time_changes_is_not() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let mut wrong = typed(&houses(1));
    wrong.inputs[0].name = "nothing".into();
    let refused = [
        under(&client, "k-1", wrong.clone()).await.unwrap_err(),
        under(&client, "k-1", wrong).await.unwrap_err(),
    ];
    let told = refused.each_ref().map(|status| {
        assert!(status.message().contains("no input \"nothing\""), "{status}");
        (status.code(), status.metadata().contains_key(MARK))
    });
    assert_eq!(told, [(Code::InvalidArgument, false), (Code::InvalidArgument, true)]);
    // A model that is not there may come: its key is free.
    let absent = ModelInferRequest { model_name: "absent".into(), ..raw(&houses(1)) };
    assert_eq!(under(&client, "k-2", absent).await.unwrap_err().code(), Code::NotFound);
    assert!(under(&client, "k-2", raw(&houses(1))).await.is_ok());
    for (key, words) in [("a b", "visible ASCII"), ("\"half", "does not end with one")] {
        let refused = under(&client, key, raw(&houses(1))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_no_key() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let mut question = Request::new(raw(&houses(1)));
    question.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
    // The call ends before it has an answer, so that one as of a single call is as good.
    let refused =
        client.respond::<_, ModelStreamInferResponse>(INFERENCE, "ModelStreamInfer", question).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("leave it out, or ask ModelInfer"), "{refused}");
    server.stop();
}

/// A step of `running`, which answers how many it has seen.
fn step(start: bool) -> ModelInferRequest {
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 2],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "running".into(),
        inputs: vec![input],
        parameters: BTreeMap::from([
            ("sequence_id".to_owned(), parameter(ParameterChoice::Int64Param(7))),
            ("sequence_start".to_owned(), parameter(ParameterChoice::BoolParam(start))),
        ]),
        ..Default::default()
    }
}

/// The sum that the model has come to.
fn sum(answer: &ModelInferResponse) -> f32 {
    let at = answer.outputs.iter().position(|output| output.name == "y").unwrap();
    answer.outputs[at].contents.as_ref().unwrap().fp32_contents[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_several_send_at_once_is_taken_once() {
    const STEPS: usize = 8;
    const CALLERS: usize = 4;
    let (_place, server) = serve(&["tests/sequences/models/running"], "");
    let client = Client::connect(server.address).await;
    under(&client, "k-0", step(true)).await.unwrap();
    let start = Arc::new(Barrier::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, start) = (client.clone(), start.clone());
            tokio::spawn(async move {
                for n in 1..=STEPS {
                    start.wait().await;
                    // ABORTED while another is at it: the client asks again, as it is told to.
                    let answer = loop {
                        match under(&client, &format!("k-{n}"), step(false)).await {
                            Ok(answer) => break answer,
                            Err(status) => {
                                assert_eq!(status.code(), Code::Aborted, "{status}");
                                assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
                            }
                        }
                    };
                    assert_eq!(sum(answer.get_ref()), 2.0 * (n + 1) as f32);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    server.stop();
}
