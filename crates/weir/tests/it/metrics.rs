//! Reading `/metrics`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data},
};
use prost::Message;
use regex::Regex;

use crate::{
    client::get,
    server::{PATIENCE, Server, root, weir},
};

/// The value of the sample called `name` (with its labels, as the exposition writes them).
pub(crate) fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Asks until `name` is as `wanted`; returns the value. Nothing announces a change of a
/// counter, so it is asked again and again.
pub(crate) fn await_metric(address: SocketAddr, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = metric(address, name);
        if wanted(value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{name} stays at {value}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A server that has answered something.
fn loaded() -> Server {
    let server = Server::start(&root(), &["examples/models/housing".to_owned()]);
    assert_eq!(get(server.address, "/readyz").status, 200);
    server
}

fn promtool() -> PathBuf {
    let unpacked = root().join(".cache/servers/bin/promtool");
    if unpacked.exists() { unpacked } else { "promtool".into() }
}

/// What Prometheus itself finds wrong with names, types, help and units.
#[test]
fn prometheus_finds_nothing_wrong() {
    let server = loaded();
    let text = get(server.address, "/metrics").text();
    let mut command = Command::new(promtool());
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("promtool: {e}; run scripts/servers.sh prometheus"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.trim().is_empty(), "{told}");
    server.stop();
}

fn names(text: &str, pattern: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// The Rust files of a folder and a file beside it.
fn sources(module: &Path) -> String {
    let files = fs::read_dir(module).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.file_stem().is_some_and(|name| name != "tests"));
    files.chain([module.with_extension("rs")]).map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn the_page_of_metrics_has_each_that_there_is_and_no_other() {
    let page = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let told = names(&page, r"(?m)[|,] `((?:weir|process)_[a-z0-9_]+)`");
    let server = loaded();
    let text = get(server.address, "/metrics").text();
    let exposed = names(&text, r"(?m)^# TYPE (\S+) ");
    assert!(exposed.len() > 30 && exposed.is_subset(&told), "not told: {:?}", exposed.difference(&told));
    // What this server has no part of, the source names, without the suffixes that encoding adds.
    let source = sources(&root().join("crates/weir-api/src/metrics"));
    let named = names(&source, r#""((?:weir|process)_[a-z0-9_]+)""#);
    let bare = |name: &String| {
        let name = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        let unit = name.strip_suffix("_seconds").filter(|bare| named.contains(*bare));
        unit.unwrap_or(name).to_owned()
    };
    let told: BTreeSet<_> = told.iter().map(bare).collect();
    assert_eq!(told, named, "left: the page; right: the source");
    server.stop();
}

#[test]
fn top_shows_those_that_answer_and_names_the_one_that_does_not() {
    let server = loaded();
    let here = format!("http://{}", server.address);
    // Asked of the system and given back: nobody listens there.
    let away = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let top = |arguments: &[&str]| {
        let mut command = weir(Path::new("."));
        command.args(["top", "--interval", "0.2"]).args(arguments).output().unwrap()
    };
    let json = top(&["--json", &here, &away]);
    assert!(json.status.success(), "one that answers is enough");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["servers"][0]["ready"], true);
    assert!(json["servers"][0]["resident_bytes"].as_f64().unwrap() > 1e6);
    assert!(json["servers"][1]["away"].as_str().unwrap().contains("refused"), "{json}");
    assert_eq!(json["models"]["housing"]["requests_per_second"], 0.0);
    // Without a terminal there is no screen, also without --once.
    let text = String::from_utf8(top(&[&here]).stdout).unwrap();
    assert!(text.contains("all models") && !text.contains('\x1b'), "{text}");
    let nobody = top(&["--once", &away]);
    assert_eq!(nobody.status.code(), Some(1));
    server.stop();
}

/// Takes one message of OTLP over HTTP, and answers that it was taken.
fn taken(receiver: &TcpListener) -> ExportMetricsServiceRequest {
    let (stream, _) = receiver.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head += &std::mem::take(&mut line).to_ascii_lowercase();
    }
    assert!(head.starts_with("post /v1/metrics ") && head.contains("application/x-protobuf"), "{head}");
    let length = Regex::new(r"content-length: (\d+)").unwrap().captures(&head).unwrap()[1].parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer).unwrap();
    ExportMetricsServiceRequest::decode(&*body).unwrap()
}

#[test]
fn what_is_sent_over_otlp_is_what_metrics_says() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = tempfile::TempDir::new().unwrap();
    let config = format!(
        "[server]\nmodels = [{:?}]\n[telemetry]\nendpoint = \"http://{}\"\ntraces = false\nmetrics = true\n\
         metrics_interval = \"200ms\"\n",
        root().join("examples/models/housing"),
        receiver.local_addr().unwrap()
    );
    fs::write(place.path().join("weir.toml"), config).unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let first = taken(&receiver);
    let resource = first.resource_metrics[0].resource.clone().unwrap();
    assert!(resource.attributes.iter().any(|pair| pair.key == "service.name"));
    (0..7).for_each(|_| assert_eq!(get(server.address, "/health").status, 200));
    // Totals are cumulative: a later message says at least what an earlier one did.
    let health = |message: &ExportMetricsServiceRequest| {
        let metrics = &message.resource_metrics[0].scope_metrics[0].metrics;
        let named = |name: &str| metrics.iter().find(|metric| metric.name == name).cloned();
        let Some(Metric { data: Some(Data::Histogram(took)), unit, .. }) =
            named("weir_request_duration_seconds")
        else {
            panic!("no histogram of requests")
        };
        assert_eq!(unit, "s");
        assert!(named("weir_model_info").is_some() && named("process_cpu_seconds").is_some());
        let of_health = took.data_points.into_iter().find(|point| {
            point.attributes.iter().any(|pair| format!("{:?}", pair.value).contains("\"/health\""))
        });
        let point = of_health.unwrap();
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        point.count
    };
    let deadline = Instant::now() + PATIENCE;
    while health(&taken(&receiver)) != 7 {
        assert!(Instant::now() < deadline, "the requests were never told");
    }
    server.stop();
}
