//! Graphs over real sockets: the guide as it stands, ensembles of Triton, models that change
//! under load.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{Connection, ask, get, request},
    server::{Server, root, weir},
};

fn guide() -> String {
    fs::read_to_string(root().join("docs/guide/graphs.md")).unwrap()
}

/// The code blocks of the guide in one language.
fn blocks(guide: &str, language: &str) -> Vec<String> {
    let pattern = Regex::new(&format!(r"(?ms)^```{language}\n(.*?)^```$")).unwrap();
    pattern.captures_iter(guide).map(|block| block[1].to_owned()).collect()
}

/// A folder in which the guide was followed up to `weir serve`.
fn followed() -> TempDir {
    let (folder, guide) = (TempDir::new().unwrap(), guide());
    std::os::unix::fs::symlink(root().join("crates"), folder.path().join("crates")).unwrap();
    for script in blocks(&guide, "sh") {
        let done = Command::new("sh").args(["-euc", &script]).current_dir(folder.path()).status().unwrap();
        assert!(done.success(), "{script}");
    }
    let mut written = 0;
    for toml in blocks(&guide, "toml") {
        let (first, text) = toml.split_once('\n').unwrap();
        for file in first.strip_prefix("# ").unwrap().split(", ") {
            fs::write(folder.path().join(file), text).unwrap();
            written += 1;
        }
    }
    assert_eq!(written, 7, "each model has its description");
    folder
}

fn start(folder: &Path) -> Server {
    Server::start(folder, &["models".into()])
}

/// The requests of the guide and what it says that they answer.
fn promised(guide: &str) -> Vec<(String, String, Value)> {
    let pattern = Regex::new(r"(?m)^\$ curl -s localhost:8000(\S+) --json '(.*)'\n(.*)$").unwrap();
    let promised = pattern.captures_iter(guide);
    promised.map(|c| (c[1].to_owned(), c[2].to_owned(), serde_json::from_str(&c[3]).unwrap())).collect()
}

/// Requests that a model answered, and rows, by its own count.
fn counted(server: &Server, model: &str) -> (u64, u64) {
    let stats = get(server.address, &format!("/v2/models/{model}/stats")).json();
    let stats = &stats["model_stats"][0];
    (stats["execution_count"].as_u64().unwrap(), stats["inference_count"].as_u64().unwrap())
}

#[test]
fn the_guide_holds() {
    let folder = followed();
    let inspected = weir(folder.path()).args(["inspect", "models/careful"]).output().unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    for line in blocks(&guide(), "text").iter().flat_map(|block| block.lines()) {
        assert!(inspected.contains(line), "{line}\n{inspected}");
    }
    let promised = promised(&guide());
    let (path, body, answer) = &promised[2];
    assert!(path.contains("careful"));
    fs::write(folder.path().join("rows"), body).unwrap();
    let rows = fs::File::open(folder.path().join("rows")).unwrap();
    let mut command = weir(folder.path());
    let predicted =
        command.args(["predict", "models/careful", "--outputs", "answer"]).stdin(rows).output().unwrap();
    let predicted: Value = serde_json::from_slice(&predicted.stdout).unwrap();
    assert_eq!(predicted["answer"], answer["predictions"][0], "the command answers as the server does");
    let server = start(folder.path());
    assert_eq!(promised.len(), 5);
    for (path, body, answer) in promised {
        let response = ask(server.address, "POST", &path, Some(body.as_bytes()));
        assert_eq!(response.json(), answer, "{path} {body}");
    }
    let asked = get(server.address, "/metrics").text();
    assert!(asked.contains("weir_rows_total{model=\"blend\",version=\"1\"}"), "the guide names it:\n{asked}");
    let openapi = get(server.address, "/openapi.json").json();
    assert!(openapi["paths"]["/v1/models/region:predict"].is_object());
    // A row that no model would take is told as one.
    let wrong = br#"{"Rooms": 1, "Age": 1, "Latitude": 91, "Longitude": 1}"#;
    let refused = ask(server.address, "POST", "/v1/models/region:predict", Some(wrong));
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("Latitude"), "{}", refused.text());
    server.stop();
}

/// Rows from easy to hard for the linear model.
fn rows() -> Vec<Value> {
    let row = |i: i32| {
        let x = f64::from(i - 30) / 10.0;
        json!({ "Rooms": x, "Age": x * 0.5, "Latitude": -x, "Longitude": 0.3 })
    };
    (0..60).map(row).collect()
}

/// What a model answers to each row, asked for each alone or for all at once.
fn answers(server: &Server, model: &str, rows: &[Value]) -> Vec<Value> {
    let body = json!({ "instances": rows }).to_string();
    let response = ask(server.address, "POST", &format!("/v1/models/{model}:predict"), Some(body.as_bytes()));
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["predictions"].as_array().unwrap().clone()
}

