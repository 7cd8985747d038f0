//! Who goes away before its turn, or has no time left, costs no prediction.
//!
//! One request keeps the only thread of the model busy while the others come and go. What the
//! engine did is read from `/metrics`: it counts rows, and each of the others has one.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tonic_prost::prost::Message;
use weir_api::grpc::wire::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};

use crate::{
    client::{Connection, request},
    drain::serve,
    h2c::{Sender, connect},
    metrics::{await_metric, metric},
    server::{Server, require_sentiment},
};

const GONE: usize = 1_000;
/// Less than the server's cap on concurrent streams.
const STREAMS: usize = 250;
const PREDICT: &str = "/v1/models/sentiment:predict";
const INFER: &str = "/v2/models/sentiment/infer";
const GRPC: &str = "/inference.GRPCInferenceService/ModelInfer";

/// One test at a time: side by side they would keep the machine busy, not the model.
static TURN: Mutex<()> = Mutex::const_new(());

/// A model that is busy.
struct Busy {
    _turn: MutexGuard<'static, ()>,
    server: Server,
    _place: TempDir,
    busy: Connection,
    /// Rows and unanswered requests before.
    before: [f64; 2],
}

impl Busy {
    const ROWS: usize = 600;

    fn new() -> Self {
        let turn = TURN.blocking_lock();
        require_sentiment();
        let settings = "threads = 1\nrequest_timeout = \"10h\"\nmax_queue = 2000";
        let (place, server) = serve(&[".cache/sentiment"], settings);
        let before = Self::counts(server.address);
        let text = "a sentence of some length that keeps the only thread of the model busy ".repeat(4);
        let body = json!({ "instances": vec![json!({ "text": text }); Self::ROWS] }).to_string();
        let busy = post(server.address, PREDICT, &body);
        await_metric(server.address, r#"weir_executions_total{model="sentiment",version="1"}"#, |n| n > 0.0);
        busy.wait_longer();
        Self { _turn: turn, server, _place: place, busy, before }
    }

    fn counts(address: SocketAddr) -> [f64; 2] {
        let of =
            |what: &str| metric(address, &format!("weir_{what}_total{{model=\"sentiment\",version=\"1\"}}"));
        [of("rows"), of("abandoned") + of("expired") + of("refused")]
    }

    fn in_flight(&self, wanted: impl Fn(f64) -> bool) {
        await_metric(self.server.address, "weir_requests_in_flight", wanted);
    }

    /// Awaits that `gone` requests wait for the model.
    fn await_queue(&self, gone: usize) {
        // The one that runs, those that wait, and the scrape.
        self.in_flight(|n| n >= (gone + 2) as f64);
    }

    /// Checks that nobody else was computed; returns how many were dropped unseen.
    fn end(mut self) -> usize {
        self.in_flight(|n| n <= 2.0);
        let [rows, _] = Self::counts(self.server.address);
        let done = rows - self.before[0];
        assert!(done < Self::ROWS as f64, "the model was still busy when the last of them left");
        let mut last = post(self.server.address, PREDICT, &json!({"text": "next"}).to_string());
        assert_eq!(self.busy.receive(false).unwrap().status, 200);
        assert_eq!(last.receive(false).unwrap().status, 200, "the next client is served");
        let [rows, unanswered] = Self::counts(self.server.address);
        assert_eq!(rows - self.before[0], (Self::ROWS + 1) as f64, "rows of nobody were computed");
        self.server.stop();
        (unanswered - self.before[1]) as usize
    }
}

fn post(address: SocketAddr, path: &str, body: &str) -> Connection {
    post_with(address, path, &[], body)
}

fn post_with(address: SocketAddr, path: &str, more: &[(&str, &str)], body: &str) -> Connection {
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut connection = Connection::open(address).unwrap();
    connection.send(&request("POST", path, &headers, Some(body.as_bytes()))).unwrap();
    connection
}

async fn send(
    mut sender: Sender,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    let request = Request::post(format!("http://weir.test{path}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    sender.send_request(request.body(Full::new(body)).unwrap()).await
}

/// A framed `ModelInferRequest` of one text; `timeout` in microseconds.
fn message(timeout: Option<i64>) -> Bytes {
    let parameter = |us| InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(us)) };
    let contents = InferTensorContents { bytes_contents: vec!["a text".into()], ..Default::default() };
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: vec![1],
        contents: Some(contents),
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: "sentiment".into(),
        inputs: vec![input],
        parameters: timeout.into_iter().map(|us| ("timeout".to_owned(), parameter(us))).collect(),
        ..Default::default()
    };
    let message = request.encode_to_vec();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat().into()
}

const GRPC_HEADERS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

#[test]
fn connections_that_are_closed_are_not_computed() {
    let busy = Busy::new();
    let body = json!({"text": "nobody waits for this"}).to_string();
    let waiting: Vec<_> = (0..GONE).map(|_| post(busy.server.address, PREDICT, &body)).collect();
    busy.await_queue(GONE);
    drop(waiting);
    assert_eq!(busy.end(), GONE);
}

