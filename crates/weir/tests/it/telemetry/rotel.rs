//! A receiver that others wrote: rotel takes what the binary sends and passes on what it understood.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    configured, housing, is_server, parts, predict,
    receiver::{Manner, Receiver, text},
    start,
};
use crate::server::{PATIENCE, root};

struct Rotel(Child);

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two addresses that are free.
fn free() -> [SocketAddr; 2] {
    let both = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    both.map(|listener| listener.local_addr().unwrap())
}

fn agent() -> PathBuf {
    let lib = root().join(".cache/venvs/otlp/lib");
    let pythons = std::fs::read_dir(&lib);
    let pythons = pythons.unwrap_or_else(|_| panic!("{} is not there: run `make venvs`", lib.display()));
    let python = pythons.map(|entry| entry.unwrap().path()).next().unwrap();
    python.join("site-packages/rotel/rotel-agent")
}

/// rotel, listening at `[HTTP, gRPC]` and passing on to `to`.
fn run(listen: [SocketAddr; 2], to: SocketAddr) -> Rotel {
    let [http, grpc] = listen.map(|address| address.to_string());
    let child = Command::new(agent())
        .args(["start", "--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        .args(["--otlp-exporter-endpoint", &format!("http://{to}"), "--batch-timeout", "50ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    // Nothing tells that it listens: it is asked until it does.
    while listen.iter().any(|address| TcpStream::connect(address).is_err()) {
        assert!(Instant::now() < deadline, "rotel does not listen");
        thread::park_timeout(Duration::from_millis(20));
    }
    Rotel(child)
}

#[test]
fn rotel_understands_what_it_is_sent() {
    for (protocol, at) in [("http", 0), ("grpc", 1)] {
        let receiver = Receiver::start(false, Manner::Takes);
        let listen = free();
        let _rotel = run(listen, receiver.address);
        let place = configured(&housing(), listen[at], protocol, "service_name = \"houses\"");
        let server = start(place.path());
        for _ in 0..3 {
            assert_eq!(predict(&server, &[]).status, 200);
        }
        let spans = receiver.spans(3, is_server);
        server.stop();
        let roots: Vec<_> = spans.iter().filter(|span| is_server(span)).collect();
        assert_eq!(roots.len(), 3);
        for root in roots {
            assert_eq!(text(&root.attributes, "weir.model.name").as_deref(), Some("housing"));
            assert_eq!(parts(&spans, root).len(), 4, "over {protocol}");
        }
        assert_eq!(receiver.resource("service.name").as_deref(), Some("houses"));
    }
}
