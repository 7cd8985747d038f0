//! Weir in front of another Weir, over real sockets.

use std::{fs, net::SocketAddr, path::Path};

use regex::Regex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{Response, ask, get},
    metrics::{await_metric, metric},
    server::{Server, root, weir},
    v2clients::{lay_out, run_against},
};

/// Two servers: `front` serves what `back` serves, and runs none of it.
struct Pair {
    front: Server,
    back: Server,
    _places: [TempDir; 2],
}

fn configured() -> [String; 2] {
    ["--config".into(), "weir.toml".into()]
}

impl Pair {
    /// `front` asks `back` by `scheme`.
    fn start(scheme: &str) -> Self {
        Self::start_with(scheme, |_| {})
    }

    /// The same with what is written about the models of `front` changed.
    fn start_with(scheme: &str, change: impl FnOnce(&Path)) -> Self {
        let places = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        lay_out(places[1].path());
        let back = Server::start(places[1].path(), &configured());
        let url = format!("{scheme}://{}", back.address);
        write_front(places[0].path(), places[1].path(), &url);
        change(places[0].path());
        let front = Server::start(places[0].path(), &configured());
        Self { front, back, _places: places }
    }

    fn stop(self) {
        self.front.stop();
        self.back.stop();
    }
}

/// Each version of a model in `back` as one that runs at `url`; what is written about it
/// stays.
fn write_front(front: &Path, back: &Path, url: &str) {
    fs::copy(back.join("weir.toml"), front.join("weir.toml")).unwrap();
    for model in fs::read_dir(back.join("models")).unwrap().map(|entry| entry.unwrap().path()) {
        let to = front.join("models").join(model.file_name().unwrap());
        if model.ends_with("half_broken") {
            // Of what does not load there is nothing to ask for.
            crate::scenario::copy_tree(&model, &to);
            continue;
        }
        let versions = fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().path());
        let versions: Vec<_> = versions.filter(|path| path.is_dir()).collect();
        if versions.is_empty() {
            write_remote(&model, &to, url, "");
        }
        for version in versions {
            let name = version.file_name().unwrap().to_str().unwrap();
            write_remote(&version, &to.join(name), url, &format!("version = \"{name}\"\n"));
        }
    }
}

fn write_remote(from: &Path, to: &Path, url: &str, more: &str) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|e| e == "jsonl") {
            fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
        }
    }
    let written = fs::read_to_string(from.join("model.toml")).unwrap_or_default();
    let written = written.replace("artifact = \"model.onnx\"\n", "");
    // One of the suites asks 200 times at once, which nothing has shown to be too much.
    let wide = "[remote.limit]\ninitial = 256\nmin = 256\nmax = 256\n";
    let text = format!("{written}\n[remote]\nurl = \"{url}\"\n{more}{wide}");
    fs::write(to.join("model.toml"), text).unwrap();
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Response {
    ask(address, "POST", path, Some(body.to_string().as_bytes()))
}

fn suites(scheme: &str, suites: &[(&str, u32)]) {
    let pair = Pair::start(scheme);
    suites.iter().for_each(|(suite, fewest)| run_against(&pair.front, suite, *fewest));
    pair.stop();
}

#[test]
fn clients_that_nobody_here_wrote_see_no_difference() {
    let all = [
        ("test_http.py", 19),
        ("test_http_aio.py", 5),
        ("test_kserve_rest.py", 3),
        ("test_grpc.py", 14),
        ("test_grpc_aio.py", 3),
        ("test_kserve_grpc.py", 2),
    ];
    suites("http", &all);
}

#[test]
fn nor_do_they_where_the_servers_speak_grpc() {
    suites("grpc", &[("test_http.py", 19), ("test_http_aio.py", 5), ("test_grpc.py", 14)]);
}

#[test]
fn typed_routes_answer_the_same_and_validate_before_anybody_is_asked() {
    let pair = Pair::start("grpc");
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let rows: Vec<Value> =
        samples.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["input"].clone()).collect();
    let path = "/v1/models/housing:predict";
    let both = |body: &Value| {
        let [front, back] = [&pair.front, &pair.back].map(|server| post(server.address, path, body));
        assert_eq!(front.status, back.status, "{}", front.text());
        assert!(front.json() == back.json(), "{} is not {}", front.text(), back.text());
        front.status
    };
    assert_eq!(both(&json!({ "instances": rows })), 200);
    let calls = "weir_remote_calls_total{model=\"housing\",version=\"1\"}";
    let before = metric(pair.front.address, calls);
    let mut wrong = rows[0].clone();
    wrong["Latitude"] = json!(91);
    assert_eq!(both(&wrong), 422);
    assert_eq!(metric(pair.front.address, calls).total_cmp(&before), std::cmp::Ordering::Equal);
    pair.stop();
}

