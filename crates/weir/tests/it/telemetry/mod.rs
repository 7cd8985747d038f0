//! Traces as a receiver gets them from the real binary: what they show, and that nothing which
//! becomes of them holds up anybody.

mod receiver;
mod refusals;
mod rotel;
mod secure;

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use regex::Regex;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    client::{Connection, Response, ask, get, request},
    server::{Server, root, weir},
};
use receiver::{Manner, Receiver, text};

const PREDICT: &str = "/v1/models/housing:predict";
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn rows() -> Vec<u8> {
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let sample: serde_json::Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let row = sample.get("input").or_else(|| sample.get("row")).unwrap_or(&sample);
    serde_json::to_vec(&serde_json::json!({ "instances": [row] })).unwrap()
}

/// A folder with a `weir.toml` that serves `models` and sends to `endpoint`.
fn configured(models: &str, endpoint: SocketAddr, protocol: &str, more: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    write(place.path(), models, endpoint, protocol, more);
    place
}

fn write(place: &Path, models: &str, endpoint: SocketAddr, protocol: &str, more: &str) {
    let text = format!(
        "[server]\nmodels = [{models:?}]\naccess_log = true\n[telemetry]\nendpoint = \"http://{endpoint}\"\n\
         protocol = \"{protocol}\"\nsample = 1.0\ninterval = \"20ms\"\n{more}"
    );
    fs::write(place.join("weir.toml"), text).unwrap();
}

fn housing() -> String {
    root().join("examples/models/housing").to_string_lossy().into_owned()
}

fn start(place: &Path) -> Server {
    Server::start(place, &["--config".into(), "weir.toml".into()])
}

fn predict(server: &Server, headers: &[(&str, &str)]) -> Response {
    let mut all = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&request("POST", PREDICT, &all, Some(&rows()))).unwrap();
    connection.receive(false).unwrap()
}

fn is_server(span: &Span) -> bool {
    span.kind == SpanKind::Server as i32
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is part of `root`, by its name.
fn parts<'a>(spans: &'a [Span], root: &Span) -> BTreeMap<&'a str, &'a Span> {
    let parts = spans.iter().filter(|span| span.parent_span_id == root.span_id);
    let parts = parts.inspect(|span| {
        assert_eq!(span.trace_id, root.trace_id, "{span:?}");
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?} in {root:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?} in {root:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    });
    parts.map(|span| (span.name.as_str(), span)).collect()
}

#[test]
fn a_trace_shows_a_request_over_either_protocol() {
    let logged = Regex::new("4bf92f3577b34da6a3ce929d0e0e4736.*weir::access").unwrap();
    for (protocol, grpc) in [("http", false), ("grpc", true)] {
        let receiver = Receiver::start(grpc, Manner::Takes);
        let more = "headers_file = \"key\"\nservice_name = \"houses\"\nresource = \"k8s.pod.name=weir-0\"";
        let place = configured(&housing(), receiver.address, protocol, more);
        fs::write(place.path().join("key"), "x-key: secret\n").unwrap();
        let mut server = start(place.path());
        let answer = predict(&server, &[("traceparent", CALLER), ("tracestate", "vendor=1")]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let spans = receiver.spans(1, is_server);
        let root = spans.iter().find(|span| is_server(span)).unwrap();
        assert_eq!(hex(&root.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&root.parent_span_id), "00f067aa0ba902b7");
        assert_eq!(root.trace_state, "vendor=1");
        assert_eq!(root.name, "POST /v1/models/housing:predict");
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", PREDICT),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "1.1"),
            ("weir.model.name", "housing"),
            ("weir.model.version", "1"),
            ("weir.rows", "1"),
        ] {
            assert_eq!(text(&root.attributes, name).as_deref(), Some(value), "{name}");
        }
        let parts = parts(&spans, root);
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), ["decode", "encode", "engine", "receive"]);
        let order = ["receive", "decode", "engine", "encode"].map(|name| parts[name]);
        let starts = order.map(|span| span.start_time_unix_nano);
        assert!(starts.is_sorted(), "{order:?}");
        assert_eq!(receiver.resource("service.name").as_deref(), Some("houses"));
        assert_eq!(receiver.resource("k8s.pod.name").as_deref(), Some("weir-0"));
        assert!(receiver.resource("service.instance.id").is_some());
        assert_eq!(receiver.header("x-key").as_deref(), Some("secret"));
        let line = server.await_line(&logged);
        assert!(line.contains(&hex(&root.span_id)) && line.contains("\"sampled\":true"), "{line}");
        server.stop();
    }
}

