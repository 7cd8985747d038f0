//! The manifests of `deploy/`: rendered, checked by schema and by policy, and what they tell the
//! binary tried with the binary: `tests/deploy`.

use std::{env, process::Command};

use regex::Regex;

use crate::server::{require_sentiment, root};

#[test]
fn manifests_are_what_they_should_be() {
    require_sentiment();
    let made = root().join(".cache/venvs/deploy/made-of");
    assert!(made.exists(), "{} is not there: run `make venvs`", made.display());
    let servers = root().join(".cache/servers/bin");
    let output = Command::new(root().join(".cache/venvs/deploy/bin/python"))
        .args(["-B", "-m", "unittest", "discover"])
        .current_dir(root().join("tests/deploy"))
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("PATH", format!("{}:{}", servers.display(), env::var("PATH").unwrap_or_default()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let count = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let count: u32 = count.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    println!("deploy: {count} tests");
    assert!(count >= 22 && !text.contains("skipped"), "{text}");
}
