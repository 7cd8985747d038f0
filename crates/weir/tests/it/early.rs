//! SIGTERM while models load. What the first process of a container makes of it is seen in
//! `tests/container`; here, that it is caught and not left to the system.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server::{Server, require_sentiment, root, weir};

/// Whether the process has asked for SIGTERM: its bit in `SigCgt` of proc_pid_status(5).
fn catches_sigterm(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::TERM.as_raw() - 1)) != 0
}

#[test]
fn a_signal_ends_it_while_models_load() {
    require_sentiment();
    let place = TempDir::new().unwrap();
    // On a machine that halts this thread at the wrong moment, it may have loaded by then.
    for _ in 0..10 {
        let mut command = weir(place.path());
        command.arg("serve").arg(root().join(".cache/sentiment")).args(["--listen", "127.0.0.1:0"]);
        let mut child = command.spawn().unwrap();
        while !catches_sigterm(&child) {
            thread::yield_now();
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        match child.wait().unwrap().code() {
            Some(143) => return,
            // It had loaded, and drained.
            Some(0) => {}
            other => panic!("ended with {other:?}"),
        }
    }
    panic!("it never heard the signal while it loaded");
}

#[test]
fn a_signal_right_behind_its_start_drains() {
    let place = TempDir::new().unwrap();
    let model = root().join("examples/models/housing").to_string_lossy().into_owned();
    for _ in 0..20 {
        // It stops with status 0, and not with that of a server that loads.
        Server::start(place.path(), std::slice::from_ref(&model)).stop();
    }
}

#[test]
fn a_reload_that_is_asked_for_while_models_load_comes_behind_the_start() {
    require_sentiment();
    let place = TempDir::new().unwrap();
    let mut command = weir(place.path());
    command.arg("serve").arg(root().join(".cache/sentiment")).args(["--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // SIGHUP is asked for before SIGTERM is.
    while !catches_sigterm(&child) {
        thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    for wanted in ["listening on", "models changed"] {
        assert!(lines.any(|line| line.contains(wanted)), "it ended without `{wanted}`: {:?}", child.wait());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
