//! The manifests of `deploy/`: rendered, checked by schema and by policy, and what they tell the
//! binary tried with the binary: `tests/deploy`.

use std::env;

use crate::{
    python::{passed, python},
    server::{require_sentiment, root},
};

#[test]
fn manifests_are_what_they_should_be() {
    require_sentiment();
    let made = root().join(".cache/venvs/deploy/made-of");
    assert!(made.exists(), "{} is not there: run `make venvs`", made.display());
    let servers = root().join(".cache/servers/bin");
    let mut suite = python("deploy");
    suite.args(["-m", "unittest", "discover"]).current_dir(root().join("tests/deploy"));
    suite.env("WEIR", env!("CARGO_BIN_EXE_weir"));
    suite.env("PATH", format!("{}:{}", servers.display(), env::var("PATH").unwrap_or_default()));
    assert!(passed("deploy", &mut suite) >= 22);
}
