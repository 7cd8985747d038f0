//! Reloads that fetch.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Files, archive, await_ready, configured, get, package, sha256};
use crate::server::PATIENCE;

#[test]
fn a_reload_brings_several_archives_at_once() {
    let place = TempDir::new().unwrap();
    let first = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let url = |name: &str| format!("http://{}/{name}", http.address);
    let list = archive(&url("made.tar.gz"), sha256(&first));
    let mut server = configured(place.path(), &list);
    await_ready(server.address, |status, _| status == 200);
    let mut text = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    for name in ["north", "south"] {
        let named = toml.replace("name = \"housing\"", &format!("name = \"{name}\""));
        fs::write(place.path().join("housing/model.toml"), named).unwrap();
        let file = format!("{name}.tar.gz");
        text += &archive(&url(&file), sha256(&package(place.path(), &file, &[])));
    }
    fs::write(place.path().join("weir.toml"), text).unwrap();
    server.signal(Signal::HUP);
    // The first line of a change is that of the start.
    let came = Regex::new("fetched.*(north|south)").unwrap();
    for line in [&came, &came, &Regex::new("models changed").unwrap()] {
        server.await_line(line);
    }
    for name in ["housing", "north", "south"] {
        assert_eq!(get(server.address, &format!("/v2/models/{name}/ready")).0, 200, "{name}");
    }
    server.stop();
}

#[test]
fn a_reload_that_waits_for_a_silent_server_ends() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let mut server = configured(place.path(), &format!("reload_timeout = \"1s\"\n{list}"));
    await_ready(server.address, |status, _| status == 200);
    // It accepts, by its backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let url = format!("http://{}/silent.tar", silent.local_addr().unwrap());
    fs::write(place.path().join("weir.toml"), before.clone() + &archive(&url, &"b".repeat(64))).unwrap();
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("reload failed.*fetch.reload_timeout.*silent.tar").unwrap());
    fs::write(place.path().join("weir.toml"), before).unwrap();
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("models changed|configuration changed|nothing changed|reloaded").unwrap());
    server.stop();
}

/// A server that sends a part of an answer and never the rest. It tells when it was asked, and when that client
/// went away.
fn endless() -> (SocketAddr, Receiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), channel());
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let lines = BufReader::new(stream.try_clone().unwrap());
        lines.lines().map_while(Result::ok).find(String::is_empty);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\na part").unwrap();
        tell.send("asked").unwrap();
        while stream.read(&mut [0]).is_ok_and(|read| read == 1) {}
        let _ = tell.send("left");
    });
    (address, told)
}

#[test]
fn a_corrected_address_does_not_wait_for_the_wrong_one() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let mut server = configured(place.path(), &list);
    await_ready(server.address, |status, _| status == 200);
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    fs::write(place.path().join("housing/model.toml"), toml.replace("\"housing\"", "\"north\"")).unwrap();
    let north = package(place.path(), "north.tar.gz", &[]);
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let (stuck, told) = endless();
    for address in [stuck, http.address] {
        let more = archive(&format!("http://{address}/north.tar.gz"), sha256(&north));
        fs::write(place.path().join("weir.toml"), before.clone() + &more).unwrap();
        server.signal(Signal::HUP);
        if address == stuck {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
        }
    }
    // Each on a thread of its own: the log has them in any order.
    assert_eq!(told.recv_timeout(PATIENCE), Ok("left"));
    let ready = "/v2/models/north/ready";
    let deadline = Instant::now() + PATIENCE;
    while get(server.address, ready).0 != 200 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(server.log().contains("reload failed: replaced by a newer one"), "{}", server.log());
    assert_eq!(get(server.address, "/readyz").1["reload"], Value::Null);
    server.stop();
    let mut left = place.path().join("cache").read_dir().unwrap().map(|e| e.unwrap().file_name());
    assert!(left.all(|name| name.to_string_lossy().starts_with("sha256-")));
}
