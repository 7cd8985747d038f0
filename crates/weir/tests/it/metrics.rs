//! Reading `/metrics`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use regex::Regex;

use crate::{
    client::get,
    server::{PATIENCE, Server, root},
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
