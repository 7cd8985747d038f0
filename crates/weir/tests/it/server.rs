//! The real `weir` binary as a child process.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for the server to start or stop: a debug build that loads a transformer on a
/// busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The binary under test, started in `folder` and without the caller's settings.
pub(crate) fn weir(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(folder).stdin(Stdio::null()).env_remove("RUST_LOG").env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        if ["WEIR_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Fails with what to do where the demo's encoder was not fetched.
pub(crate) fn require_sentiment() {
    let encoder = root().join(".cache/sentiment/encoder.onnx");
    assert!(encoder.exists(), "{} is not there: run `make fetch`", encoder.display());
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its admin API is, once that was read.
    admin: Option<SocketAddr>,
}

impl Server {
    /// Starts `weir serve <arguments> --listen 127.0.0.1:0` in `folder` and waits until it
    /// says where it listens.
    pub(crate) fn start(folder: &Path, arguments: &[String]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(folder: &Path, arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let mut command = weir(folder);
        command.envs(environment.iter().copied());
        Self::run(command, arguments, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at an address that is known before.
    pub(crate) fn start_at(folder: &Path, arguments: &[String], listen: SocketAddr) -> Self {
        Self::run(weir(folder), arguments, listen)
    }

    fn run(mut command: Command, arguments: &[String], listen: SocketAddr) -> Self {
        command.arg("serve").args(arguments).args(["--listen", &listen.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                let _ = lines.map(|line| sender.send(line)).find(Result::is_err);
            });
        }
        // The threads hold the only senders: when both pipes close, the channel does.
        drop(sender);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, lines, log: Vec::new(), address: unknown, admin: None };
        // Other lines may name other servers' addresses.
        let listening = Regex::new(r"listening on http://(127\.0\.0\.1:[1-9]\d*)").unwrap();
        let line = server.await_line(&listening);
        server.address = listening.captures(&line).unwrap()[1].parse().unwrap();
        server
    }

    /// Waits for a line of the server's output that matches and was not seen yet.
    pub(crate) fn await_line(&mut self, pattern: &Regex) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if pattern.is_match(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {pattern} within {PATIENCE:?}:\n{}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!(
                        "the server ended ({:?}) without a line with {pattern}:\n{}",
                        self.child.wait(),
                        self.log()
                    )
                }
            }
        }
    }

    /// Where its admin API is: it was started with one.
    pub(crate) fn admin(&mut self) -> SocketAddr {
        if let Some(address) = self.admin {
            return address;
        }
        let told = Regex::new(r"admin API on http://([0-9.]+:[1-9]\d*)").unwrap();
        let seen = self.log.iter().find(|line| told.is_match(line)).cloned();
        let line = seen.unwrap_or_else(|| self.await_line(&told));
        let address = told.captures(&line).unwrap()[1].parse().unwrap();
        *self.admin.insert(address)
    }

    /// What the server has written so far.
    pub(crate) fn log(&mut self) -> String {
        self.log.extend(self.lines.try_iter());
        self.log.join("\n")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end:\n{}", self.log());
            // Both pipes close when the process ends: that is what is waited for, not time.
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
                self.log.push(line);
            }
        }
    }

    /// Sends a signal again and again until the process ends: those that come close together are one.
    pub(crate) fn insist(&mut self, signal: Signal) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end:\n{}", self.log());
            self.signal(signal);
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
                self.log.push(line);
            }
        }
    }

    /// SIGTERM, and the exit status must be 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "after SIGTERM the server ended with {status}:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill; after a failed test there is.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
