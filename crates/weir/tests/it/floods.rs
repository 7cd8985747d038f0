//! Clients that make work instead of asking for it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Connection, get, request},
    drain::serve,
    metrics::{await_metric, metric},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const FLOODS: &str = "weir_http2_floods_total";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// What the server says to a client that sends `begin` and then `frame` until it is stopped.
async fn flood(address: SocketAddr, begin: &[u8], frame: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    writer.write_all(&[PREFACE, SETTINGS, begin].concat()).await.unwrap();
    let many = frame.repeat(1_000);
    let sender = tokio::spawn(async move { while writer.write_all(&many).await.is_ok() {} });
    let mut told = Vec::new();
    // Ends in a reset when the server is done with throwing away what still comes.
    let _ = reader.read_to_end(&mut told).await;
    sender.await.unwrap();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_end_their_connection() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    // A POST that stays open: method, scheme and path from the static table and as text.
    let path = b"/v1/models/housing:predict";
    let head = [&[0x83, 0x86, 0x04, path.len() as u8][..], path, &[0x41, 1, b'a']].concat();
    let open = frame(1, 4, 1, &head);
    let floods = [
        ("PING", &b""[..], frame(6, 0, 0, &[7; 8])),
        ("SETTINGS", b"", SETTINGS.to_vec()),
        ("PRIORITY", b"", frame(2, 0, 1, &[0, 0, 0, 0, 9])),
        ("WINDOW_UPDATE", b"", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown", b"", frame(0x55, 0, 0, b"")),
        ("WINDOW_UPDATE of a stream", &open, frame(8, 0, 1, &[0, 0, 0, 1])),
        ("padding", &open, frame(0, 8, 1, &[1, 0])),
    ];
    for (number, (name, begin, frame)) in floods.iter().enumerate() {
        let told = flood(server.address, begin, frame).await;
        assert_eq!(metric(server.address, FLOODS), (number + 1) as f64, "{name}");
        let goaway = told.windows(9).any(|head| head[2..5] == *b"\x16\x07\0" || head[2..5] == *b"\x1f\x07\0");
        assert!(goaway, "{name}: {told:?}");
    }
    // The h2 crate's own limit.
    let told = flood(server.address, &open, &frame(0, 0, 1, b"")).await;
    assert!(!told.is_empty());
    assert_eq!(get(server.address, "/readyz").status, 200);
    server.stop();
}

#[test]
fn clients_that_read_no_answer_are_let_go_and_disturb_nobody() {
    const CLIENTS: usize = 200;
    let (_place, server) = serve(&["examples/models/housing"], "write_timeout = \"1s\"");
    let many = request("GET", "/docs/swagger-ui-bundle.js", &[], None).repeat(20);
    // More than the buffers of two sockets hold is asked for.
    let silent: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut connection = Connection::open(server.address).unwrap();
            connection.send(&many).unwrap();
            connection
        })
        .collect();
    let served = r#"weir_requests_total{method="GET",route="/docs/{file}",model="",version="",code="200"}"#;
    await_metric(server.address, served, |n| n >= CLIENTS as f64);
    assert_eq!(get(server.address, "/readyz").status, 200, "others are served meanwhile");
    await_metric(server.address, "process_open_fds", |n| n < CLIENTS as f64);
    drop(silent);
    server.stop();
}

#[tokio::test]
async fn an_unfinished_header_block_is_given_up_in_the_time_for_heads() {
    let (_place, server) = serve(&["examples/models/housing"], "header_timeout = \"1s\"");
    for rest in [Vec::new(), frame(1, 0, 1, &[0x82])] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let begin = if rest.is_empty() { PREFACE.to_vec() } else { [PREFACE, SETTINGS, &rest].concat() };
        stream.write_all(&begin).await.unwrap();
        // Without a deadline of ours, the h2 crate's ping would end it after half a minute.
        let patience = std::time::Duration::from_secs(20);
        let end = tokio::time::timeout(patience, stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{rest:?} is waited for");
    }
    server.stop();
}

#[test]
fn a_body_that_looks_like_a_head_fails_no_other_request() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let body = b"x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = Connection::open(server.address).unwrap();
    for _ in 0..3 {
        connection.send(&request("POST", "/v1/models/housing:predict", &[], Some(body))).unwrap();
        assert_eq!(connection.receive(false).unwrap().status, 422);
        connection.send(&request("GET", "/livez", &[], None)).unwrap();
        assert_eq!(connection.receive(false).unwrap().status, 200);
    }
    // And the head that is one is refused, not the request before it.
    let doubled =
        b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(&[&request("GET", "/livez", &[], None)[..], doubled].concat()).unwrap();
    let statuses = [connection.receive(false).unwrap().status, connection.receive(false).unwrap().status];
    assert_eq!(statuses, [200, 400]);
    server.stop();
}

#[test]
fn a_burst_beyond_the_cap_is_told_so() {
    const BURST: usize = 200;
    let (_place, server) = serve(&["examples/models/housing"], "max_connections = 1");
    let mut kept = Connection::open(server.address).unwrap();
    kept.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(kept.receive(false).unwrap().status, 200);
    let bytes = request("POST", "/v1/models/housing:predict", &[], Some(&[b' '; 20_000]));
    let mut refused: Vec<_> = (0..BURST)
        .map(|_| {
            let mut connection = Connection::open(server.address).unwrap();
            // What is never read makes the system reset the connection when it is closed.
            let _ = connection.send(&bytes);
            connection
        })
        .collect();
    for connection in &mut refused {
        assert_eq!(connection.receive(false).unwrap().status, 503);
    }
    server.stop();
}
