//! Callers who go away, callers in a hurry, and a server that leaves.

use std::time::Duration;

use rustix::process::Signal;
use tokio_stream::{iter, wrappers::ReceiverStream};
use tonic::{Code, Request, Streaming};
use weir_api::grpc::wire::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    model_infer_request::InferInputTensor,
};

use super::client::{Client, INFERENCE, houses, raw};
use crate::{
    drain::serve,
    metrics::{await_metric, metric},
    server::{Server, require_sentiment},
};

/// One text for the slow model.
fn text(id: usize) -> ModelInferRequest {
    let words = "waiting for my turn, patiently ".repeat(20);
    let contents = InferTensorContents { bytes_contents: vec![words.into()], ..Default::default() };
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: vec![1],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "sentiment".into(),
        id: id.to_string(),
        inputs: vec![input],
        ..Default::default()
    }
}

fn sentiment() -> (tempfile::TempDir, Server) {
    require_sentiment();
    // On a busy machine the model may be too slow for the default.
    serve(&[".cache/sentiment"], "request_timeout = \"10m\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_calls_cost_no_execution() {
    const CALLS: usize = 40;
    let (_place, server) = sentiment();
    let client = Client::connect(server.address).await;
    let _: ModelInferResponse = client.ask("ModelInfer", text(0)).await.unwrap();
    let before = metric(server.address, "weir_abandoned_total{model=\"sentiment\",version=\"1\"}");
    let calls: Vec<_> = (0..CALLS)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { client.ask::<_, ModelInferResponse>("ModelInfer", text(i)).await })
        })
        .collect();
    let address = server.address;
    await_metric(address, "weir_requests_in_flight", |n| n >= 10.0);
    calls.iter().for_each(|call| call.abort());
    let after =
        await_metric(address, "weir_abandoned_total{model=\"sentiment\",version=\"1\"}", |n| n > before);
    assert!(after > before);
    // And the connection serves on.
    let _: ModelInferResponse = client.ask("ModelInfer", text(0)).await.unwrap();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_in_the_queue_is_told() {
    let (_place, server) = sentiment();
    let client = Client::connect(server.address).await;
    let queue: Vec<_> = (0..400)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { client.ask::<_, ModelInferResponse>("ModelInfer", text(i)).await })
        })
        .collect();
    await_metric(server.address, "weir_requests_in_flight", |n| n >= 100.0);
    let mut hurried = Request::new(text(99));
    // Not grpc-timeout: that one tonic obeys itself, and says so before the server does.
    hurried.metadata_mut().insert("request-timeout", "0.02".parse().unwrap());
    let answer: Result<ModelInferResponse, _> = client.call(INFERENCE, "ModelInfer", hurried).await;
    let status = answer.unwrap_err();
    // Refused at once where the model's pace is known already, else when its time is over.
    let told = match status.code() {
        Code::Unavailable => "in time",
        _ => "deadline",
    };
    assert!(status.message().contains(told), "{:?} {}", status.code(), status.message());
    for call in queue {
        call.await.unwrap().unwrap();
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_streams_in_flight_outlive_sigterm() {
    const CALLS: usize = 20;
    let (_place, mut server) = sentiment();
    let client = Client::connect(server.address).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { client.ask::<_, ModelInferResponse>("ModelInfer", text(i)).await })
        })
        .collect();
    // A stream that its caller keeps open: it owes five answers, then it ends.
    let (questions, receiver) = tokio::sync::mpsc::channel(8);
    for i in 0..5 {
        questions.send(text(i)).await.unwrap();
    }
    let mut stream: Streaming<ModelStreamInferResponse> =
        client.stream(INFERENCE, "ModelStreamInfer", ReceiverStream::new(receiver)).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.error_message.as_str(), first.infer_response.unwrap().id.as_str()), ("", "0"));
    server.signal(Signal::TERM);
    for (i, call) in calls.into_iter().enumerate() {
        let answer = call.await.unwrap().unwrap_or_else(|e| panic!("call {i} is lost: {e}"));
        assert_eq!(answer.id, i.to_string());
    }
    let mut last = 0;
    let end = loop {
        match stream.message().await {
            Ok(Some(answer)) => last = answer.infer_response.unwrap().id.parse().unwrap(),
            Ok(None) => panic!("the stream ended as if it were done"),
            Err(status) => break status,
        }
    };
    assert_eq!((last, end.code()), (4, Code::Unavailable), "{}", end.message());
    drop((questions, stream, client));
    assert!(tokio::task::spawn_blocking(move || server.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_caller_goes_away_ends() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let endless = iter((0..).map(|i: usize| ModelInferRequest { id: i.to_string(), ..raw(&houses(1)) }));
    let mut stream: Streaming<ModelStreamInferResponse> =
        client.stream(INFERENCE, "ModelStreamInfer", endless).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);
    // The scrape itself is the one in flight.
    await_metric(server.address, "weir_requests_in_flight", |n| n <= 1.0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_does_not_take_is_not_worked_ahead() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let (asked, counted) = tokio::sync::watch::channel(0_usize);
    let endless = iter((0..).map(move |i: usize| {
        asked.send_replace(i);
        ModelInferRequest { id: i.to_string(), ..raw(&houses(200)) }
    }));
    let stream: Streaming<ModelStreamInferResponse> =
        client.stream(INFERENCE, "ModelStreamInfer", endless).await.unwrap();
    // Nobody reads: the questions stop when the buffers on the way are full. What is counted
    // then is buffers; a server that worked ahead would go on as long as it is asked.
    let mut before = usize::MAX;
    while before != *counted.borrow() {
        before = *counted.borrow();
        let mut counted = counted.clone();
        counted.mark_unchanged();
        let _ =
            tokio::time::timeout(Duration::from_secs(1), counted.wait_for(|n| *n > before + 10_000)).await;
        assert!(*counted.borrow() < 20_000, "the server reads on");
    }
    drop(stream);
    server.stop();
}