#[test]
fn what_is_not_sampled_malformed_or_a_probe_is_no_trace_and_no_error() {
    let receiver = Receiver::start(false, Manner::Takes);
    let place = configured(&housing(), receiver.address, "http", "");
    let server = start(place.path());
    let unsampled = CALLER.replace("-01", "-00");
    assert_eq!(predict(&server, &[("traceparent", &unsampled)]).status, 200);
    assert_eq!(get(server.address, "/livez").status, 200);
    get(server.address, "/metrics");
    for bad in ["", "garbage", &CALLER.to_uppercase(), &format!("{CALLER}-x"), &"0".repeat(8_000)] {
        assert_eq!(
            predict(&server, &[("traceparent", bad), ("tracestate", "a=\u{e4}")]).status,
            200,
            "{bad}"
        );
    }
    let twice = [("traceparent", CALLER), ("traceparent", CALLER)];
    assert_eq!(predict(&server, &twice).status, 200);
    assert_eq!(ask(server.address, "POST", PREDICT, Some(b"{")).status, 422);
    let spans = receiver.spans(7, is_server);
    server.stop();
    let roots: Vec<_> = spans.iter().filter(|span| is_server(span)).collect();
    assert_eq!(roots.len(), 7, "one for each that began a trace: {roots:?}");
    assert!(roots.iter().all(|root| root.parent_span_id.is_empty() && root.trace_state.is_empty()));
    assert!(roots.iter().all(|root| root.status.is_none()), "a caller's mistake is no failure of the server");
    let traces: std::collections::BTreeSet<_> = roots.iter().map(|root| &root.trace_id).collect();
    assert_eq!(traces.len(), 7);
}

#[test]
fn a_graph_and_its_cache_nest() {
    let receiver = Receiver::start(false, Manner::Takes);
    let place = TempDir::new().unwrap();
    for (name, fixture) in [("linear", "logreg_binary"), ("forest", "rf_binary")] {
        let folder = place.path().join("models").join(name);
        fs::create_dir_all(&folder).unwrap();
        let fixture = root().join(format!("crates/weir-engine/tests/fixtures/{fixture}.onnx"));
        fs::copy(fixture, folder.join("model.onnx")).unwrap();
    }
    let graph = "[[graph.step]]\nmodel = \"linear\"\n[[graph.step]]\nmodel = \"forest\"\n\
                 [[graph.step]]\nname = \"majority\"\nkind = \"vote\"\nof = [\"forest.label\", \"linear.label\"]\n";
    fs::create_dir_all(place.path().join("models/both")).unwrap();
    fs::write(place.path().join("models/both/model.toml"), graph).unwrap();
    let more = "[cache]\nall = true\n";
    write(place.path(), "models", receiver.address, "http", more);
    let server = start(place.path());
    let described = get(server.address, "/v2/models/both").json();
    let width = described["inputs"][0]["shape"][1].as_i64().unwrap();
    let input = serde_json::json!({"inputs": [{
        "name": described["inputs"][0]["name"], "datatype": "FP32", "shape": [1, width],
        "data": vec![0.5; usize::try_from(width).unwrap()],
    }]});
    let body = serde_json::to_vec(&input).unwrap();
    for _ in 0..2 {
        let answer = ask(server.address, "POST", "/v2/models/both/infer", Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let infer = |span: &Span| is_server(span) && span.name.contains("/infer");
    let spans = receiver.spans(2, infer);
    server.stop();
    let roots: Vec<_> = spans.iter().filter(|span| infer(span)).collect();
    let (first, second) = (parts(&spans, roots[0]), parts(&spans, roots[1]));
    let cache = first["cache"];
    assert_eq!(text(&cache.attributes, "weir.cache.verdict").as_deref(), Some("miss"));
    let steps = parts(&spans, cache);
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), ["step forest", "step linear"]);
    for step in steps.values() {
        let member = parts(&spans, step);
        assert!(parts(&spans, member["cache"]).contains_key("engine"), "{member:?}");
    }
    let hit = second["cache"];
    assert_eq!(text(&hit.attributes, "weir.cache.verdict").as_deref(), Some("hit"));
    assert_eq!(text(&hit.attributes, "weir.cache.hits").as_deref(), Some("1"));
    assert!(parts(&spans, hit).is_empty());
}