/// A client that closes its sending side cannot be told from one that has gone.
#[test]
fn connections_that_are_half_closed_are_not_computed() {
    let busy = Busy::new();
    let mut waiting = post(busy.server.address, PREDICT, &json!({"text": "half"}).to_string());
    busy.await_queue(1);
    waiting.end_sending().unwrap();
    assert_eq!(waiting.drain().unwrap_or_default(), b"", "the connection is closed without an answer");
    assert_eq!(busy.end(), 1);
}

/// Sends [`GONE`] requests on streams of a few connections, and resets the streams.
async fn reset_streams(path: &'static str, headers: &'static [(&str, &str)], body: Bytes) {
    let busy = tokio::task::spawn_blocking(Busy::new).await.unwrap();
    let mut calls = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..GONE / STREAMS {
        let sender = connect(busy.server.address).await;
        calls.extend((0..STREAMS).map(|_| tokio::spawn(send(sender.clone(), path, headers, body.clone()))));
        senders.push(sender);
    }
    let busy = tokio::task::spawn_blocking(move || {
        busy.await_queue(GONE);
        busy
    });
    let busy = busy.await.unwrap();
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::task::spawn_blocking(move || assert_eq!(busy.end(), GONE)).await.unwrap();
    drop(senders);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_are_not_computed() {
    let body = json!({"text": "nobody waits for this"}).to_string();
    reset_streams(PREDICT, &[("content-type", "application/json")], body.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_cancelled_are_not_computed() {
    reset_streams(GRPC, &GRPC_HEADERS, message(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_deadline_passes_are_not_computed() {
    let busy = tokio::task::spawn_blocking(Busy::new).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..GONE / STREAMS {
        let sender = connect(busy.server.address).await;
        let headers = [GRPC_HEADERS[0], GRPC_HEADERS[1], ("grpc-timeout", "500m")];
        let call = || {
            let sender = sender.clone();
            tokio::spawn(
                async move { status(send(sender, GRPC, &headers, message(None)).await.unwrap()).await },
            )
        };
        calls.extend((0..STREAMS).map(|_| call()));
    }
    let mut queued = 0;
    for call in calls {
        let (status, text) = call.await.unwrap();
        // Who would be late is refused at once.
        assert!(["4", "14"].contains(&&*status), "{text}");
        // Who is late before its message is read is not even queued.
        queued += usize::from(!text.contains("before%20the%20request"));
    }
    assert!(queued > 0);
    assert_eq!(tokio::task::spawn_blocking(|| busy.end()).await.unwrap(), queued);
}

/// `grpc-status` and `grpc-message`, wherever they are.
async fn status(response: Response<Incoming>) -> (String, String) {
    let text =
        |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut headers = response.headers().clone();
    if let Some(trailers) = response.into_body().collect().await.unwrap().trailers() {
        headers.extend(trailers.clone());
    }
    (text(&headers, "grpc-status").unwrap(), text(&headers, "grpc-message").unwrap_or_default())
}

/// What limits a request: each may be there or not, and the smallest wins. It is refused at
/// once where the model's pace is known, else when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_deadline_wins() {
    let busy = tokio::task::spawn_blocking(Busy::new).await.unwrap();
    let address = busy.server.address;
    let infer = |timeout: Option<i64>| -> Value {
        let input = json!({"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a text"]});
        match timeout {
            Some(us) => json!({"inputs": [input], "parameters": {"timeout": us}}),
            None => json!({"inputs": [input]}),
        }
    };
    let (soon, late) = (Some(200_000), Some(500_000_000));
    let http = [
        (PREDICT, Some("0.2"), None),
        (INFER, Some("0.2"), None),
        (INFER, None, soon),
        (INFER, Some("0.2"), late),
        (INFER, Some("500"), soon),
    ];
    let begun = Instant::now();
    for (path, header, timeout) in http {
        let body = if path == PREDICT { json!({"text": "a text"}) } else { infer(timeout) };
        let headers: Vec<_> = header.map(|value| ("Request-Timeout", value)).into_iter().collect();
        let asked = move || post_with(address, path, &headers, &body.to_string()).receive(false).unwrap();
        let answer = tokio::task::spawn_blocking(asked).await.unwrap();
        assert!([503, 504].contains(&answer.status), "{path} {header:?} {timeout:?}: {}", answer.text());
    }
    let sender = connect(address).await;
    let grpc = [
        (Some("200m"), None, None),
        (None, Some("0.2"), None),
        (None, None, soon),
        (Some("200m"), Some("500"), late),
        (Some("500S"), Some("0.2"), late),
        (Some("500S"), Some("500"), soon),
    ];
    for (own, header, timeout) in grpc {
        let more = [("grpc-timeout", own), ("request-timeout", header)];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers: Vec<_> = GRPC_HEADERS.into_iter().chain(more).collect();
        let answer = send(sender.clone(), GRPC, &headers, message(timeout)).await.unwrap();
        let (status, text) = status(answer).await;
        assert!(["4", "14"].contains(&&*status), "{own:?} {header:?} {timeout:?}: {text}");
    }
    // Eleven times at most 0.2 seconds, which the model is busy for; the larger ones would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(200));
    tokio::task::spawn_blocking(|| busy.end()).await.unwrap();
}
