//! Three replicas behind Envoy and HAProxy, restarted, killed and stopped under load: `tests/rolling`.

use crate::{
    python::{passed, python},
    server::{require_sentiment, root},
};

/// Runs one suite, or some classes of it, against the binary under test; `count` tests must have run.
fn run(suite: &str, classes: &[&str], count: u32) {
    let mut command = python("rolling");
    command.arg(root().join("tests/rolling").join(suite)).args(classes);
    command.env("WEIR", env!("CARGO_BIN_EXE_weir")).env_remove("ROLLING");
    assert_eq!(passed(suite, &mut command), count);
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
fn the_proxies_configurations_are_valid_agree_and_repeat_what_may_be() {
    run("test_configs.py", &[], 10);
    run("test_repeats.py", &[], 9);
}
