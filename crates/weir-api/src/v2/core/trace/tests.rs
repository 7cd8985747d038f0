//! Settings that are changed, and the files that come of it.

use std::{fs, path::PathBuf};

use serde_json::Value;
use weir_types::{ErrorCode, SystemClock};

use super::*;

const MOST: u64 = 1 << 20;

struct Traced {
    folder: tempfile::TempDir,
    tracer: Tracer,
    counters: TraceCounters,
}

impl Traced {
    fn new(most: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let counters = TraceCounters { written: Counter::default(), dropped: Counter::default() };
        let file = folder.path().join("trace.json");
        let tracer = Tracer::new(Some(&file), most, &SystemClock, &counters);
        Self { folder, tracer, counters }
    }

    fn set(&self, model: Option<&str>, name: &str, values: &[&str]) -> Result<Shown, Error> {
        let values = values.iter().map(ToString::to_string).collect();
        self.tracer.change(model, &[(name.to_owned(), values)])
    }

    /// Asks `model` so often; returns how many were traced.
    fn ask(&self, model: &str, times: usize) -> usize {
        let record = || Record {
            model: model.into(),
            version: "2".into(),
            id: Some("a\"b".into()),
            marks: vec![("REQUEST_START", Instant::now()), ("REQUEST_END", Instant::now())],
        };
        let samples = (0..times).filter_map(|_| self.tracer.sample(model));
        samples.map(|sample| sample.hand_in(record())).count()
    }

    fn close(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.tracer.close());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<Value> {
        serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap()
    }
}

fn value<'s>(shown: &'s Shown, name: &str) -> &'s str {
    &shown.iter().find(|(n, _)| *n == name).unwrap().1[0]
}

#[test]
fn nothing_is_traced_until_it_is_asked_for() {
    let traced = Traced::new(MOST);
    assert_eq!(traced.ask("m", 5000), 0);
    let shown = traced.tracer.shown(None);
    assert_eq!((value(&shown, "trace_level"), value(&shown, "trace_rate")), ("OFF", "1000"));
    assert_eq!((value(&shown, "trace_count"), value(&shown, "trace_file")), ("-1", "trace.json"));
    traced.set(None, "trace_level", &["TIMESTAMPS"]).unwrap();
    assert_eq!(traced.ask("m", 5000), 5);
}

#[test]
fn a_model_follows_the_global_settings_but_for_its_own() {
    let traced = Traced::new(MOST);
    traced.set(None, "trace_level", &["TIMESTAMPS"]).unwrap();
    traced.set(None, "trace_rate", &["2"]).unwrap();
    traced.set(Some("quiet"), "trace_level", &["OFF"]).unwrap();
    let shown = traced.set(Some("eager"), "trace_rate", &["1"]).unwrap();
    assert_eq!((value(&shown, "trace_level"), value(&shown, "trace_rate")), ("TIMESTAMPS", "1"));
    assert_eq!((traced.ask("quiet", 10), traced.ask("eager", 10), traced.ask("other", 10)), (0, 10, 5));
    // Cleared, it follows again, and a change of the global setting reaches it.
    traced.set(Some("eager"), "trace_rate", &[]).unwrap();
    assert_eq!(traced.ask("eager", 10), 5);
    let shown = traced.set(None, "trace_rate", &[]).unwrap();
    assert_eq!(value(&shown, "trace_rate"), "1000");
    assert_eq!(value(&traced.tracer.shown(Some("eager")), "trace_rate"), "1000");
}

#[test]
fn a_count_ends_tracing_and_is_shown_as_it_falls() {
    let traced = Traced::new(MOST);
    for (name, value) in [("trace_level", "TIMESTAMPS"), ("trace_rate", "1"), ("trace_count", "3")] {
        traced.set(None, name, &[value]).unwrap();
    }
    assert_eq!(traced.ask("m", 2), 2);
    assert_eq!(value(&traced.tracer.shown(None), "trace_count"), "1");
    // Another change leaves it.
    traced.set(None, "trace_rate", &["1"]).unwrap();
    assert_eq!(traced.ask("m", 10), 1);
    traced.close();
    assert_eq!(traced.read("trace.json").len(), 6, "two objects a trace");
    assert_eq!((traced.counters.written.get(), traced.counters.dropped.get()), (3, 0));
}

#[test]
fn what_is_written_has_tritons_form() {
    let traced = Traced::new(MOST);
    traced.set(None, "trace_level", &["TIMESTAMPS"]).unwrap();
    traced.set(None, "trace_rate", &["1"]).unwrap();
    assert_eq!(traced.ask("m", 2), 2);
    traced.close();
    let objects = traced.read("trace.json");
    let (about, stamps) = (&objects[0], &objects[1]);
    assert_eq!((about["model_name"].as_str(), about["model_version"].as_u64()), (Some("m"), Some(2)));
    assert_eq!(about["request_id"], "a\"b");
    assert_eq!(about["id"], stamps["id"]);
    assert_ne!(about["id"], objects[2]["id"]);
    let ns = |i: usize| stamps["timestamps"][i]["ns"].as_u64().unwrap();
    assert!(ns(0) <= ns(1));
    assert_eq!(stamps["timestamps"][1]["name"], "REQUEST_END");
}

