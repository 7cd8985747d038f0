//! One `redis-server`.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Certificates,
    process::{Process, free_ports},
};

/// How often another port is tried when somebody was faster.
const TRIES: usize = 5;
/// What a server says once it can be asked.
const READY: &str = "Ready to accept connections";

/// What a server is started with besides its port and folder.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    settings: Vec<(String, String)>,
    tls: bool,
    cluster: bool,
    sentinel: bool,
}

impl RedisOptions {
    /// A line of its configuration.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// It speaks TLS on another port too, with a certificate of [`Certificates`], and wants one from
    /// the client.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    pub(crate) fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts it, and waits until it can be asked.
    pub fn start(self) -> RedisServer {
        let folder = TempDir::new().unwrap();
        let certificates = self.tls.then(|| Certificates::new(folder.path()));
        for _ in 0..TRIES {
            let [port, tls_port, bus_port] = free_ports();
            let ports = Ports { port, tls: tls_port, bus: bus_port };
            let arguments = self.arguments(folder.path(), ports, certificates.as_ref());
            let process = Process::redis(&arguments);
            let ready = if self.sentinel { "Sentinel ID is" } else { READY };
            if process.says(ready) {
                return RedisServer { process, arguments, ports, folder, certificates };
            }
            assert!(process.log().contains("in use"), "redis-server does not start:\n{}", process.log());
        }
        panic!("no free port in {TRIES} tries");
    }

    /// The command line. Everything is there, so that a restart finds the same server.
    fn arguments(&self, folder: &Path, ports: Ports, certificates: Option<&Certificates>) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.sentinel {
            // Sentinels keep what they learn in their configuration file.
            let file = folder.join("sentinel.conf");
            std::fs::write(&file, "").unwrap();
            arguments.extend([file.display().to_string(), "--sentinel".to_owned()]);
        }
        let mut add = |key: &str, value: &str| arguments.extend([format!("--{key}"), value.to_owned()]);
        add("bind", "127.0.0.1");
        add("port", &ports.port.to_string());
        add("dir", &folder.display().to_string());
        if !self.sentinel {
            add("save", "");
            // Replicas are not waited for: there is one.
            add("repl-diskless-sync-delay", "0");
        }
        if self.cluster {
            add("cluster-enabled", "yes");
            add("cluster-port", &ports.bus.to_string());
            add("cluster-node-timeout", "1000");
        }
        if let Some(certificates) = certificates {
            add("tls-port", &ports.tls.to_string());
            add("tls-ca-cert-file", &certificates.ca.display().to_string());
            add("tls-cert-file", &certificates.server.0.display().to_string());
            add("tls-key-file", &certificates.server.1.display().to_string());
        }
        self.settings.iter().for_each(|(key, value)| add(key, value));
        arguments
    }
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    port: u16,
    tls: u16,
    bus: u16,
}

/// A `redis-server` without persistence on a port of 127.0.0.1. It dies with the value.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    arguments: Vec<String>,
    ports: Ports,
    folder: TempDir,
    certificates: Option<Certificates>,
}

impl RedisServer {
    /// One without anything special.
    pub fn start() -> Self {
        RedisOptions::default().start()
    }

    /// One that speaks TLS too: see [`RedisOptions::tls`].
    pub fn start_tls() -> Self {
        RedisOptions::default().tls().start()
    }

    /// One on which nobody may do anything but the user `name`, who may do what `rules` say, as in
    /// `["~weir:*", "+get"]`.
    pub fn start_acl(name: &str, password: &str, rules: &[&str]) -> Self {
        let server = Self::start();
        let (password, mut add) = (format!(">{password}"), vec!["ACL", "SETUSER", name, "on"]);
        add.push(&password);
        add.extend(rules);
        server.ask::<()>(&add);
        // Over the same connection: afterwards nobody could.
        server.ask::<()>(&["ACL", "SETUSER", "default", "off"]);
        server
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.ports.port
    }

    pub(crate) fn bus_port(&self) -> u16 {
        self.ports.bus
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.ports.port)
    }

    /// `rediss://127.0.0.1:port`, of one that speaks TLS.
    pub fn tls_url(&self) -> String {
        assert!(self.certificates.is_some(), "it was started without TLS");
        format!("rediss://127.0.0.1:{}", self.ports.tls)
    }

    /// The certificates of one that speaks TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("it was started without TLS")
    }

    /// Its folder, where a test may leave files that it needs beside the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into its folder.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Asks it something, as `redis-cli` would.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// How often it has run a command, as `INFO commandstats` counts them.
    pub fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
    }

    /// SIGSTOP: it takes connections and never answers.
    pub fn stop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on where it was.
    pub fn cont(&self) {
        self.process.signal(Signal::CONT);
    }

    /// SIGKILL, and waits until it is gone: connections break and new ones are refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, empty, and waits until it can be asked.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::redis(&self.arguments);
        let ready = self.process.says(READY);
        assert!(ready, "redis-server does not start again:\n{}", self.process.log());
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}
