//! SIGTERM while models load. What the first process of a container makes of it is seen in
//! `tests/container`; here, that it is caught and not left to the system.

use std::{fs, process::Child, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server::{require_sentiment, root, weir};

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
