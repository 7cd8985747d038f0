//! The accept loop's bounds.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    client::{Connection, ask, get, request},
    drain::serve,
    metrics::{await_metric, metric},
    server::{require_sentiment, root, weir},
};

#[test]
fn one_connection_too_many_is_refused_and_room_comes_back() {
    let (_place, server) = serve(&["examples/models/housing"], "max_connections = 2");
    let ask = |connection: &mut Connection| {
        connection.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        connection.receive(false).unwrap().status
    };
    let mut kept: Vec<_> = (0..2).map(|_| Connection::open(server.address).unwrap()).collect();
    assert!(kept.iter_mut().all(|connection| ask(connection) == 200));
    let mut third = Connection::open(server.address).unwrap();
    let refusal = third.receive(false).unwrap();
    assert_eq!(refusal.status, 503);
    assert_eq!(refusal.header("retry-after").count(), 1);
    assert_eq!(refusal.header("connection").collect::<Vec<_>>(), ["close"]);
    assert_eq!(third.drain().unwrap_or_default(), b"");
    assert!(kept.iter_mut().all(|connection| ask(connection) == 200), "the others are not disturbed");
    kept.pop();
    // The server sees that a client left a moment later.
    while get(server.address, "/livez").status != 200 {}
    drop(kept);
    server.stop();
}

#[test]
fn many_idle_connections_do_no_harm() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let idle: Vec<_> = (0..500).map(|_| Connection::open(server.address).unwrap()).collect();
    assert_eq!(get(server.address, "/readyz").status, 200);
    drop(idle);
    server.stop();
}

#[test]
fn a_busy_port_gets_a_sentence_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let model = root().join("examples/models/housing");
    let output = weir(Path::new(".")).arg("serve").arg(model).args(["--listen", &address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("{address} is in use")) && text.contains("--listen"), "{text}");
}

#[test]
fn metrics_can_have_an_address_of_their_own() {
    // Asked of the system and given back: nothing else in this test binds a fixed port.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_place, server) = serve(&["examples/models/housing"], &format!("metrics_listen = \"{free}\""));
    assert!(get(free, "/metrics").text().contains("weir_ready 1\n"));
    assert_eq!(get(free, "/readyz").status, 404);
    assert_eq!(get(server.address, "/metrics").status, 404, "not on the public listener then");
    server.stop();
}

#[test]
fn a_full_queue_is_refused_at_once() {
    require_sentiment();
    let (_place, server) =
        serve(&[".cache/sentiment"], "threads = 1\nmax_queue = 3\nrequest_timeout = \"10m\"");
    let refused = r#"weir_refused_total{model="sentiment",version="1"}"#;
    let row =
        r#"{"text":"a sentence of some length that keeps the only thread of the model busy for a while"}"#;
    let many = format!("{{\"instances\":[{}]}}", vec![row; 200].join(","));
    let send = |body: &str| {
        let mut connection = Connection::open(server.address).unwrap();
        connection
            .send(&request("POST", "/v1/models/sentiment:predict", &[], Some(body.as_bytes())))
            .unwrap();
        connection
    };
    let mut busy = send(&many);
    let executions = r#"weir_executions_total{model="sentiment",version="1"}"#;
    await_metric(server.address, executions, |n| n >= 1.0);
    let mut others: Vec<_> = (0..10).map(|_| send(row)).collect();
    // What is left of the first is one of the three that may wait.
    await_metric(server.address, refused, |n| n >= 8.0);
    assert_eq!(metric(server.address, refused), 8.0, "three wait");
    assert_eq!(busy.receive(false).unwrap().status, 200);
    let answers: Vec<_> = others.iter_mut().map(|other| other.receive(false).unwrap()).collect();
    let full: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert_eq!(full.len(), 8);
    assert!(full.iter().all(|answer| answer.header("retry-after").count() == 1));
    assert!(full.iter().all(|answer| answer.json()["code"] == "overloaded"), "{}", full[0].text());
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2);
    server.stop();
}

#[test]
fn bodies_are_held_up_to_a_limit_over_all_connections() {
    let (_place, server) =
        serve(&["examples/models/housing"], "max_body = \"1KiB\"\nmax_body_in_flight = \"1KiB\"");
    let path = "/v1/models/housing:predict";
    let mut held = Connection::open(server.address).unwrap();
    let bytes =
        request("POST", path, &[], Some(format!("{{\"instances\":[]{}}}", " ".repeat(900)).as_bytes()));
    held.send(&bytes[..bytes.len() - 1]).unwrap();
    await_metric(server.address, "weir_held_body_bytes", |n| n >= 900.0);
    let long = format!("{{\"instances\":[]{}}}", " ".repeat(200));
    let refusal = ask(server.address, "POST", path, Some(long.as_bytes()));
    assert_eq!(refusal.status, 503, "{}", refusal.text());
    assert_eq!(refusal.header("retry-after").count(), 1);
    assert_eq!(
        ask(server.address, "POST", path, Some(br#"{"instances":[]}"#)).status,
        200,
        "a small one fits"
    );
    held.send(b"}").unwrap();
    assert_eq!(held.receive(false).unwrap().status, 200);
    await_metric(server.address, "weir_held_body_bytes", |n| n == 0.0);
    // As many bytes again declared, but only one sent: others have their room.
    held.send(&bytes[..bytes.len() - 910]).unwrap();
    await_metric(server.address, "weir_requests_in_flight", |n| n >= 2.0);
    assert_eq!(ask(server.address, "POST", path, Some(long.as_bytes())).status, 200, "room comes back");
    server.stop();
}

/// What closes a connection says so: a client that keeps connections would send its next
/// request into the closing one.
#[test]
fn an_answer_before_the_body_has_come_says_that_the_connection_closes() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let predict = "/v1/models/housing:predict";
    let cases = [
        ("POST", predict, "Content-Encoding: br\r\n", 415),
        ("POST", predict, "Request-Timeout: soon\r\n", 400),
        ("POST", "/nothing", "", 404),
        ("GET", predict, "", 405),
        ("GET", "/livez", "", 200),
    ];
    for (method, path, header, status) in cases {
        for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            let mut connection = Connection::open(server.address).unwrap();
            let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{header}{framing}\r\n\r\n");
            connection.send(head.as_bytes()).unwrap();
            let response = connection.receive(false).unwrap();
            assert_eq!(response.status, status, "{method} {path}");
            let closes: Vec<_> = response.header("connection").collect();
            assert_eq!(closes, ["close"], "{method} {path} {header} {framing}");
        }
    }
    // With the body read, or none, the connection goes on.
    let mut connection = Connection::open(server.address).unwrap();
    let body = "POST /v1/models/housing:predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for (request, status) in [(body, 422), ("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", 200), (body, 422)] {
        connection.send(request.as_bytes()).unwrap();
        let response = connection.receive(false).unwrap();
        assert_eq!((response.status, response.header("connection").count()), (status, 0));
    }
    server.stop();
}

#[test]
fn all_descriptors_that_the_system_allows_are_taken() {
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -Sn 64 && exec \"$0\" serve examples/models/housing --listen 127.0.0.1:0"])
        .arg(env!("CARGO_BIN_EXE_weir"))
        .current_dir(root())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening")));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let files: Vec<_> =
        limits.lines().find(|l| l.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "soft and hard");
    server.kill().unwrap();
    server.wait().unwrap();
}
