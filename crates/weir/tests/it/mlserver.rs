//! Weir in front of a server that nobody here wrote: MLServer, which speaks JSON only.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use regex::Regex;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    client::ask,
    server::{Server, root},
};

struct MlServer {
    child: Child,
    address: SocketAddr,
}

impl MlServer {
    fn start() -> Self {
        let program = root().join(".cache/venvs/mlserver/bin/mlserver");
        assert!(program.exists(), "{} is not there: run `make venvs`", program.display());
        let mut command = Command::new(program);
        command.args(["start", "."]).current_dir(root().join("tests/mlserver/both"));
        command.env("PYTHONPATH", ".").env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let running = Regex::new(r"Uvicorn running on http://(\S+)").unwrap();
        let address = lines.find_map(|line| running.captures(&line)?[1].parse().ok());
        // Read on, or its log would fill the pipe; ends with the process.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(address) = address else { panic!("MLServer ended: {:?}", child.wait()) };
        Self { child, address }
    }
}

impl Drop for MlServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_model_of_mlserver_is_served_with_types_and_validation() {
    let far = MlServer::start();
    let place = TempDir::new().unwrap();
    let folder = place.path().join("louder");
    fs::create_dir(&folder).unwrap();
    let manifest = format!(
        "[remote]\nurl = \"http://{}\"\nmodel = \"both\"\n\n[[input.field]]\nname = \"x\"\n\n\
         [[input.field]]\nname = \"word\"\nshape = [1]\nmax_length = 5\n",
        far.address
    );
    fs::write(folder.join("model.toml"), manifest).unwrap();
    let server = Server::start(place.path(), &[".".into()]);
    let post = |path: &str, body: serde_json::Value| {
        ask(server.address, "POST", path, Some(body.to_string().as_bytes()))
    };

    let rows = json!([{"x": [1, 2.5, -3], "word": ["ä\"b"]}, {"x": [0, 0, 1e-3], "word": [""]}]);
    let answer = post("/v1/models/louder:predict", json!({ "instances": rows }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!(said["predictions"][0]["y"], json!([2.0, 5.0, -6.0]), "{said}");
    assert_eq!(said["predictions"][0]["loud"], json!("Ä\"B"), "{said}");
    assert_eq!(said["predictions"][1]["loud"], json!(""), "{said}");

    let long = post("/v1/models/louder:predict", json!({"x": [1, 2, 3], "word": ["too long"]}));
    assert_eq!(long.status, 422, "{}", long.text());
    let tensor = |shape: [usize; 2], data: serde_json::Value| json!({"name": "x", "datatype": "FP32", "shape": shape, "data": data});
    let word = json!({"name": "word", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]});
    let v2 = |x: serde_json::Value| post("/v2/models/louder/infer", json!({ "inputs": [x, word] }));
    let answer = v2(tensor([1, 3], json!([1, 2, 3])));
    assert_eq!(answer.json()["outputs"][0]["data"], json!([2.0, 4.0, 6.0]), "{}", answer.text());
    assert_eq!(v2(tensor([1, 2], json!([1, 2]))).status, 400);
    server.stop();
}
