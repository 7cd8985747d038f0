//! SIGTERM: not one request is lost, and nobody holds the exit.

use std::{
    fs,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    client::{Connection, ask, get, request},
    metrics::{await_metric, metric},
    server::{Server, require_sentiment, root},
};

/// A server of `models` (relative to the checkout) with more `[server]` settings.
pub(crate) fn serve(models: &[&str], settings: &str) -> (TempDir, Server) {
    let place = TempDir::new().unwrap();
    let models: Vec<_> = models.iter().map(|m| format!("{:?}", root().join(m))).collect();
    // These tests are about a model at work: unless they say so, nothing that it answers is kept.
    let cache = if settings.contains("[cache]") { "" } else { "[cache]\nenabled = false\n" };
    let text = format!("[server]\nmodels = [{}]\n{settings}\n{cache}", models.join(", "));
    fs::write(place.path().join("weir.toml"), text).unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    (place, server)
}

fn json_headers() -> Vec<(String, String)> {
    vec![("Content-Type".into(), "application/json".into())]
}

#[test]
fn requests_in_flight_are_all_answered() {
    const QUEUED: usize = 40;
    const HALF_SENT: usize = 20;
    require_sentiment();
    let (_place, mut server) = serve(&[".cache/sentiment"], "");
    let body = br#"{"instances":[{"text":"waiting for my turn"}]}"#;
    let bytes = request("POST", "/v1/models/sentiment:predict", &json_headers(), Some(body));
    let open = |sent: usize| {
        let mut connection = Connection::open(server.address).unwrap();
        connection.send(&bytes[..sent]).unwrap();
        connection
    };
    // Some wait for the model, some have not sent all of their body yet.
    let mut half_sent: Vec<_> = (0..HALF_SENT).map(|_| open(bytes.len() - 10)).collect();
    await_metric(server.address, "weir_requests_in_flight", |n| n >= HALF_SENT as f64);
    let mut queued: Vec<_> = (0..QUEUED).map(|_| open(bytes.len())).collect();
    // Twice at once, as a terminal and a wrapper do: it is one wish.
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    for connection in &mut half_sent {
        connection.send(&bytes[bytes.len() - 10..]).unwrap();
    }
    for (i, connection) in queued.iter_mut().chain(&mut half_sent).enumerate() {
        let response = connection.receive(false).unwrap_or_else(|e| panic!("request {i} is lost: {e}"));
        assert_eq!(response.status, 200, "request {i}: {}", response.text());
        assert!(response.json()["predictions"][0].is_array(), "request {i}: {}", response.text());
    }
    assert!(server.wait().success());
}

#[test]
fn kept_connections_lose_nothing() {
    const CLIENTS: usize = 16;
    let (_place, mut server) = serve(&["examples/models/housing"], "");
    let (warm, ready) = channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, warm) = (server.address, warm.clone());
            thread::spawn(move || {
                let body = br#"{"instances":[]}"#;
                let bytes = request("POST", "/v1/models/housing:predict", &json_headers(), Some(body));
                let mut connection = Connection::open(address).unwrap();
                for answered in 0.. {
                    connection.send(&bytes).unwrap_or_else(|e| panic!("request {answered} is lost: {e}"));
                    let response = connection
                        .receive(false)
                        .unwrap_or_else(|e| panic!("request {answered} is lost: {e}"));
                    assert_eq!(response.status, 200, "{}", response.text());
                    if answered == 10 {
                        warm.send(()).unwrap();
                    }
                    if response.header("connection").any(|v| v == "close") {
                        return answered;
                    }
                }
                unreachable!("the server stops sooner");
            })
        })
        .collect();
    ready.iter().take(CLIENTS).for_each(drop);
    server.signal(Signal::TERM);
    for client in clients {
        assert!(client.join().unwrap() > 10);
    }
    assert!(server.wait().success());
}

#[test]
fn a_draining_server_says_so_before_it_refuses_connections() {
    let (_place, mut server) = serve(&["examples/models/housing"], "drain_delay = \"2s\"");
    assert_eq!(get(server.address, "/readyz").status, 200);
    server.signal(Signal::TERM);
    let not_ready = loop {
        let response = get(server.address, "/readyz");
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.json(), serde_json::json!({"ready": false, "draining": true}));
    assert!(not_ready.header("retry-after").next().is_some());
    let answer = ask(server.address, "POST", "/v1/models/housing:predict", Some(br#"{"instances":[]}"#));
    assert_eq!(answer.status, 200, "who has not noticed yet is served");
    assert!(server.wait().success());
    assert!(Connection::open(server.address).is_err());
}

#[test]
fn a_stalled_client_does_not_hold_the_exit() {
    let settings = "drain_timeout = \"1s\"\nbody_timeout = \"10m\"\nrequest_timeout = \"10m\"";
    let (_place, mut server) = serve(&["examples/models/housing"], settings);
    let mut stalled = Connection::open(server.address).unwrap();
    let head = b"POST /v1/models/housing:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{";
    stalled.send(head).unwrap();
    await_metric(server.address, "weir_requests_in_flight", |n| n >= 2.0);
    assert_eq!(metric(server.address, "weir_requests_in_flight"), 2.0);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn sigint_ends_it_too() {
    let (_place, mut server) = serve(&["examples/models/housing"], "");
    server.signal(Signal::INT);
    assert!(server.wait().success());
}
