//! schemathesis over the live `/openapi.json`: what is described is what happens.
//!
//! Twice. Lax mode takes `"3"` and `true` for a number, as Pydantic does, while the
//! description says `number`, as FastAPI's does: there the check that whatever breaks the
//! schema is refused has nothing to say. With `coerce = "strict"` it has, and all checks run.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use regex::Regex;
use tempfile::TempDir;

use crate::{
    scenario::copy_tree,
    server::{Server, require_sentiment, root},
};

/// Generated cases an operation, and what they are generated from.
const LIMITS: [&str; 4] = ["--max-examples", "25", "--seed", "20250711"];
/// Fewer cases than this in all means that something kept operations from being tested.
const FEWEST_CASES: u32 = 500;

fn lay_out(place: &Path, strict: bool) {
    for (name, from) in [("housing", "examples/models/housing"), ("sentiment", ".cache/sentiment")] {
        let folder = place.join("models").join(name);
        copy_tree(&root().join(from), &folder);
        let mut manifest = fs::read_to_string(folder.join("model.toml")).unwrap();
        // The longest list allowed is among the cases: 10,000 texts take a debug build minutes.
        manifest = manifest.replace("[limits]\n", "[limits]\nmax_rows = 64\n");
        if strict {
            manifest = make_strict(&manifest);
        }
        fs::write(folder.join("model.toml"), manifest).unwrap();
    }
    let mut models = vec!["models/sentiment".to_owned()];
    // Named so that the description's example of tensors stays housing's: of a model of texts,
    // any body is a request with `Inference-Header-Content-Length: 0`, which no schema can say.
    for (name, from) in [("tagger", "tagger"), ("vectors", "embedder-mean")] {
        let folder = place.join("models").join(name);
        copy_tree(&root().join("crates/weir-artifact/tests/formats/hf").join(from), &folder);
        let mut manifest = weir_artifact::draft(&folder, None).unwrap();
        manifest = manifest.replacen("[limits]\n", "[limits]\nmax_rows = 64\n", 1);
        if strict {
            manifest.push_str("[input]\ncoerce = \"strict\"\n");
        }
        fs::write(folder.join("model.toml"), manifest).unwrap();
        models.push(format!("models/{name}"));
    }
    let config = fs::read_to_string(root().join("examples/weir.toml")).unwrap();
    let config = config.replace("\"../.cache/sentiment\"", &format!("{:?}", models).replace(['[', ']'], ""));
    fs::write(place.join("weir.toml"), config).unwrap();
}

fn make_strict(manifest: &str) -> String {
    match manifest.contains("\n[input]\n") {
        true => manifest.replacen("\n[input]\n", "\n[input]\ncoerce = \"strict\"\n", 1),
        false => manifest.replacen("[[input.field]]", "[input]\ncoerce = \"strict\"\n[[input.field]]", 1),
    }
}

fn run(strict: bool, arguments: &[&str]) {
    require_sentiment();
    let place = TempDir::new().unwrap();
    lay_out(place.path(), strict);
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    check(place.path(), server.address, arguments, FEWEST_CASES);
    server.stop();
}

/// Runs all checks against what is described at `address`.
fn check(place: &Path, address: SocketAddr, arguments: &[&str], fewest: u32) {
    let program = root().join(".cache/venvs/schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is not there: run `make venvs`", program.display());
    let output = Command::new(program)
        .current_dir(place)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", root().join("tests/schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(root().join("tests/schemathesis/schemathesis.toml"))
        .args(["run", &format!("http://{address}/openapi.json"), "--checks", "all", "--no-color"])
        .args(LIMITS)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A failing case can be megabytes long.
    let shown: Vec<_> = text.lines().map(|line| line.chars().take(300).collect::<String>()).collect();
    assert!(output.status.success(), "{}\n{}", shown.join("\n"), String::from_utf8_lossy(&output.stderr));
    let number = |pattern: &str| -> u32 {
        let found =
            Regex::new(pattern).unwrap().captures(&text).unwrap_or_else(|| panic!("no {pattern}:\n{text}"));
        found[1].parse().unwrap()
    };
    let (cases, tested, selected) =
        (number(r"(\d+) generated"), number(r"Tested: (\d+)"), number(r"Selected: (\d+)/"));
    println!("schemathesis: {cases} cases over {tested} operations");
    assert!(cases >= fewest, "only {cases} cases");
    assert_eq!(tested, selected);
}

#[test]
fn lax_models_answer_as_described() {
    run(false, &["--exclude-checks", "negative_data_rejection"]);
}

#[test]
fn strict_models_also_refuse_whatever_the_description_refuses() {
    run(true, &[]);
}

#[test]
fn the_admin_api_answers_as_described() {
    let place = TempDir::new().unwrap();
    let model = root().join("examples/models/housing").to_string_lossy().into_owned();
    fs::write(place.path().join("weir.toml"), "[cache]\nall = true\n").unwrap();
    let arguments = [&model, "--config", "weir.toml", "--admin-listen", "127.0.0.1:0"].map(str::to_owned);
    let mut server = Server::start(place.path(), &arguments);
    check(place.path(), server.admin(), &[], 50);
    server.stop();
}
