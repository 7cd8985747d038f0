//! HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    client::{Connection, request},
    drain::serve,
    metrics::await_metric,
    server::{Server, require_sentiment, root},
};

pub(crate) type Sender = http2::SendRequest<Full<Bytes>>;

/// A connection of its own.
pub(crate) async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(
    mut sender: Sender,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Vec<(String, String)>, String) {
    sender.ready().await.unwrap();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://weir.test{path}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let header =
        |(n, v): (&http::HeaderName, &http::HeaderValue)| (n.to_string(), v.to_str().unwrap().to_owned());
    let headers = response.headers().iter().map(header).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

fn row(latitude: f64) -> Value {
    json!({
        "MedInc": 4.375, "HouseAge": 38.0, "AveRooms": 5.4, "AveBedrms": 0.97, "Population": 828.0,
        "AveOccup": 3.49, "Latitude": latitude, "Longitude": -118.17
    })
}

fn demo() -> Server {
    Server::start(&root(), &["--config".into(), "examples/housing.toml".into()])
}

#[tokio::test]
async fn http2_answers_as_http1_does() {
    let server = demo();
    let sender = connect(server.address).await;
    let good = row(34.18).to_string();
    let cases = [
        ("POST", "/predict", good.as_str()),
        ("POST", "/predict", "{}"),
        ("POST", "/predict", "["),
        ("POST", "/predict/", "{}"),
        ("GET", "/predict", ""),
        ("GET", "/nothing", ""),
        ("GET", "/hello?name=Ada", ""),
        ("HEAD", "/docs", ""),
    ];
    // What differs from answer to answer, or belongs to one of the protocols alone: HTTP/2
    // ends an empty body in the head and needs no length for it.
    let own = |(name, value): &(String, String)| {
        ["x-request-id", "date", "connection"].contains(&name.as_str())
            || (name == "content-length" && value == "0")
    };
    for (method, path, body) in cases {
        let (status, mut headers, text) = send(sender.clone(), method, path, body).await;
        let mut other = Connection::open(server.address).unwrap();
        let json = [("content-type".to_owned(), "application/json".to_owned())];
        other.send(&request(method, path, &json, Some(body.as_bytes()))).unwrap();
        let mut other = other.receive(method == "HEAD").unwrap();
        assert_eq!((status, &text), (other.status, &other.text()), "{method} {path}");
        headers.retain(|header| !own(header));
        other.headers.retain(|header| !own(header));
        headers.sort();
        other.headers.sort();
        assert_eq!(headers, other.headers, "{method} {path}");
    }
    server.stop();
}

#[tokio::test]
async fn answers_on_one_connection_are_not_swapped() {
    let server = demo();
    let sender = connect(server.address).await;
    let latitude = |i: u32| 32.0 + f64::from(i) / 20.0;
    let rows: Vec<_> = (0..100).map(|i| row(latitude(i))).collect();
    let (status, _, text) =
        send(sender.clone(), "POST", "/lab/bulk-predict", &json!({"houses": rows}).to_string()).await;
    assert_eq!(status, 200, "{text}");
    let expected = serde_json::from_str::<Value>(&text).unwrap()["predictions"].as_array().unwrap().clone();
    let asked: Vec<_> = rows
        .iter()
        .map(|row| {
            let (sender, row) = (sender.clone(), row.to_string());
            tokio::spawn(async move { send(sender, "POST", "/predict", &row).await.2 })
        })
        .collect();
    for (asked, expected) in asked.into_iter().zip(&expected) {
        assert_eq!(
            serde_json::from_str::<Value>(&asked.await.unwrap()).unwrap(),
            json!({ "prediction": expected })
        );
    }
    server.stop();
}

#[tokio::test]
async fn streams_in_flight_outlive_sigterm() {
    const STREAMS: usize = 30;
    require_sentiment();
    let (_place, mut server) = serve(&[".cache/sentiment"], "");
    let sender = connect(server.address).await;
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let body = r#"{"instances":[{"text":"waiting for my turn, patiently"}]}"#;
            tokio::spawn(send(sender.clone(), "POST", "/v1/models/sentiment:predict", body))
        })
        .collect();
    let address = server.address;
    let wait = move || await_metric(address, "weir_requests_in_flight", |n| n >= 10.0);
    tokio::task::spawn_blocking(wait).await.unwrap();
    server.signal(Signal::TERM);
    for stream in streams {
        let (status, _, text) = stream.await.expect("a stream is lost");
        assert_eq!(status, 200, "{text}");
    }
    drop(sender);
    assert!(tokio::task::spawn_blocking(move || server.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_client_that_grants_no_window_is_let_go() {
    let (_place, server) = serve(&["examples/models/housing"], "write_timeout = \"1s\"");
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // It answers pings, and takes nothing.
    builder.initial_stream_window_size(0);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        Request::builder().uri("http://weir.test/openapi.json").body(Full::new(Bytes::new())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200, "the head needs no window");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), connection).await;
    assert!(ended.is_ok(), "the connection is kept for a client that takes nothing");
    drop(response);
    server.stop();
}
