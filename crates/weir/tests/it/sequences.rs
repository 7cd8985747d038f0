//! Models that keep state, on the real server: through every face, after a reload, and a
//! recurrent model that people use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;
use rustix::process::Signal;
use tempfile::TempDir;
use weir_testbed::RedisServer;

use crate::{
    client::{Connection, Response, request},
    scenario::copy_tree,
    server::{Server, root, weir},
    v2clients::{onnxruntime, run_against},
};

/// The models of `tests/sequences`.
fn lay_out() -> TempDir {
    let place = TempDir::new().unwrap();
    copy_tree(&root().join("tests/sequences/models"), &place.path().join("models"));
    place
}

fn start(place: &Path) -> Server {
    Server::start(place, &["models".into()])
}

/// One request on a connection of its own.
fn ask(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let headers: Vec<_> = [("Content-Type", "application/json")]
        .iter()
        .chain(headers)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut connection = Connection::open(server.address).unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    connection.send(&request(method, path, &headers, (!body.is_empty()).then_some(body.as_bytes()))).unwrap();
    connection.receive(false).unwrap()
}

/// A step of `running`, whose answer is twice the sum.
fn step(server: &Server, id: &str, flags: &[(&str, &str)], row: [f32; 2]) -> Response {
    let headers: Vec<_> = [("Sequence-Id", id)].into_iter().chain(flags.iter().copied()).collect();
    let body = format!("{{\"a\": {}, \"b\": {}}}", row[0], row[1]);
    ask(server, "/v1/models/running:predict", &headers, &body)
}

fn answer(response: &Response) -> serde_json::Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["predictions"][0]["prediction"].clone()
}

fn refused(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{}", response.text());
    response.text()
}

/// The value of a metric of `model`.
fn metric(server: &Server, name: &str, model: &str) -> f64 {
    let text = ask(server, "/metrics", &[], "").text();
    let line = Regex::new(&format!("(?m)^{name}\\{{model=\"{model}\",version=\"1\"\\}} (.*)$")).unwrap();
    line.captures(&text).unwrap_or_else(|| panic!("no {name} of {model}:\n{text}"))[1].parse().unwrap()
}

const START: (&str, &str) = ("Sequence-Start", "true");
const END: (&str, &str) = ("Sequence-End", "true");

#[test]
fn faces_share_sequences_and_metrics_count_them() {
    let place = lay_out();
    let server = start(place.path());
    assert_eq!(answer(&step(&server, "7", &[START], [1.0, 2.0])), serde_json::json!([2.0, 4.0]));
    // The same sequence through V2, where ids are numbers.
    let body = r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [10, 20]}],
                   "outputs": [{"name": "y"}, {"name": "steps"}, {"name": "called"}],
                   "parameters": {"sequence_id": 7}}"#;
    let v2 = ask(&server, "/v2/models/running/infer", &[], body);
    let outputs = &v2.json()["outputs"];
    assert_eq!(outputs[0]["data"], serde_json::json!([22.0, 44.0]), "{}", v2.text());
    assert_eq!((&outputs[1]["data"][0], &outputs[2]["data"][0]), (&102.into(), &7.into()));
    // 16 bytes a sequence: two floats and a count.
    assert_eq!(metric(&server, "weir_sequences", "running"), 1.0);
    assert_eq!(metric(&server, "weir_sequence_state_bytes", "running"), 16.0);
    assert_eq!(answer(&step(&server, "7", &[END], [1.0, 1.0])), serde_json::json!([24.0, 46.0]));
    assert!(refused(&step(&server, "7", &[], [1.0, 1.0]), 400).contains("must specify the START flag"));
    for id in 1..=8 {
        answer(&step(&server, &id.to_string(), &[START], [1.0, 1.0]));
    }
    let full = step(&server, "9", &[START], [1.0, 1.0]);
    assert!(refused(&full, 503).contains("keeps as many sequences as it may, 8"));
    assert!(full.header("retry-after").next().is_some());
    let counts = ["started", "ended", "full", "unknown"];
    let counts = counts.map(|name| metric(&server, &format!("weir_sequences_{name}_total"), "running"));
    assert_eq!(counts, [9.0, 1.0, 1.0, 1.0]);
    server.stop();
}

