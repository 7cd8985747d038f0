//! Clients of the Open Inference Protocol that nobody here wrote, aimed at the real server:
//! `tests/v2clients/test_*.py`, one suite a client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    python::{passed, python},
    scenario::copy_tree,
    server::{Server, root},
};

/// The library that runs every type of the protocol.
pub(crate) fn onnxruntime() -> PathBuf {
    let lib = root().join(".cache/venvs/onnxruntime/lib");
    let capi = |python: fs::DirEntry| python.path().join("site-packages/onnxruntime/capi");
    let pythons = fs::read_dir(&lib).into_iter().flatten().flatten().map(capi);
    let files = pythons.flat_map(|capi| fs::read_dir(capi).into_iter().flatten().flatten());
    let mut found = files.map(|f| f.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
    });
    found.next().unwrap_or_else(|| panic!("no ONNX Runtime in {}: run `make venvs`", lib.display()))
}

/// The fixtures, and a table twice: as one tensor and as one input a column.
pub(crate) fn lay_out(place: &Path) {
    copy_tree(&root().join("tests/v2clients/models"), &place.join("models"));
    for name in ["housing", "housing_columns"] {
        copy_tree(&root().join("examples/models/housing"), &place.join("models").join(name));
    }
    let manifest = place.join("models/housing_columns/model.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replacen("name = \"housing\"", "name = \"housing_columns\"", 1);
    fs::write(manifest, text + "\n[v2]\ncolumns = true\n").unwrap();
    let config = format!(
        "[server]\nmodels = [\"models\"]\nmodel_control = \"explicit\"\ntrace_file = \"trace.json\"\nonnxruntime = {:?}\n",
        onnxruntime()
    );
    fs::write(place.join("weir.toml"), config).unwrap();
}

/// Runs one suite against a server of its own; `fewest` tests of it must have run. Returns what
/// the server traced, if anything was.
fn run(suite: &str, fewest: u32) -> Option<String> {
    let place = TempDir::new().unwrap();
    lay_out(place.path());
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    run_against(&server, suite, fewest);
    server.stop();
    fs::read_to_string(place.path().join("trace.json")).ok()
}

/// Runs one suite against `server`, which serves what [`lay_out`] writes.
pub(crate) fn run_against(server: &Server, suite: &str, fewest: u32) {
    let mut command = python("v2clients");
    command.arg(root().join("tests/v2clients").join(suite)).env("V2_ADDRESS", server.address.to_string());
    assert!(passed(suite, &mut command) >= fewest);
}

/// The one request that a suite lets be traced is in the file, and no other.
fn is_traced(traces: Option<String>) {
    let traces: serde_json::Value = serde_json::from_str(&traces.unwrap()).unwrap();
    let about: Vec<_> = traces.as_array().unwrap().iter().filter_map(|t| t["request_id"].as_str()).collect();
    assert_eq!(about, ["traced"]);
}

#[test]
fn tritonclient_http() {
    is_traced(run("test_http.py", 23));
}

#[test]
fn tritonclient_http_aio() {
    run("test_http_aio.py", 5);
}

#[test]
fn kserve_rest() {
    run("test_kserve_rest.py", 3);
}

#[test]
fn tritonclient_grpc() {
    is_traced(run("test_grpc.py", 17));
}

#[test]
fn tritonclient_grpc_aio() {
    run("test_grpc_aio.py", 3);
}

#[test]
fn kserve_grpc() {
    run("test_kserve_grpc.py", 2);
}
