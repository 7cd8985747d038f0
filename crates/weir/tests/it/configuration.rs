//! Configuration as operators meet it: files over files, secrets, and what changes while it serves.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{Connection, Response, request},
    server::{Server, root, weir},
};

const ROUTE: &str =
    "[[route]]\npath = \"/PATH\"\nmodel = \"housing\"\nresponse = { prediction = \"prediction\" }\n";

/// `weir.toml` with the example's model, `server` keys and one route at `path`.
pub(crate) fn file(server: &str, path: &str) -> String {
    let models = root().join("examples/models/housing");
    format!("[server]\nmodels = [{models:?}]\n{server}\n{}", ROUTE.replace("PATH", path))
}

fn ask(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address).unwrap();
    connection.send(&request("GET", path, &[], None)).unwrap();
    connection.receive(false).unwrap()
}

fn predict(connection: &mut Connection, path: &str, row: &[u8]) -> Response {
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    connection.send(&request("POST", path, &headers, Some(row))).unwrap();
    connection.receive(false).unwrap()
}

fn row() -> Vec<u8> {
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let sample: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    sample["input"].to_string().into_bytes()
}

/// What a metric without labels says.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = ask(address, "/metrics").text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

fn serve(folder: &Path, more: &[&str]) -> Server {
    let arguments: Vec<String> =
        ["--config", "weir.toml"].iter().chain(more).map(|argument| (*argument).to_owned()).collect();
    Server::start(folder, &arguments)
}

pub(crate) fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
    let Output { status, stdout, stderr } =
        weir(folder).args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

#[test]
fn every_value_says_where_it_is_from() {
    let folder = root().join("examples/environments");
    let variables = [("WEIR_CONFIG", "weir.toml:prod.toml"), ("WEIR_SERVER__LISTEN", "127.0.0.1:1")];
    let (ok, out, told) = run(&folder, &["--json", "config", "show", "--origin"], &variables);
    assert!(ok, "{told}");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let of = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}: {out}"));
    let listen = of("server.listen");
    assert_eq!(listen["origin"]["name"], "WEIR_SERVER__LISTEN");
    assert_eq!((&listen["over"][0]["file"], &listen["over"][0]["line"]), (&"prod.toml".into(), &5.into()));
    assert_eq!(of("server.request_timeout")["origin"]["file"], "weir.toml");
    assert_eq!(of("server.max_queue")["origin"]["kind"], "default");
    assert_eq!(of("server.trace_file")["value"], Value::Null, "what has no value is there too");
    let (ok, out, _) = run(&folder, &["config", "show", "--origin"], &variables);
    assert!(ok && out.contains("environment variable WEIR_SERVER__LISTEN") && out.contains("prod.toml:5:10"));
}

#[test]
fn a_secret_is_a_file_and_is_shown_nowhere() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("password"), "canary-secret\n").unwrap();
    let models = root().join("examples/models/housing");
    let head = format!("[server]\nmodels = [{models:?}]\n[redis]\nurl = \"redis://127.0.0.1:1\"\n");
    let write = |more: &str| fs::write(folder.path().join("weir.toml"), format!("{head}{more}")).unwrap();
    write("");
    let variables = [("WEIR_REDIS__PASSWORD_FILE", "password"), ("WEIR_REDIS__USERNAME", "weir")];
    for command in [&["config", "show", "--origin"][..], &["config", "show"], &["config", "check"]] {
        let arguments: Vec<&str> = command.iter().chain(&["--config", "weir.toml"]).copied().collect();
        let (ok, out, told) = run(folder.path(), &arguments, &variables);
        assert!(ok && !out.contains("canary") && !told.contains("canary"), "{command:?}: {out}{told}");
    }
    // Addresses hold some too, by mistake or because they have to.
    let presigned = format!(
        "[[archive]]\nurl = \"https://a/b.tar?X-Amz-Signature=canary\"\nsha256 = \"{}\"\n",
        "a".repeat(64)
    );
    write(&presigned);
    let url = [("WEIR_REDIS__URL", "redis://weir:canary-secret@127.0.0.1:1")];
    for command in [&["config", "show"][..], &["config", "show", "--origin"], &["--json", "config", "show"]] {
        let arguments: Vec<&str> = command.iter().chain(&["--config", "weir.toml"]).copied().collect();
        let (ok, out, told) = run(folder.path(), &arguments, &url);
        assert!(ok && out.contains("redis://***@127.0.0.1:1") && out.contains("b.tar?***"), "{out}{told}");
        assert!(!out.contains("canary") && !told.contains("canary"), "{command:?}: {out}{told}");
    }
    // Where a secret is written by mistake, nothing that is told repeats it.
    let mistakes: [(&str, &[(&str, &str)]); 3] = [
        ("password = \"canary-secret\"\n", &[]),
        ("", &[("WEIR_REDIS__PASSWORD", "canary-secret")]),
        ("", &[("WEIR_REDIS__URL", "redis://weir:canary-secret@127.0.0.1:1")]),
    ];
    for (more, variables) in mistakes {
        write(more);
        let (ok, out, told) = run(folder.path(), &["config", "check", "--config", "weir.toml"], variables);
        assert!(!ok && told.contains("password_file"), "{told}");
        assert!(!out.contains("canary") && !told.contains("canary"), "{out}{told}");
    }
}