#[test]
fn files_of_so_many_traces_are_numbered_and_earlier_ones_kept() {
    let traced = Traced::new(MOST);
    fs::write(traced.file("trace.json.1"), "kept").unwrap();
    for (name, value) in [("trace_level", "TIMESTAMPS"), ("trace_rate", "1"), ("log_frequency", "2")] {
        traced.set(None, name, &[value]).unwrap();
    }
    assert_eq!(traced.ask("m", 5), 5);
    traced.close();
    let lengths = [0, 2, 3].map(|i| traced.read(&format!("trace.json.{i}")).len());
    assert_eq!(lengths, [4, 4, 2]);
    assert_eq!(fs::read(traced.file("trace.json.1")).unwrap(), b"kept");
}

#[test]
fn another_run_goes_on_behind_and_other_files_are_left_alone() {
    let first = Traced::new(MOST);
    let on = |traced: &Traced| {
        traced.set(None, "trace_level", &["TIMESTAMPS"]).unwrap();
        traced.set(None, "trace_rate", &["1"]).unwrap();
    };
    on(&first);
    first.ask("m", 1);
    first.close();
    let counters = TraceCounters { written: Counter::default(), dropped: Counter::default() };
    let tracer = Tracer::new(Some(&first.file("trace.json")), MOST, &SystemClock, &counters);
    let again = Traced { folder: first.folder, tracer, counters };
    on(&again);
    again.ask("m", 2);
    again.close();
    assert_eq!(again.read("trace.json").len(), 6);

    let other = Traced::new(MOST);
    fs::write(other.file("trace.json"), "{\"mine\": true}").unwrap();
    on(&other);
    other.ask("m", 3);
    other.close();
    assert_eq!(fs::read(other.file("trace.json")).unwrap(), b"{\"mine\": true}");
    assert_eq!(other.counters.dropped.get(), 3);
}

#[test]
fn the_bytes_of_all_traces_are_bounded() {
    let traced = Traced::new(8192);
    traced.set(None, "trace_level", &["TIMESTAMPS"]).unwrap();
    traced.set(None, "trace_rate", &["1"]).unwrap();
    traced.ask("m", 200);
    traced.close();
    assert!(fs::metadata(traced.file("trace.json")).unwrap().len() <= 8192);
    let (written, dropped) = (traced.counters.written.get(), traced.counters.dropped.get());
    assert!(written > 10 && dropped > 100 && written + dropped == 200, "{written} {dropped}");
    assert_eq!(traced.read("trace.json").len() as u64, 2 * written, "whole to the last trace");
}

#[test]
fn settings_that_cannot_be_are_refused_and_change_nothing() {
    let traced = Traced::new(MOST);
    let change = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
    for (name, wrong, code) in [
        ("trace_level", "TENSORS", ErrorCode::Unsupported),
        ("trace_level", "MAX", ErrorCode::InvalidArgument),
        ("trace_rate", "0", ErrorCode::InvalidArgument),
        ("trace_rate", "1.5", ErrorCode::InvalidArgument),
        ("trace_count", "-2", ErrorCode::InvalidArgument),
        ("log_frequency", "x", ErrorCode::InvalidArgument),
        ("trace_file", "/etc/passwd", ErrorCode::Unsupported),
        ("trace_mode", "opentelemetry", ErrorCode::Unsupported),
        ("nothing", "1", ErrorCode::InvalidArgument),
    ] {
        let both = [change("trace_rate", "7"), change(name, wrong)];
        assert_eq!(traced.tracer.change(None, &both).unwrap_err().code, code, "{name} {wrong}");
        assert_eq!(value(&traced.tracer.shown(None), "trace_rate"), "1000");
    }
    assert!(traced.set(Some("m"), "log_frequency", &["1"]).is_err());
    traced.set(Some("m"), "log_frequency", &["0"]).unwrap();
    assert!(traced.set(None, "trace_rate", &["1", "2"]).is_err());
    // What was read may be sent back.
    traced.set(None, "trace_file", &["trace.json"]).unwrap();
    traced.set(None, "trace_mode", &["triton"]).unwrap();
    let counters = TraceCounters { written: Counter::default(), dropped: Counter::default() };
    let without = Tracer::new(None, MOST, &SystemClock, &counters);
    let error = without.change(None, &[change("trace_level", "TIMESTAMPS")]).unwrap_err();
    assert!(error.message.contains("`trace_file` under [server]"), "{error}");
}