#[test]
fn rows_of_one_request_go_their_own_ways() {
    let folder = followed();
    let server = start(folder.path());
    let rows = rows();
    let [linear, blend, forest, boosted] =
        ["linear", "blend", "forest", "boosted"].map(|model| answers(&server, model, &rows));
    let before = counted(&server, "blend");
    let careful = answers(&server, "careful", &rows);
    let sure = |i: &usize| linear[*i]["score"].as_f64().unwrap() >= 0.9;
    for i in 0..rows.len() {
        let expected = if sure(&i) { &linear[i] } else { &blend[i] };
        assert_eq!(&careful[i], expected, "row {i}");
    }
    let unsure = (0..rows.len()).filter(|i| !sure(i)).count();
    assert!((1..rows.len()).contains(&unsure));
    let after = counted(&server, "blend");
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (1, unsure as u64),
        "the dear model saw these rows alone"
    );
    let region = answers(&server, "region", &rows);
    for (i, row) in rows.iter().enumerate() {
        let south = row["Latitude"].as_f64().unwrap() < 0.0;
        assert_eq!(&region[i], if south { &forest[i] } else { &boosted[i] }, "row {i}");
    }
    server.stop();
}

/// What `answers` says as the probability of `yes`.
fn yes(answers: &[Value]) -> Vec<f64> {
    answers.iter().map(|answer| answer["scores"]["yes"].as_f64().unwrap()).collect()
}

