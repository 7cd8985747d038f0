//! SIGTERM with a thousand requests in flight, over every face: not one is lost or cut short.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic_prost::prost::Message;
use weir_api::grpc::wire::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor,
};

use crate::{
    client::{Connection, request},
    drain::serve,
    metrics::await_metric,
    server::{require_sentiment, root},
};

const PREDICT: &str = "/v1/models/housing:predict?outputs=prediction";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Requests of each face that have not sent all of their body yet.
const HTTP1: usize = 350;
const HTTP2: usize = 350;
const GRPC: usize = 300;
/// Streams that share a connection.
const STREAMS: usize = 100;
/// Requests that wait for a slow model besides.
const QUEUED: usize = 50;

type Pieces = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// What came over HTTP/2.
struct Answer {
    status: u16,
    trailers: HeaderMap,
    body: Bytes,
}

/// A request that is half sent.
struct Half {
    pieces: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    rest: Bytes,
    answer: JoinHandle<Answer>,
}

impl Half {
    async fn begin(sender: &http2::SendRequest<Pieces>, path: &str, kind: &str, body: Bytes) -> Self {
        let (pieces, received) = mpsc::channel(2);
        let mut first = body;
        let rest = first.split_off(first.len() / 2);
        pieces.send(Ok(Frame::data(first))).await.unwrap();
        let request = Request::post(format!("http://weir.test{path}"))
            .header("content-type", kind)
            .header("te", "trailers")
            .body(StreamBody::new(ReceiverStream::new(received)))
            .unwrap();
        let mut sender = sender.clone();
        let answer = tokio::spawn(async move {
            sender.ready().await.unwrap();
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let collected = response.into_body().collect().await.unwrap();
            let trailers = collected.trailers().cloned().unwrap_or_default();
            Answer { status, trailers, body: collected.to_bytes() }
        });
        Self { pieces, rest, answer }
    }

    /// Sends the rest and returns what is answered.
    async fn end(self) -> Answer {
        self.pieces.send(Ok(Frame::data(self.rest))).await.unwrap();
        drop(self.pieces);
        self.answer.await.unwrap()
    }
}

async fn begin_all(address: SocketAddr, count: usize, path: &str, kind: &str, body: &Bytes) -> Vec<Half> {
    let mut halves = Vec::new();
    for at in 0..count.div_ceil(STREAMS) {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..STREAMS.min(count - at * STREAMS) {
            halves.push(Half::begin(&sender, path, kind, body.clone()).await);
        }
    }
    halves
}

/// A golden row and its prediction.
fn sample() -> (Value, f64) {
    let samples = std::fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let sample: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let prediction = sample["prediction"].as_f64().unwrap();
    (sample["input"].clone(), prediction)
}

/// The row as a gRPC message behind its five bytes.
fn message(row: &Value) -> Bytes {
    const NAMES: [&str; 8] =
        ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];
    let values = NAMES.iter().map(|name| row[name].as_f64().unwrap() as f32).collect();
    let contents = InferTensorContents { fp32_contents: values, ..Default::default() };
    let input = InferInputTensor {
        name: "input".into(),
        datatype: "FP32".into(),
        shape: vec![1, 8],
        contents: Some(contents),
        ..Default::default()
    };
    let inputs = vec![input];
    let request = ModelInferRequest { model_name: "housing".into(), inputs, ..Default::default() };
    let bytes = request.encode_to_vec();
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat().into()
}

fn headers() -> Vec<(String, String)> {
    vec![("Content-Type".into(), "application/json".into())]
}

fn is_golden(body: &[u8], prediction: f64) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let found = body["predictions"][0]["prediction"].as_f64().unwrap_or_else(|| panic!("{body}"));
    assert!((found - prediction).abs() < 1e-5, "{found}, not {prediction}");
}

/// Opens connections that have sent all of `bytes` but the last `less`.
fn open(address: SocketAddr, count: usize, bytes: &[u8], less: usize) -> Vec<Connection> {
    let one = |_| {
        let mut connection = Connection::open(address).unwrap();
        connection.wait_longer();
        connection.send(&bytes[..bytes.len() - less]).unwrap();
        connection
    };
    (0..count).map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_in_flight_are_all_answered() {
    require_sentiment();
    let settings = "drain_timeout = \"10m\"\nbody_timeout = \"10m\"\nrequest_timeout = \"10m\"";
    let (_place, mut server) = serve(&["examples/models/housing", ".cache/sentiment"], settings);
    let address = server.address;
    let (row, prediction) = sample();
    let json = Bytes::from(row.to_string());
    let http2 = begin_all(address, HTTP2, PREDICT, "application/json", &json).await;
    let grpc = begin_all(address, GRPC, INFER, "application/grpc", &message(&row)).await;
    let typed = request("POST", PREDICT, &headers(), Some(&json));
    let mut http1 = open(address, HTTP1, &typed, 10);
    let mut idle = open(address, 1, &typed, 0).remove(0);
    is_golden(&idle.receive(false).unwrap().body, prediction);
    let held = (HTTP1 + HTTP2 + GRPC) as f64;
    await_metric(address, "weir_requests_in_flight", |n| n >= held);
    let text = br#"{"instances":[{"text":"waiting for my turn"}]}"#;
    let text = request("POST", "/v1/models/sentiment:predict", &headers(), Some(text));
    let mut queued = open(address, QUEUED, &text, 0);
    server.signal(Signal::TERM);
    // Idle connections are closed, and HTTP/2 was told to go away: behind that moment the rest is sent.
    assert_eq!(idle.drain(), Some(Vec::new()));
    for half in http2 {
        let answer = half.end().await;
        assert_eq!(answer.status, 200);
        is_golden(&answer.body, prediction);
    }
    for half in grpc {
        let answer = half.end().await;
        assert_eq!((answer.status, &answer.trailers["grpc-status"]), (200, &"0".parse().unwrap()));
        let response = ModelInferResponse::decode(&answer.body[5..]).unwrap();
        assert_eq!(response.model_name, "housing");
    }
    for connection in &mut http1 {
        connection.send(&typed[typed.len() - 10..]).unwrap();
        let response = connection.receive(false).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        is_golden(&response.body, prediction);
    }
    for connection in &mut queued {
        let response = connection.receive(false).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
    }
    drop((http1, queued));
    let (success, log) =
        tokio::task::spawn_blocking(move || (server.wait().success(), server.log())).await.unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        success && last.contains("\"drained\""),
        "nothing was cut off, and the last line was written:\n{log}"
    );
}