#[test]
fn a_remote_model_goes_on_with_the_trace() {
    for scheme in ["http", "grpc"] {
        let receiver = Receiver::start(false, Manner::Takes);
        let back_place = configured(&housing(), receiver.address, "http", "service_name = \"back\"");
        let back = start(back_place.path());
        let place = TempDir::new().unwrap();
        let folder = place.path().join("models/housing");
        fs::create_dir_all(&folder).unwrap();
        let remote = format!("name = \"housing\"\n[remote]\nurl = \"{scheme}://{}\"\n", back.address);
        fs::write(folder.join("model.toml"), remote).unwrap();
        write(place.path(), "models", receiver.address, "http", "service_name = \"front\"");
        let front = start(place.path());
        let described = get(front.address, "/v2/models/housing").json();
        let inputs: Vec<_> = described["inputs"].as_array().unwrap().iter().map(|input| {
            let width = input["shape"].get(1).and_then(serde_json::Value::as_i64);
            let number = usize::try_from(width.unwrap_or(1)).unwrap();
            let shape = std::iter::once(1).chain(width).collect::<Vec<_>>();
            serde_json::json!({"name": input["name"], "datatype": input["datatype"], "shape": shape, "data": vec![1.0; number]})
        }).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "inputs": inputs })).unwrap();
        let mut connection = Connection::open(front.address).unwrap();
        let headers =
            [("traceparent", CALLER), ("tracestate", "vendor=1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        connection.send(&request("POST", "/v2/models/housing/infer", &headers, Some(&body))).unwrap();
        let answer = connection.receive(false).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ours = |span: &Span| is_server(span) && hex(&span.trace_id) == CALLER[3..35];
        let spans = receiver.spans(2, ours);
        front.stop();
        back.stop();
        let roots: Vec<_> = spans.iter().filter(|span| ours(span)).collect();
        let client = spans
            .iter()
            .find(|span| span.kind == SpanKind::Client as i32 && hex(&span.trace_id) == CALLER[3..35]);
        let client = client.unwrap();
        let first = roots.iter().find(|span| hex(&span.parent_span_id) == CALLER[36..52]).unwrap();
        let second = roots.iter().find(|span| span.parent_span_id == client.span_id).unwrap();
        assert_eq!(second.trace_state, "vendor=1");
        assert!(client.start_time_unix_nano >= first.start_time_unix_nano);
        assert_eq!(text(&client.attributes, "server.address").as_deref(), Some("127.0.0.1"));
        let name = if scheme == "grpc" { "inference.GRPCInferenceService/ModelInfer" } else { "POST" };
        assert_eq!(client.name, name);
    }
}

