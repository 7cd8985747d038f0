//! A child process whose log is read as it comes.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest that anything may take that a test waits for, on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `redis-server` that runs.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// `redis-server` with these arguments: the one that `scripts/servers.sh` unpacked, else the one on
    /// `PATH`.
    pub(crate) fn redis(arguments: &[String]) -> Self {
        let mut command = Command::new(redis_program());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server cannot be started ({error}): run `make servers`"));
        let log = Arc::new(Log::default());
        let (output, reading) = (child.stdout.take().unwrap(), log.clone());
        thread::spawn(move || reading.follow(BufReader::new(output)));
        Self { child, log }
    }

    /// Waits until a line of its log holds `text`; `false` if the process ended before.
    pub(crate) fn says(&self, text: &str) -> bool {
        let state = self.log.state.lock().unwrap();
        let said = |state: &LogState| state.lines.iter().any(|l| l.contains(text));
        let (state, waited) =
            self.log.grown.wait_timeout_while(state, PATIENCE, |state| !state.ended && !said(state)).unwrap();
        assert!(!waited.timed_out(), "no {text:?} in its log:\n{}", state.lines.join("\n"));
        said(&state)
    }

    /// All that it said.
    pub(crate) fn log(&self) -> String {
        self.log.state.lock().unwrap().lines.join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("redis-server is gone: {error}\n{}", self.log()));
    }

    /// Ends it without a chance to say anything, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Log {
    fn follow(&self, output: impl BufRead) {
        for line in output.lines() {
            let Ok(line) = line else { break };
            self.state.lock().unwrap().lines.push(line);
            self.grown.notify_all();
        }
        self.state.lock().unwrap().ended = true;
        self.grown.notify_all();
    }
}

fn redis_program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/servers/bin/redis-server");
    if unpacked.exists() { unpacked } else { PathBuf::from("redis-server") }
}

/// Ports on which nobody listens now. Held all at once, so that they differ.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