/// Callers who come together share calls, and each gets the own answer.
#[test]
fn requests_that_wait_share_a_call() {
    for scheme in ["http", "grpc"] {
        let pair = Pair::start_with(scheme, |front| {
            let file = front.join("models/housing/model.toml");
            let written = fs::read_to_string(&file).unwrap();
            let batching = "[batching]\ninstances = 1\nmax_rows = 8\nmax_delay = \"500ms\"\n";
            fs::write(file, format!("{written}\n{batching}")).unwrap();
        });
        let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
        let rows = samples.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["input"].clone());
        let bodies: Vec<Value> = rows.cycle().take(32).map(|row| json!({ "instances": [row] })).collect();
        let calls = "weir_remote_calls_total{model=\"housing\",version=\"1\"}";
        let path = "/v1/models/housing:predict";
        let before = metric(pair.front.address, calls);
        let front = pair.front.address;
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let ask = |body| scope.spawn(move || post(front, path, body).json());
            let asking: Vec<_> = bodies.iter().map(ask).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        for (body, answer) in bodies.iter().zip(&answers) {
            assert_eq!(*answer, post(pair.back.address, path, body).json());
        }
        let made = metric(pair.front.address, calls) - before;
        assert!((4.0..32.0).contains(&made), "{made} calls for 32 requests");
        pair.stop();
    }
}

#[test]
fn a_server_that_dies_costs_its_own_requests_and_nothing_is_ever_wrong() {
    outlive("http");
}

#[test]
fn so_it_is_over_grpc() {
    outlive("grpc");
}

fn outlive(scheme: &str) {
    let mut pair = Pair::start(scheme);
    let address = pair.front.address;
    let number = |n: i64| {
        let input = json!({"name": "INPUT0", "datatype": "INT64", "shape": [1, 2], "data": [n, -n]});
        let answer = post(address, "/v2/models/identity_int64/infer", &json!({ "inputs": [input] }));
        if answer.status == 200 {
            assert_eq!(answer.json()["outputs"][0]["data"], json!([n, -n]));
        } else {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.header("retry-after").next().is_some());
            assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
        }
        answer.status
    };
    assert!((0..20).all(|n| number(n) == 200));
    let breaker = "weir_remote_breaker{model=\"identity_int64\",version=\"1\"}";
    assert!(metric(address, breaker) < 0.5, "closed");
    pair.back.signal(Signal::KILL);
    pair.back.wait();
    assert!((20..60).all(|n| number(n) == 503));
    let opened = "weir_remote_breaker_opened_total{model=\"identity_int64\",version=\"1\"}";
    await_metric(address, opened, |n| n >= 1.0);
    assert!(
        metric(address, "weir_remote_breaker_refused_total{model=\"identity_int64\",version=\"1\"}") > 0.0
    );
    let listen = pair.back.address;
    pair.back = Server::start_at(pair._places[1].path(), &configured(), listen);
    await_metric(address, breaker, |_| number(7) == 200);
    assert!(metric(address, breaker) < 0.5, "closed again");
    assert!((60..80).all(|n| number(n) == 200));
    pair.stop();
}

#[test]
fn a_server_that_is_away_at_first_is_found_later() {
    let places = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    lay_out(places[1].path());
    let back = Server::start(places[1].path(), &configured());
    let listen = back.address;
    back.stop();
    write_front(places[0].path(), places[1].path(), &format!("http://{listen}"));
    let mut front = Server::start(places[0].path(), &configured());
    let ready = get(front.address, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("cannot be reached") && !ready.text().contains(&listen.to_string()));
    assert!(front.log().contains(&listen.to_string()), "the log names the server");
    let back = Server::start_at(places[1].path(), &configured(), listen);
    front.signal(Signal::HUP);
    front.await_line(&Regex::new("models changed").unwrap());
    assert_eq!(post(front.address, "/v2/models/steps/infer", &steps()).status, 200);
    front.stop();
    back.stop();
}

#[test]
fn the_command_line_asks_the_server_too() {
    let pair = Pair::start("http");
    let place = pair._places[0].path();
    let inspected = weir(place).args(["inspect", "models/housing"]).output().unwrap();
    let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(inspected.status.success(), "{text}");
    for part in ["MedInc", "tensors as bytes", &pair.back.address.to_string(), "not its weights"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let sample: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    fs::write(place.join("row.jsonl"), sample["input"].to_string()).unwrap();
    let row = fs::File::open(place.join("row.jsonl")).unwrap();
    let predicted = weir(place).args(["predict", "models/housing"]).stdin(row).output().unwrap();
    let answer: Value = serde_json::from_slice(&predicted.stdout).unwrap();
    assert!((answer["prediction"].as_f64().unwrap() - sample["prediction"].as_f64().unwrap()).abs() < 1e-6);
    pair.back.stop();
    let inspected = weir(place).args(["inspect", "models/housing"]).output().unwrap();
    let text = String::from_utf8_lossy(&inspected.stderr).into_owned();
    assert!(!inspected.status.success() && text.contains("refused"), "{text}");
    pair.front.stop();
}

fn steps() -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]})
}