/// Asks `number` times for what is one span each: how many a prediction has depends on how fast the
/// machine is, which decides whether it waits for a thread.
fn ask_often(server: &Server, number: usize) {
    for _ in 0..number {
        assert_eq!(get(server.address, "/v1/models").status, 200);
    }
}

const DROPPED: &str = "weir_telemetry_dropped_total{signal=\"traces\"}";

#[test]
fn the_last_requests_are_sent_behind_the_drain() {
    let receiver = Receiver::start(true, Manner::Takes);
    let place = configured(&housing(), receiver.address, "grpc", "");
    let text = fs::read_to_string(place.path().join("weir.toml")).unwrap().replace("20ms", "1h");
    fs::write(place.path().join("weir.toml"), text).unwrap();
    let server = start(place.path());
    ask_often(&server, 20);
    assert!(receiver.all().is_empty(), "an hour is not over");
    server.stop();
    assert_eq!(receiver.all().len(), 20);
}

#[test]
fn the_last_metrics_are_sent_behind_the_drain() {
    for (protocol, grpc) in [("http", false), ("grpc", true)] {
        let receiver = Receiver::start(grpc, Manner::Takes);
        let more = "metrics = true\nmetrics_interval = \"1h\"\n";
        let place = configured(&housing(), receiver.address, protocol, more);
        let server = start(place.path());
        ask_often(&server, 3);
        assert_eq!(receiver.metrics(), 0, "an hour is not over");
        server.stop();
        assert_eq!(receiver.metrics(), 1);
    }
}

#[test]
fn a_second_signal_ends_at_once_also_while_telemetry_is_sent() {
    let receiver = Receiver::start(false, Manner::Hangs);
    let place =
        configured(&housing(), receiver.address, "http", "timeout = \"1h\"\nflush_timeout = \"1h\"\n");
    let mut server = start(place.path());
    ask_often(&server, 1);
    receiver.asked(1);
    server.signal(Signal::TERM);
    server.await_line(&Regex::new("drained").unwrap());
    assert!(server.insist(Signal::TERM).success(), "what it was asked is answered");
    assert!(server.log().contains("ended by a second signal"), "{}", server.log());
}

#[test]
fn settings_that_serve_would_refuse_are_refused_when_they_are_checked() {
    let place = TempDir::new().unwrap();
    let text = "[telemetry]\nendpoint = \"http://me:hush@a:4318\"\nresource = \"nothing\"\n";
    fs::write(place.path().join("weir.toml"), text).unwrap();
    let mut command = weir(place.path());
    command.args(["config", "check", "--config", "weir.toml", &housing()]);
    let output = command.env("OTEL_EXPORTER_OTLP_HEADERS", "secret").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["weir.toml:2:", "headers_file", "weir.toml:3:", "name=value", "OTEL_EXPORTER_OTLP_HEADERS"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    assert!(!error.contains("hush") && !error.contains("secret"), "{error}");
}

#[test]
fn opentelemetrys_variables_and_what_is_wrong_with_them() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("weir.toml"), "[telemetry]\nservice_name = \"a\"\nsample = 2.0\n").unwrap();
    let check = |name: &str, value: &str| {
        let mut command = weir(place.path());
        command.args(["config", "check", "--config", "weir.toml", &housing()]).env(name, value);
        String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned()
    };
    let error = check("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon");
    assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{error}");
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        let error = check("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        assert!(!error.contains("PROTOCOL") && error.contains("telemetry.sample"), "{protocol}: {error}");
    }
    let error = check("OTEL_SERVICE_NAME", "b");
    assert!(error.contains("weir.toml:3") && error.contains("telemetry.sample"), "{error}");
}

#[test]
fn nothing_is_known_of_telemetry_where_there_is_none() {
    let server = Server::start(TempDir::new().unwrap().path(), &[housing()]);
    assert!(!get(server.address, "/metrics").text().contains("weir_telemetry"));
    assert_eq!(predict(&server, &[("traceparent", CALLER)]).status, 200);
    server.stop();
}
