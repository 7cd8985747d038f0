//! `weir load` against the real server, over every face. No figure is asserted: how fast a test
//! machine is, is nobody's promise.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{Server, require_sentiment, root, weir};

/// The demo: both models, or housing alone, which starts at once.
fn demo(config: &str) -> (Server, String) {
    if config == "weir.toml" {
        require_sentiment();
    }
    let server = Server::start(&root().join("examples"), &["--config".to_owned(), config.to_owned()]);
    let url = format!("http://{}", server.address);
    (server, url)
}

/// Exit status, standard output, standard error.
fn load(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = weir(Path::new("."));
    let done = command.arg("load").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

/// A short load that must end well; what was measured.
fn measured(url: &str, arguments: &[&str]) -> Value {
    // A busy machine may be slow, but it answers.
    let short = ["--warmup", "0s", "--duration", "1s", "--timeout", "120s", "--json"];
    let (code, out, told) = load(&[&[url], arguments, &short[..]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out} {told}");
    serde_json::from_str::<Value>(&out).unwrap()["measured"].take()
}

fn assert_all_right(measured: &Value, arguments: &[&str]) {
    let ok = measured["outcomes"]["ok"].as_u64().unwrap();
    assert!(ok > 0 && Some(ok) == measured["requests"].as_u64(), "{arguments:?}: {measured}");
}

#[test]
fn bodies_made_from_the_signature_are_valid_on_every_face() {
    let (server, url) = demo("weir.toml");
    for face in ["typed", "v2", "v2-binary", "grpc"] {
        for model in ["housing", "sentiment"] {
            let arguments = [model, "--face", face, "--rate", "20", "--rows", "1,3", "--deadline", "100s"];
            assert_all_right(&measured(&url, &arguments), &arguments);
            // Asked alone first: what comes under load must be the same.
            let arguments =
                [model, "--face", face, "--rate", "20", "--bodies", "12", "--check", "--rows", "2"];
            assert_all_right(&measured(&url, &arguments), &arguments);
        }
    }
    server.stop();
}

#[test]
fn new_bodies_are_valid_too() {
    let (server, url) = demo("housing.toml");
    let arguments = ["housing", "--threads", "2", "--repeat", "0.5", "--poisson", "--rate", "50"];
    assert_all_right(&measured(&url, &arguments), &arguments);
    server.stop();
}

#[test]
fn samples_are_sent_and_their_predictions_required() {
    let (server, url) = demo("weir.toml");
    let samples = |model: &str| root().join(format!("examples/models/{model}/samples.jsonl"));
    let housing = samples("housing").to_string_lossy().into_owned();
    for face in ["typed", "v2", "grpc"] {
        let arguments = ["housing", "--samples", &housing, "--face", face, "--rows", "1,32", "--rate", "30"];
        assert_all_right(&measured(&url, &arguments), &arguments);
    }
    let sentiment = samples("sentiment").to_string_lossy().into_owned();
    let arguments = ["sentiment", "--samples", &sentiment, "--rate", "5", "--bodies", "20"];
    assert_all_right(&measured(&url, &arguments), &arguments);
    // The same rows with a prediction that is not theirs.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.jsonl");
    let line = fs::read_to_string(&housing).unwrap().lines().next().unwrap().to_owned();
    let mut sample: Value = serde_json::from_str(&line).unwrap();
    sample["prediction"] = 0.5.into();
    fs::write(&wrong, sample.to_string()).unwrap();
    let (code, _, told) = load(&[&url, "housing", "--samples", &wrong.to_string_lossy()]);
    assert_eq!(code, Some(1));
    assert!(told.contains("wrong answer") && told.contains("another number"), "{told}");
    server.stop();
}

#[test]
fn any_path_can_be_asked() {
    let (server, url) = demo("weir.toml");
    for path in ["/lab/predict", "/lab/bulk-predict", "/project/predict", "/constant", "/livez"] {
        let arguments = ["--path", path, "--connections", "2", "--check", "--bodies", "5"];
        let found = measured(&url, &arguments);
        assert_all_right(&found, &arguments);
        assert_eq!(found["shape"]["loop"], "closed");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_string_lossy().into_owned()
    };
    let bodies = file("bodies.jsonl", "{\"text\":[\"I love you!\"]}\n{\"text\":[]}\n");
    let right =
        file("right.jsonl", "{\"predictions\":[[{\"label\":\"NEGATIVE\"},{}]]}\n{\"predictions\":[]}\n");
    let arguments = ["--path", "/project/predict", "--body", &bodies, "--expect", &right, "--rate", "10"];
    assert_all_right(&measured(&url, &arguments), &arguments);
    server.stop();
}

#[test]
fn thresholds_decide_the_exit_status_and_reports_tell_no_header() {
    let (server, url) = demo("housing.toml");
    let base = [&url, "housing", "--rate", "20", "--duration", "1s", "--warmup", "0s"];
    let with = |threshold: &str| load(&[&base[..], &["--fail-if", threshold]].concat());
    assert_eq!(with("p99>1000s").0, Some(0));
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let secret = ["--header", "Authorization: Bearer canary", "--json", "--report", page.to_str().unwrap()];
    let (code, document, told) = load(&[&base[..], &secret].concat());
    assert_eq!(code, Some(0), "{told}");
    let page = fs::read_to_string(page).unwrap();
    for text in [&document, &page, &told] {
        assert!(!text.contains("canary"), "a report goes to others: {text}");
    }
    assert!(document.contains("--header 'Authorization: ***'") && page.contains("Authorization: ***"));
    let (code, _, told) = load(&[&base[..], &["--header", "canary"]].concat());
    assert!(code == Some(1) && told.contains("'Name: value'") && !told.contains("canary"), "{told}");
    let (code, _, told) = with("p50>0ms,errors>50%");
    assert_eq!(code, Some(1));
    assert!(told.contains("p50>0ms: it is ") && !told.contains("errors"), "{told}");
    server.stop();
}

#[test]
fn a_rate_that_no_server_keeps_is_searched_for_in_vain() {
    let (server, url) = demo("housing.toml");
    let slo = ["--find-max", "--slo", "p50=1us", "--start", "1000", "--step", "100ms", "--warmup", "0s"];
    let (code, out, told) = load(&[&[&url[..], "housing"], &slo[..]].concat());
    assert_eq!(code, Some(1), "{told}");
    // 1000 and seven times half of it; a generator that has no time says so instead of "missed".
    let steps = out.lines().filter(|l| l.ends_with("missed") || l.ends_with("too slow"));
    assert_eq!(steps.count(), 8, "{out}");
    assert!(out.contains("p50=0.001ms"), "{out}");
    server.stop();
}

#[test]
fn an_interrupted_load_tells_what_it_measured() {
    let (server, url) = demo("housing.toml");
    let mut command = weir(Path::new("."));
    command.args(["load", &url, "housing", "--rate", "50", "--warmup", "0s", "--duration", "24h", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It says what it sends right before it begins.
    let mut line = String::new();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    told.read_line(&mut line).unwrap();
    assert!(line.starts_with("POST "), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0));
    let measured = serde_json::from_slice::<Value>(&done.stdout).unwrap()["measured"].take();
    assert!(measured["seconds"].as_f64().unwrap() < 86_400.0, "{measured}");
    server.stop();
}

#[test]
fn a_report_is_one_page() {
    let (server, url) = demo("housing.toml");
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("out.html");
    let path = page.to_string_lossy().into_owned();
    measured(&url, &["housing", "--rate", "20", "--report", &path]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        text.starts_with("<!DOCTYPE html>") && text.contains("weir load http://") && text.contains("<svg")
    );
    server.stop();
}

#[test]
fn every_mistake_is_told_at_once() {
    let (code, _, told) = load(&[
        "https://h",
        "--rate",
        "x",
        "--rows",
        "0",
        "--duration",
        "3",
        "--fail-if",
        "p99",
        "--threads",
        "9",
    ]);
    assert_eq!(code, Some(1));
    for part in ["TLS", "--rate", "--rows", "--duration", "--fail-if", "--threads", "name a model"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_is_not_there_is_told() {
    let (server, url) = demo("housing.toml");
    let (code, _, told) = load(&[&url, "nobody"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("no model `nobody`; it has housing"), "{told}");
    let (code, _, told) = load(&[&url, "nobody", "--face", "grpc"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("no model `nobody`"), "{told}");
    // A port that was free a moment ago and on which nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, told) = load(&[&format!("http://{free}"), "housing"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("cannot be reached"), "{told}");
    let (code, _, told) = load(&[&url, "--path", "/nowhere"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("status 404"), "{told}");
    server.stop();
}
