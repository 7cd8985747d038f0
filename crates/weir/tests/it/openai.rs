//! The Python client of OpenAI, aimed at the real server: `tests/openai/test_openai.py`.

use std::fs;

use tempfile::TempDir;

use crate::{
    python::{passed, python},
    scenario::copy_tree,
    server::{Server, root},
};

#[test]
fn openais_client_gets_its_embeddings() {
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
    let mut suite = python("openai");
    suite.arg(root().join("tests/openai/test_openai.py")).env("WEIR_ADDRESS", server.address.to_string());
    assert!(passed("openai", &mut suite) >= 10);
    server.stop();
}
