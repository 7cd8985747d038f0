//! The Python client of OpenAI, aimed at the real server: `tests/openai/test_openai.py`.

use std::{fs, process::Command};

use regex::Regex;
use tempfile::TempDir;

use crate::{
    scenario::copy_tree,
    server::{Server, root},
};

#[test]
fn openais_client_gets_its_embeddings() {
    let python = root().join(".cache/venvs/openai/bin/python");
    assert!(python.exists(), "{} is not there: run `make venvs`", python.display());
    let place = TempDir::new().unwrap();
    let formats = root().join("crates/weir-artifact/tests/formats/hf");
    for name in ["classifier", "embedder-cls", "embedder-max", "embedder-mean"] {
        copy_tree(&formats.join(name), &place.path().join("models").join(name));
    }
    fs::create_dir_all(place.path().join("models/broken")).unwrap();
    fs::write(place.path().join("models/broken/model.onnx"), "garbage").unwrap();
    let config = "[server]\nmodels = [\"models\"]\nmax_body = \"2MiB\"\n";
    fs::write(place.path().join("weir.toml"), config).unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let output = Command::new(python)
        .arg(root().join("tests/openai/test_openai.py"))
        .env("WEIR_ADDRESS", server.address.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let count = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let count: u32 = count.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    println!("openai: {count} tests");
    assert!(count >= 10 && !text.contains("skipped"), "{text}");
    server.stop();
}