#[test]
fn what_is_live_changes_under_load_and_nothing_fails() {
    const RELOADS: usize = 60;
    let folder = TempDir::new().unwrap();
    let write = |text: String| fs::write(folder.path().join("weir.toml"), text).unwrap();
    write(file("max_connections = 50", "a"));
    let mut server = serve(folder.path(), &[]);
    let (address, done) = (server.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let done = done.clone();
            thread::spawn(move || {
                let (mut connection, row, mut answers) = (Connection::open(address).unwrap(), row(), 0_usize);
                while !done.load(Ordering::Relaxed) {
                    let response = predict(&mut connection, "/v1/models/housing:predict", &row);
                    assert_eq!(response.status, 200, "{}", response.text());
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let changed = Regex::new("models changed").unwrap();
    for reload in 0..RELOADS {
        let (path, keys) = match reload % 2 {
            0 => (
                "b",
                "max_connections = 40\nmax_body = \"1KiB\"\nrequest_timeout = \"9s\"\naccess_log = true",
            ),
            _ => ("a", "max_connections = 50"),
        };
        write(file(keys, path));
        server.signal(Signal::HUP);
        server.await_line(&changed);
        let here = |path: &str| predict(&mut Connection::open(address).unwrap(), path, &row()).status;
        assert_eq!((here(&format!("/{path}")), here(if path == "a" { "/b" } else { "/a" })), (200, 404));
        let long = vec![b' '; 4096];
        let status = predict(&mut Connection::open(address).unwrap(), &format!("/{path}"), &long).status;
        assert_eq!(status, if path == "b" { 413 } else { 422 }, "max_body is live");
    }
    done.store(true, Ordering::Relaxed);
    let answers: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{RELOADS} reloads of the configuration under load: {answers} answers, none failed");
    assert!(answers > RELOADS);
    assert!(server.log().contains("server.max_body"), "the log names what changed");
    assert!((metric(address, "weir_config_reloads_total") - RELOADS as f64).abs() < 0.5);
    assert_eq!(metric(address, "weir_config_reload_failures_total"), 0.0);
    assert_eq!(metric(address, "weir_config_last_reload_successful"), 1.0);
    server.stop();
}

#[test]
fn a_limit_of_connections_is_told_at_once_and_not_by_the_next_connection() {
    let folder = TempDir::new().unwrap();
    let write = |text: String| fs::write(folder.path().join("weir.toml"), text).unwrap();
    write(file("max_connections = 50", "a"));
    let mut server = serve(folder.path(), &[]);
    let mut kept = Connection::open(server.address).unwrap();
    let mut limit = || {
        kept.send(&request("GET", "/metrics", &[], None)).unwrap();
        let text = kept.receive(false).unwrap().text();
        let line = text.lines().find(|line| line.starts_with("weir_connections_limit{listener=\"public\"}"));
        line.unwrap_or_else(|| panic!("{text}")).rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(limit(), "50");
    write(file("max_connections = 40", "a"));
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("configuration changed").unwrap());
    assert_eq!(limit(), "40");
    server.stop();
}

#[test]
fn a_broken_file_and_one_that_needs_a_restart_change_nothing() {
    let folder = TempDir::new().unwrap();
    let write = |text: String| fs::write(folder.path().join("weir.toml"), text).unwrap();
    write(file("", "a"));
    let mut server = serve(folder.path(), &[]);
    let address = server.address;
    let failed = Regex::new("reload failed").unwrap();
    let mistakes = [
        (file("max_bdoy = \"1KiB\"", "b"), "weir.toml:3:1: unknown key `max_bdoy`"),
        (
            file("threads = 7\nmax_body = \"1KiB\"", "b"),
            "weir.toml:3:11: `server.threads` changed and needs a restart",
        ),
        (file("", "b").replace("\"housing\"", "\"nobody\""), "nobody"),
        ("[server]\nmodels = []\n".to_owned(), "names no model"),
        (file("", "b") + "[telemetry]\nendpoint = \"http://127.0.0.1:9/?api-key=canary\"\n", "telemetry"),
        (file("max_body = \"canary\"", "b"), "max_body"),
        ("[server\n".to_owned(), "weir.toml:1:"),
    ];
    for (index, (text, reason)) in mistakes.iter().enumerate() {
        write(text.clone());
        server.signal(Signal::HUP);
        let line = server.await_line(&failed);
        assert!(line.contains(reason), "{line} should say {reason}");
        let ready = ask(address, "/readyz");
        assert_eq!(ready.status, 200, "what served before serves on");
        let told = ready.json()["reload"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(!told.is_empty() && !told.contains('/') && !told.contains("canary"), "{told}");
        let mut connection = Connection::open(address).unwrap();
        assert_eq!(predict(&mut connection, "/a", &row()).status, 200);
        assert_eq!(predict(&mut connection, "/b", &row()).status, 404);
        assert_eq!(metric(address, "weir_config_reload_failures_total"), (index + 1) as f64);
        assert_eq!(metric(address, "weir_config_last_reload_successful"), 0.0);
    }
    let before = metric(address, "weir_config_last_reload_success_timestamp_seconds");
    write(file("", "b"));
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("models changed").unwrap());
    assert!(ask(address, "/readyz").json().get("reload").is_none());
    assert_eq!(metric(address, "weir_config_last_reload_successful"), 1.0);
    assert!(metric(address, "weir_config_last_reload_success_timestamp_seconds") > before);
    server.stop();
}

#[test]
fn a_config_map_that_changes_is_noticed() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, path) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("weir.toml"), file("", path)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/weir.toml", at("weir.toml")).unwrap();
    let mut server = serve(folder.path(), &["--watch"]);
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let line = server.await_line(&Regex::new("configuration changed").unwrap());
    assert!(line.contains("route"), "{line}");
    let mut connection = Connection::open(server.address).unwrap();
    assert_eq!(predict(&mut connection, "/b", &row()).status, 200);
    server.stop();
}

#[test]
fn models_come_and_go_with_the_list() {
    let folder = TempDir::new().unwrap();
    let models = root().join("examples/models/housing");
    let write = |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        fs::write(folder.path().join("weir.toml"), format!("[server]\nmodels = {paths:?}\n")).unwrap();
    };
    for name in ["one", "two"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::copy(models.join("model.onnx"), folder.path().join(name).join("model.onnx")).unwrap();
    }
    write(&["one"]);
    let mut server = serve(folder.path(), &[]);
    let served = |server: &Server| -> Vec<String> {
        let models = ask(server.address, "/v1/models").json()["models"].as_array().unwrap().clone();
        models.iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(served(&server), ["one"]);
    let changed = Regex::new("models changed").unwrap();
    for names in [&["one", "two"][..], &["two"]] {
        write(names);
        server.signal(Signal::HUP);
        server.await_line(&changed);
        assert_eq!(served(&server), names);
    }
    server.stop();
}

#[test]
fn a_reload_that_would_lose_a_model_is_refused() {
    let folder = TempDir::new().unwrap();
    let example = root().join("examples/models/housing");
    let samples = fs::read_to_string(example.join("samples.jsonl")).unwrap();
    let wrong = Regex::new(r#""prediction": [0-9.]+"#).unwrap().replace(&samples, r#""prediction": 1e9"#);
    for (place, version, samples) in [("old", "1", samples.as_str()), ("new", "2", &wrong)] {
        let version = folder.path().join(place).join("housing").join(version);
        fs::create_dir_all(&version).unwrap();
        for name in ["model.toml", "model.onnx"] {
            fs::copy(example.join(name), version.join(name)).unwrap();
        }
        fs::write(version.join("samples.jsonl"), samples).unwrap();
    }
    let write = |place: &str| {
        fs::write(folder.path().join("weir.toml"), format!("[server]\nmodels = [{place:?}]\n")).unwrap();
    };
    write("old");
    let mut server = serve(folder.path(), &[]);
    write("new");
    server.signal(Signal::HUP);
    let line = server.await_line(&Regex::new("reload failed").unwrap());
    assert!(line.contains("model housing/2"), "{line}");
    let ready = ask(server.address, "/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.json()["reload"].as_str().unwrap().contains("nothing changed"), "{}", ready.text());
    assert_eq!(metric(server.address, "weir_config_last_reload_successful"), 0.0);
    let mut connection = Connection::open(server.address).unwrap();
    let response = predict(&mut connection, "/v1/models/housing:predict", &row());
    assert_eq!((response.status, response.header("x-weir-model").next()), (200, Some("housing/1")));
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

/// A client's order for a model tells nothing of the configuration.
#[test]
fn why_a_reload_failed_is_told_until_one_succeeds() {
    let folder = TempDir::new().unwrap();
    let write = |text: String| fs::write(folder.path().join("weir.toml"), text).unwrap();
    let keys = "model_control = \"explicit\"";
    write(file(keys, "a"));
    let mut server = serve(folder.path(), &[]);
    write(file(&format!("{keys}\nthreads = 7"), "a"));
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("reload failed").unwrap());
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&request("POST", "/v2/repository/models/housing/load", &[], Some(b"{}"))).unwrap();
    let loaded = connection.receive(false).unwrap();
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let told = ask(server.address, "/readyz").json()["reload"].as_str().map(str::to_owned);
    assert!(told.is_some_and(|told| told.contains("needs a restart")));
    write(file(keys, "a"));
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("models changed").unwrap());
    server.stop();
}

/// An archive's name is none of a model: what serves under it says nothing of the archive.
#[test]
fn an_archive_that_is_named_as_a_model_is_still_missed() {
    let folder = TempDir::new().unwrap();
    let archive = format!(
        "[fetch]\ncache = \"cache\"\nretries = 0\n[[archive]]\nurl = \"http://127.0.0.1:1/housing.tar.gz\"\nsha256 = \"{}\"\n",
        "a".repeat(64)
    );
    let text = file("model_control = \"explicit\"", "a") + &archive;
    fs::write(folder.path().join("weir.toml"), text).unwrap();
    let server = serve(folder.path(), &[]);
    let mut connection = Connection::open(server.address).unwrap();
    assert_eq!(predict(&mut connection, "/a", &row()).status, 200);
    for order in ["load", "unload", "load"] {
        let path = format!("/v2/repository/models/housing/{order}");
        connection.send(&request("POST", &path, &[], Some(b"{}"))).unwrap();
        // The route needs it, so it is not unloaded; whatever comes of an order, the archive is missing.
        connection.receive(false).unwrap();
        let ready = ask(server.address, "/readyz");
        assert_eq!((ready.status, &ready.json()["failures"][0]["model"]), (503, &"housing".into()));
    }
    assert_eq!(metric(server.address, "weir_ready"), 0.0);
    server.stop();
}
