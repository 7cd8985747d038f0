//! The load tests of `bench/k6` run, pass, and can fail.

use std::{fs, path::Path, process::Command};

use crate::{
    drain::serve,
    server::{Server, require_sentiment, root},
};

/// What k6 exits with when a threshold is crossed.
const CROSSED: i32 = 99;

/// Runs a script for some seconds; its exit status and what it said.
fn k6(script: &str, server: &Server, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let program = root().join(".cache/venvs/k6/bin/k6");
    assert!(program.exists(), "{} is not there: run `make venvs`", program.display());
    let done = Command::new(program)
        .args(["run", "--quiet", "--no-color", "--address", "127.0.0.1:0"])
        .arg(root().join("bench/k6").join(script))
        .env("K6_NO_USAGE_REPORT", "true")
        .env("URL", format!("http://{}", server.address))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (done.status.code(), text)
}

/// The script passes; with `impossible` on top it must not, and names `crossed`.
fn passes_and_can_fail(
    script: &str,
    server: &Server,
    settings: &[(&str, &str)],
    impossible: (&str, &str),
    crossed: &str,
) {
    let (code, text) = k6(script, server, settings);
    assert_eq!(code, Some(0), "{script}: {text}");
    let (code, text) = k6(script, server, &[settings, &[impossible]].concat());
    assert_eq!(code, Some(CROSSED), "{script} with {impossible:?}: {text}");
    assert!(text.contains(crossed), "{script} with {impossible:?}: {text}");
}

/// The golden rows with one prediction that no model gives.
fn wrong_samples(place: &Path) -> String {
    let samples = fs::read_to_string(root().join("examples/models/housing/samples.jsonl")).unwrap();
    let mut first: serde_json::Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    first["prediction"] = 0.123.into();
    let path = place.join("wrong.jsonl");
    fs::write(&path, first.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn smoke() {
    let (place, server) = serve(&["examples/models/housing"], "");
    let wrong = wrong_samples(place.path());
    passes_and_can_fail("smoke.js", &server, &[], ("SAMPLES", &wrong), "wrong");
    server.stop();
}

#[test]
fn load_with_repeated_bodies() {
    let (_place, server) = serve(&["examples/models/housing"], "\n[cache]\nall = true\n");
    // A debug build beside other tests: the objective is generous, the cache's share is not.
    let settings =
        [("RATE", "40"), ("DURATION", "5s"), ("P99_MS", "20000"), ("KNOWN", "10"), ("HITS", "0.7")];
    passes_and_can_fail("load.js", &server, &settings, ("P99_MS", "0"), "http_req_duration");
    server.stop();
}

#[test]
fn load_without_a_cache_finds_no_hits() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let settings = [("RATE", "20"), ("DURATION", "2s"), ("P99_MS", "20000"), ("HITS", "0.01")];
    let (code, text) = k6("load.js", &server, &settings);
    assert_eq!(code, Some(CROSSED), "{text}");
    assert!(text.contains("cache_hits"), "{text}");
    server.stop();
}

#[test]
fn stress_is_refused_as_it_should_be() {
    require_sentiment();
    let (_place, server) = serve(&[".cache/sentiment"], "threads = 1\nmax_queue = 4");
    let samples = root().join(".cache/sentiment/samples.jsonl");
    let settings = [
        ("MODEL", "sentiment"),
        ("SAMPLES", samples.to_str().unwrap()),
        ("REPEAT", "1"),
        ("RATE", "2"),
        ("PEAK", "600"),
        ("STEP", "2s"),
        ("VUS", "200"),
        ("REFUSED_P99_MS", "20000"),
    ];
    passes_and_can_fail("stress.js", &server, &settings, ("REFUSED_P99_MS", "0"), "refused_duration");
    server.stop();
}

#[test]
fn soak_sees_what_grows() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    // In some seconds a megabyte is a steep slope: what fails is a bound below nothing.
    let settings = [
        ("RATE", "20"),
        ("DURATION", "6s"),
        ("EVERY", "0.5"),
        ("WARMUP", "2"),
        ("SLOPE_MIB_H", "20000"),
        ("FDS", "40"),
    ];
    passes_and_can_fail("soak.js", &server, &settings, ("SLOPE_MIB_H", "-1000000"), "rss_slope");
    server.stop();
}