#[test]
fn a_graph_asks_models_on_other_servers_at_load_and_later() {
    let (far_folder, near_folder) = (followed(), TempDir::new().unwrap());
    let far = start(far_folder.path());
    let models = near_folder.path().join("models");
    let write = |file: &str, text: &str| {
        let file = models.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let labels = "labels = ['no', 'yes']";
    write("far/model.toml", &format!("{labels}\n[remote]\nurl = 'http://{}'\nmodel = 'forest'", far.address));
    let linear = far_folder.path().join("models/linear");
    write("linear/model.toml", &fs::read_to_string(linear.join("model.toml")).unwrap());
    fs::copy(linear.join("model.onnx"), models.join("linear/model.onnx")).unwrap();
    write(
        "mixed/model.toml",
        "samples = 'samples.jsonl'\n[[graph.step]]\nmodel = 'linear'\n[[graph.step]]\nmodel = 'far'\n\
         [[graph.step]]\nname = 'mean'\nkind = 'mean'\nof = ['linear.probabilities', 'far.probabilities']",
    );
    // Golden rows ask the other server before there are listeners.
    write("mixed/samples.jsonl", &format!("{{\"input\": {}, \"prediction\": \"yes\"}}\n", hard_row()));
    let near = start(near_folder.path());
    let rows = rows();
    let (linear, forest) = (yes(&answers(&far, "linear", &rows)), yes(&answers(&far, "forest", &rows)));
    for _ in 0..3 {
        for (i, got) in yes(&answers(&near, "mixed", &rows)).into_iter().enumerate() {
            assert!((got - (linear[i] + forest[i]) / 2.0).abs() < 1e-6, "row {i}");
        }
    }
    far.stop();
    let body = hard_row().to_string();
    let gone = ask(near.address, "POST", "/v1/models/mixed:predict", Some(body.as_bytes()));
    assert_eq!(gone.status, 503, "{}", gone.text());
    assert!(gone.text().contains("step `far`"), "{}", gone.text());
    near.stop();
}

const ENSEMBLE: &str = r#"
name: "twice"
platform: "ensemble"
max_batch_size: 8
input [
  { name: "A" data_type: TYPE_INT32 dims: [ 4 ] },
  { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
]
output [ { name: "SUM" data_type: TYPE_FP32 dims: [ 4 ] } ]
ensemble_scheduling {
  step [
    {
      model_name: "add_sub"
      model_version: -1
      input_map { key: "INPUT0" value: "A" }
      input_map { key: "INPUT1" value: "B" }
      output_map { key: "OUTPUT1" value: "difference" }
    },
    {
      model_name: "add_sub"
      model_version: 1
      input_map { key: "INPUT0" value: "difference" }
      input_map { key: "INPUT1" value: "B" }
      output_map { key: "OUTPUT0" value: "SUM" }
    }
  ]
}
"#;

#[test]
fn an_ensemble_of_a_triton_repository_answers() {
    let folder = TempDir::new().unwrap();
    let models = folder.path().join("models");
    for version in ["twice/1", "add_sub/1"] {
        fs::create_dir_all(models.join(version)).unwrap();
    }
    fs::write(models.join("twice/config.pbtxt"), ENSEMBLE).unwrap();
    fs::write(models.join("add_sub/config.pbtxt"), "backend: \"onnxruntime\"").unwrap();
    let fixture = root().join("crates/weir-engine/tests/fixtures/add_sub.onnx");
    fs::copy(fixture, models.join("add_sub/1/model.onnx")).unwrap();
    let server = start(folder.path());
    let metadata = get(server.address, "/v2/models/twice").json();
    assert_eq!(metadata["inputs"][0]["name"], "A");
    assert_eq!(metadata["outputs"], json!([{ "name": "SUM", "datatype": "FP32", "shape": [-1, 4] }]));
    let body = json!({ "inputs": [
        { "name": "A", "datatype": "INT32", "shape": [1, 4], "data": [10, 20, 30, 40] },
        { "name": "B", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0] },
    ]});
    let answer = ask(server.address, "POST", "/v2/models/twice/infer", Some(body.to_string().as_bytes()));
    // (A - B) as int32, and B again: A.
    assert_eq!(answer.json()["outputs"][0]["data"], json!([10.0, 20.0, 30.0, 40.0]), "{}", answer.text());
    assert_eq!((counted(&server, "twice"), counted(&server, "add_sub")), ((1, 1), (2, 2)));
    let rows = json!({ "instances": [{ "A": [1, 2, 3, 4], "B": [0, 0, 0, 1] }] });
    let typed = ask(server.address, "POST", "/v1/models/twice:predict", Some(rows.to_string().as_bytes()));
    assert_eq!(typed.json()["predictions"][0]["SUM"], json!([1.0, 2.0, 3.0, 4.0]), "{}", typed.text());
    server.stop();
}

/// Asks `careful` until `done`; every answer must be of the one forest or the other.
fn ask_until(
    done: &AtomicBool,
    address: std::net::SocketAddr,
    allowed: &[Value; 2],
    seen: &[AtomicUsize; 2],
) {
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    let body = hard_row().to_string();
    let bytes = request("POST", "/v1/models/careful:predict", &headers, Some(body.as_bytes()));
    let mut connection = Connection::open(address).unwrap();
    while !done.load(Ordering::Relaxed) {
        connection.send(&bytes).unwrap();
        let response = connection.receive(false).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = &response.json()["predictions"][0];
        let which = allowed.iter().position(|a| a == answer);
        seen[which.unwrap_or_else(|| panic!("{answer} is no answer of {allowed:?}"))]
            .fetch_add(1, Ordering::Relaxed);
    }
}

/// A row of which the linear model is not sure.
fn hard_row() -> Value {
    json!({ "Rooms": 0.35, "Age": 0.82, "Latitude": 0.33, "Longitude": -1.3 })
}

#[test]
fn models_of_a_graph_change_under_load_and_no_request_fails() {
    const RELOADS: usize = 40;
    let folder = followed();
    let fixtures = root().join("crates/weir-engine/tests/fixtures");
    let forest = folder.path().join("models/forest/model.onnx");
    let write = |which: usize| {
        let new = forest.with_extension("new");
        fs::copy(fixtures.join(["rf_binary.onnx", "logreg_binary.onnx"][which]), &new).unwrap();
        fs::rename(new, &forest).unwrap();
    };
    let mut server = start(folder.path());
    let changed = Regex::new("models changed").unwrap();
    let allowed = [1, 0].map(|which| {
        write(which);
        server.signal(Signal::HUP);
        server.await_line(&changed);
        answers(&server, "careful", &[hard_row()])[0].clone()
    });
    assert_ne!(allowed[0], allowed[1]);
    let (done, allowed) = (Arc::new(AtomicBool::new(false)), Arc::new(allowed));
    let seen = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (done, allowed, seen, address) =
                (done.clone(), allowed.clone(), seen.clone(), server.address);
            thread::spawn(move || ask_until(&done, address, &allowed, &seen))
        })
        .collect();
    for reload in 0..RELOADS {
        write((reload + 1) % 2);
        server.signal(Signal::HUP);
        server.await_line(&changed);
    }
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let [first, second] = [&seen[0], &seen[1]].map(|n| n.load(Ordering::Relaxed));
    println!(
        "{RELOADS} reloads under load: {first} answers with one forest, {second} with the other, none lost"
    );
    assert!(first > RELOADS && second > RELOADS, "both were seen: {first}, {second}");
    server.stop();
}

#[test]
fn a_graph_without_its_model_is_told_and_hides_no_other() {
    let folder = followed();
    fs::remove_dir_all(folder.path().join("models/boosted")).unwrap();
    let server = start(folder.path());
    let ready = get(server.address, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("there is no model `boosted`"), "{}", ready.text());
    assert_eq!(answers(&server, "forest", &[hard_row()]).len(), 1);
    let refused =
        ask(server.address, "POST", "/v1/models/blend:predict", Some(hard_row().to_string().as_bytes()));
    assert!(matches!(refused.status, 404 | 503), "{} {}", refused.status, refused.text());
    server.stop();
}
