//! Three replicas behind Envoy and HAProxy, restarted, killed and stopped under load: `tests/rolling`.

use std::process::Command;

use regex::Regex;

use crate::server::{require_sentiment, root};

/// Runs one suite, or some classes of it, against the binary under test; `count` tests must have run.
fn run(suite: &str, classes: &[&str], count: u32) {
    let python = root().join(".cache/venvs/rolling/bin/python");
    assert!(python.exists(), "{} is not there: run `make venvs`", python.display());
    let output = Command::new(python)
        .arg(root().join("tests/rolling").join(suite))
        .args(classes)
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("ROLLING")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // The table of what was sent, answered, failed and retried.
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{text}");
    let ran = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let ran: u32 = ran.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    println!("{suite}: {ran} tests");
    assert!(ran == count && !text.contains("skipped"), "{text}");
}

// Two processes: most of their time is waiting.
#[test]
fn nothing_is_lost_while_replicas_restart() {
    run("test_rolling.py", &["Restarts"], 4);
}

#[test]
fn losses_and_overload_stay_bounded() {
    require_sentiment();
    run("test_rolling.py", &["Losses", "Sharing"], 7);
}

#[test]
fn the_proxies_configurations_are_valid_and_agree() {
    run("test_configs.py", &[], 9);
}