#[test]
fn a_step_under_a_key_runs_once_and_belongs_to_its_sequence() {
    let place = lay_out();
    let server = start(place.path());
    let keyed = |id: &str, key: &str, flags: &[(&str, &str)]| {
        let flags: Vec<_> = [("Idempotency-Key", key)].into_iter().chain(flags.iter().copied()).collect();
        step(&server, id, &flags, [1.0, 2.0])
    };
    answer(&keyed("7", "k-1", &[START]));
    for replayed in [false, true] {
        let second = keyed("7", "k-2", &[]);
        assert_eq!(answer(&second), serde_json::json!([4.0, 8.0]));
        assert_eq!(second.header("idempotency-replayed").next().is_some(), replayed);
    }
    // Another sequence, and another step of the same, are other requests.
    for other in [keyed("8", "k-2", &[]), keyed("7", "k-2", &[END])] {
        assert!(refused(&other, 422).contains("idempotency_key_reused"));
    }
    assert_eq!(answer(&step(&server, "7", &[], [1.0, 2.0])), serde_json::json!([6.0, 12.0]));
    // V2 has the sequence in its body, which is part of what the key is of.
    let infer = |id: u32| {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}}],
                "outputs": [{{"name": "y"}}], "parameters": {{"sequence_id": {id}}}}}"#
        );
        ask(&server, "/v2/models/running/infer", &[("Idempotency-Key", "k-3")], &body)
    };
    for replayed in [false, true] {
        let third = infer(7);
        assert_eq!(third.json()["outputs"][0]["data"], serde_json::json!([8.0, 16.0]), "{}", third.text());
        assert_eq!(third.header("idempotency-replayed").next().is_some(), replayed);
    }
    assert!(refused(&infer(8), 422).contains("Another request has used this key"));
    assert_eq!(answer(&step(&server, "7", &[], [1.0, 2.0])), serde_json::json!([10.0, 20.0]));
    server.stop();
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let place = lay_out();
    copy_tree(&root().join("tests/v2clients/models/steps"), &place.path().join("models/steps"));
    let server = start(place.path());
    assert!(refused(&step(&server, "", &[], [1.0, 1.0]), 400).contains("non-empty correlation ID"));
    assert!(refused(&step(&server, "a b", &[], [1.0, 1.0]), 400).contains("Sequence-Id"));
    assert!(
        refused(&step(&server, "7", &[("Sequence-Start", "1")], [1.0, 1.0]), 400).contains("sequence-start")
    );
    let two = r#"{"instances": [{"a": 1, "b": 1}, {"a": 1, "b": 1}]}"#;
    let two = ask(&server, "/v1/models/running:predict", &[("Sequence-Id", "7"), START], two);
    assert!(refused(&two, 422).contains("too_long"));
    // A model without state: whoever names a sequence believes that something is remembered.
    let stateless = ask(&server, "/v1/models/steps:predict", &[("Sequence-Id", "7")], r#"{"x": 1}"#);
    assert!(refused(&stateless, 400).contains("model `steps` keeps no state"));
    let described = ask(&server, "/openapi.json", &[], "").json();
    let names = |path: &str| -> Vec<String> {
        let parameters = described["paths"][path]["post"]["parameters"].as_array().unwrap();
        parameters.iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    let (all, sequence) =
        (names("/v1/models/running:predict"), ["Sequence-Id", "Sequence-Start", "Sequence-End"]);
    assert!(sequence.iter().all(|name| all.iter().any(|other| other == name)), "{all:?}");
    assert_eq!(all.len() - names("/v1/models/steps:predict").len(), sequence.len());
    server.stop();
}

#[test]
fn rows_that_are_moments_come_several_at_a_time() {
    let place = lay_out();
    let server = start(place.path());
    let ask = |flags: &[(&str, &str)], body| {
        let headers: Vec<_> = [("Sequence-Id", "m")].into_iter().chain(flags.iter().copied()).collect();
        let response = ask(&server, "/v1/models/smoothing:predict", &headers, body);
        assert_eq!(response.status, 200, "{}", response.text());
        let values = response.json()["predictions"].as_array().unwrap().clone();
        values.iter().map(|v| v["prediction"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&[START], r#"{"instances": [{"x": 1}, {"x": 2}, {"x": 3}]}"#), [1.0, 3.0, 6.0]);
    assert_eq!(ask(&[END], r#"{"instances": [{"x": 10}, {"x": 0.5}]}"#), [16.0, 16.5]);
    server.stop();
}

#[test]
fn sequences_outlive_a_reload_that_changes_no_answer_and_no_other() {
    let place = lay_out();
    let mut server = start(place.path());
    answer(&step(&server, "7", &[START], [1.0, 2.0]));
    let manifest = place.path().join("models/running/model.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let change = |server: &mut Server, text: &str| {
        fs::write(&manifest, text).unwrap();
        server.signal(Signal::HUP);
        server.await_line(&Regex::new("models changed").unwrap());
    };
    let text = text.replace("max_sequences = 8", "max_sequences = 9");
    change(&mut server, &text);
    assert_eq!(answer(&step(&server, "7", &[], [1.0, 2.0])), serde_json::json!([4.0, 8.0]));
    change(&mut server, &text.replace("value = 2.0", "value = 3.0"));
    assert!(refused(&step(&server, "7", &[], [1.0, 2.0]), 400).contains("the model was replaced since"));
    assert_eq!(answer(&step(&server, "7", &[START], [1.0, 2.0])), serde_json::json!([3.0, 6.0]));
    server.stop();
}

/// A server whose models keep sequences in the Redis at `url`.
fn replica(place: &Path, url: &str) -> Server {
    // Patient: the machine is busy while tests run.
    let config = format!("[server]\nmodels = [\"models\"]\n[redis]\nurl = {url:?}\ntimeout = \"5s\"\n");
    fs::write(place.join("weir.toml"), config).unwrap();
    Server::start(place, &["--config".into(), "weir.toml".into()])
}

fn declare_redis(place: &Path) {
    let manifest = place.join("models/running/model.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, text.replace("[sequence]\n", "[sequence]\nstore = \"redis\"\n")).unwrap();
}

#[test]
fn a_replica_goes_on_where_another_was_killed() {
    let redis = RedisServer::start();
    let place = lay_out();
    declare_redis(place.path());
    let (a, b) = (replica(place.path(), &redis.url()), replica(place.path(), &redis.url()));
    assert_eq!(answer(&step(&a, "41", &[START], [1.0, 0.0]))[0], 2.0);
    assert_eq!(answer(&step(&b, "41", &[], [1.0, 0.0]))[0], 4.0);
    assert_eq!(answer(&step(&a, "41", &[], [1.0, 0.0]))[0], 6.0, "what a remembers is older");
    a.signal(Signal::KILL);
    drop(a);
    assert_eq!(answer(&step(&b, "41", &[], [1.0, 0.0]))[0], 8.0);
    let c = replica(place.path(), &redis.url());
    assert_eq!(answer(&step(&c, "41", &[END], [1.0, 0.0]))[0], 10.0);
    assert!(refused(&step(&b, "41", &[], [1.0, 0.0]), 400).contains("must specify the START flag"));
    b.stop();
    c.stop();
}

#[test]
fn a_model_that_wants_redis_is_refused_where_there_is_none() {
    let place = lay_out();
    declare_redis(place.path());
    let mut server = start(place.path());
    let ready = ask(&server, "/readyz", &[], "");
    assert!(refused(&ready, 503).contains("write [redis] with a url into weir.toml"), "{}", server.log());
    server.stop();
}

#[test]
fn predict_takes_rows_as_steps() {
    let place = lay_out();
    fs::write(place.path().join("rows"), "{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\": 2}\n").unwrap();
    let rows = fs::File::open(place.path().join("rows")).unwrap();
    let output = weir(place.path()).args(["predict", "models/running"]).stdin(rows).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "{\"prediction\":[2.0,4.0]}\n{\"prediction\":[4.0,8.0]}\n");
}

#[test]
fn tritonclient_keeps_sequences() {
    let place = lay_out();
    let server = start(place.path());
    run_against(&server, "test_sequences.py", 9);
    server.stop();
}

/// The ONNX files of the wheel `silero-vad`.
fn silero() -> PathBuf {
    let lib = root().join(".cache/venvs/silero/lib");
    let pythons = fs::read_dir(&lib).into_iter().flatten().flatten();
    let mut found = pythons.map(|python| python.path().join("site-packages/silero_vad/data"));
    found.next().unwrap_or_else(|| panic!("no silero-vad in {}: run `make venvs`", lib.display()))
}

/// Serves one of the wheel's models and compares every frame with onnxruntime in Python.
fn compare(file: &str, edit: impl Fn(&str) -> String, tolerance: &str) {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("models/voice");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(silero().join(file), folder.join(file)).unwrap();
    let manifest = fs::read_to_string(root().join("tests/silero/model.toml")).unwrap();
    fs::write(folder.join("model.toml"), edit(&manifest.replace("silero_vad_16k_op15.onnx", file))).unwrap();
    fs::write(
        place.path().join("weir.toml"),
        format!("[server]\nmodels = [\"models\"]\nonnxruntime = {:?}\n", onnxruntime()),
    )
    .unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let python = root().join(".cache/venvs/onnxruntime/bin/python");
    let output = Command::new(python)
        .arg(root().join("tests/silero/test_silero.py"))
        .arg(tolerance)
        .env("V2_ADDRESS", server.address.to_string())
        .env("SILERO_MODEL", silero().join(file))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{file}: {out}");
    assert!(output.status.success(), "{out}{error}");
    assert_eq!(metric(&server, "weir_sequences", "voice"), 0.0);
    assert_eq!(metric(&server, "weir_sequences_ended_total", "voice"), 3.0);
    server.stop();
}

#[test]
fn voice_activity_is_onnxruntimes_frame_by_frame() {
    compare("silero_vad_16k_op15.onnx", str::to_owned, "1e-6");
}

/// Without a batch dimension each sequence runs by itself.
#[test]
fn voice_activity_of_one_row_is_onnxruntimes_too() {
    let without = |text: &str| text.replace("[[sequence.constant]]\ninput = \"sr\"\nvalue = 16000\n", "");
    compare("silero_vad_openvino_16k.onnx", without, "1e-6");
}

#[test]
fn voice_activity_on_rten_is_onnxruntimes_but_for_rounding() {
    let rten = |text: &str| text.replacen("name =", "engine = \"rten\"\nname =", 1);
    compare("silero_vad_op18_ifless.onnx", rten, "1e-5");
}
