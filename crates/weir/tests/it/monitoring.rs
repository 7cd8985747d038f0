//! Dashboards, rules, runbooks and the compose file: `tests/monitoring`, which runs every PromQL
//! expression against a real Prometheus that scrapes the real server.

use crate::{
    python::{passed, python},
    server::root,
};

#[test]
fn every_expression_has_data_and_every_alert_its_fault() {
    let mut suite = python("monitoring");
    suite.args(["-m", "unittest", "discover", "--start-directory", "tests/monitoring"]).current_dir(root());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        suite.env_remove(name);
    }
    suite.env("WEIR_BINARY", env!("CARGO_BIN_EXE_weir"));
    assert!(passed("monitoring", &mut suite) >= 30);
}
