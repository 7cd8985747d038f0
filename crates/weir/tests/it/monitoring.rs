//! Dashboards, rules, runbooks and the compose file: `tests/monitoring`, which runs every PromQL
//! expression against a real Prometheus that scrapes the real server.

use std::process::Command;

use regex::Regex;

use crate::server::root;

#[test]
fn every_expression_has_data_and_every_alert_its_fault() {
    let python = root().join(".cache/venvs/monitoring/bin/python");
    assert!(python.exists(), "{} is not there: run `make venvs servers`", python.display());
    let mut command = Command::new(python);
    command.args(["-m", "unittest", "discover", "--start-directory", "tests/monitoring"]).current_dir(root());
    command.env("WEIR_BINARY", env!("CARGO_BIN_EXE_weir")).env("PYTHONDONTWRITEBYTECODE", "1");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        if name != "WEIR_BINARY" {
            command.env_remove(name);
        }
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{text}");
    let ran = Regex::new(r"Ran (\d+) tests").unwrap().captures(&text).map(|found| found[1].parse());
    let ran: u32 = ran.unwrap_or_else(|| panic!("no count:\n{text}")).unwrap();
    print!("{said}");
    println!("monitoring: {ran} tests");
    assert!(ran >= 30 && !text.contains("skipped"), "{text}");
}
