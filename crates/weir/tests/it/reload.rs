//! Models change under load: not one request fails, and each answer is that of the version
//! which it names. What a reload says of itself.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use regex::Regex;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    client::{Connection, request},
    configuration::{file, serve},
    server::{Server, root},
};

const RELOADS: usize = 200;
const CLIENTS: usize = 3;

/// Writes a version whose `prediction` is the probability of `label`.
fn write_version(models: &Path, version: &str, label: &str) {
    let folder = models.join("housing").join(version);
    fs::create_dir_all(&folder).unwrap();
    let example = root().join("examples/models/housing");
    let manifest = fs::read_to_string(example.join("model.toml")).unwrap();
    let manifest = manifest.replace("probability:high", label).replace("samples = \"samples.jsonl\"", "");
    fs::write(folder.join("model.toml"), manifest).unwrap();
    fs::copy(example.join("model.onnx"), folder.join("model.onnx")).unwrap();
}

/// A row, and what versions 1 and 2 answer to it.
fn question() -> (Vec<u8>, [f64; 2]) {
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let sample: serde_json::Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let high = sample["prediction"].as_f64().unwrap();
    (sample["input"].to_string().into_bytes(), [high, 1.0 - high])
}

/// Asks until `done`, checking every answer; returns how many there were.
fn ask_until(done: &AtomicBool, address: std::net::SocketAddr, seen: &[AtomicUsize; 2]) {
    let (row, expected) = question();
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    let bytes = request("POST", "/v1/models/housing:predict", &headers, Some(&row));
    let mut connection = Connection::open(address).unwrap();
    while !done.load(Ordering::Relaxed) {
        connection.send(&bytes).unwrap();
        let response = connection.receive(false).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let version = response.header("x-weir-model").next().unwrap() == "housing/2";
        let answer = response.json()["predictions"][0]["prediction"].as_f64().unwrap();
        let wanted = expected[usize::from(version)];
        assert!((answer - wanted).abs() < 1e-6, "version 2: {version}, answered {answer}, not {wanted}");
        seen[usize::from(version)].fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn two_hundred_reloads_lose_nothing() {
    let models = TempDir::new().unwrap();
    write_version(models.path(), "1", "probability:high");
    let mut server = Server::start(models.path(), &[".".into()]);
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (done, seen, address) = (done.clone(), seen.clone(), server.address);
            thread::spawn(move || ask_until(&done, address, &seen))
        })
        .collect();
    let changed = Regex::new("models changed").unwrap();
    for reload in 0..RELOADS {
        match reload % 2 {
            0 => write_version(models.path(), "2", "probability:low"),
            _ => fs::remove_dir_all(models.path().join("housing/2")).unwrap(),
        }
        server.signal(Signal::HUP);
        server.await_line(&changed);
    }
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let [first, second] = [&seen[0], &seen[1]].map(|n| n.load(Ordering::Relaxed));
    println!("{RELOADS} reloads under load: {first} answers of version 1, {second} of version 2, none lost");
    assert!(first > RELOADS && second > RELOADS, "both versions answered: {first}, {second}");
    server.stop();
}

#[test]
fn what_a_reload_found_is_logged_once_and_what_it_changed_under_any_level() {
    let folder = TempDir::new().unwrap();
    let write = |text: String| fs::write(folder.path().join("weir.toml"), text).unwrap();
    write(file("", "a"));
    let mut server = serve(folder.path(), &[]);
    write(file("", "a").replace("model = \"housing\"", "model = \"huosing\""));
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("reload failed").unwrap());
    let changed = Regex::new("configuration changed.*log.level").unwrap();
    for level in ["warn", "info"] {
        write(file("", "a") + &format!("[log]\nlevel = \"{level}\"\n"));
        server.signal(Signal::HUP);
        server.await_line(&changed);
    }
    let log = server.log();
    let told = log.lines().filter(|line| line.contains("there is no model `huosing`"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(log.contains("weir.toml:") && log.contains("[[route]] 1"), "{log}");
    server.stop();
}
