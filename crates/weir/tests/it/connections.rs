//! The accept loop's bounds.

use std::{net::TcpListener, path::Path};

use crate::{
    client::{Connection, get},
    drain::serve,
    server::{root, weir},
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
    assert!(get(free, "/metrics").text().ends_with("# EOF\n"));
    assert_eq!(get(free, "/readyz").status, 404);
    assert_eq!(get(server.address, "/metrics").status, 404, "not on the public listener then");
    server.stop();
}
