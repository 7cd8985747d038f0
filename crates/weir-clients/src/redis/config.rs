//! The table `[redis]` of `weir.toml`.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::HumanDuration;

/// How a Redis (or Valkey) is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// One server, a master that sentinels name, or a cluster.
    pub mode: RedisMode,
    /// The server in mode `single`: `redis://host:6379/0`, or `rediss://…` for TLS.
    pub url: Option<String>,
    /// Sentinels, or some nodes of the cluster, as URLs of the same form; all with TLS or none.
    pub nodes: Vec<String>,
    /// The name under which sentinels know the master.
    pub master: String,
    /// Number of the database; a cluster has 0 only.
    pub database: u32,
    /// ACL user; without it, the user `default`.
    pub username: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// ACL user of the sentinels, which know none of the server's.
    pub sentinel_username: Option<String>,
    /// File that holds the sentinels' password.
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM file of the authorities that a server's certificate is checked by; without it, those of
    /// the machine.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate that Weir shows; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of that certificate's private key.
    pub key_file: Option<PathBuf>,
    /// What every key begins with, followed by a colon, so that others may use the same Redis.
    pub prefix: String,
    /// Longest that one look-up may take, however many keys it is for; after that it goes on
    /// without an answer.
    pub timeout: HumanDuration,
    /// Longest that making a connection may take, TLS and authentication included.
    pub connect_timeout: HumanDuration,
}

/// What stands behind the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server, at `url`.
    #[default]
    Single,
    /// Sentinels at `nodes`, which name the master.
    Sentinel,
    /// A cluster, of which `nodes` are some.
    Cluster,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            mode: RedisMode::Single,
            url: None,
            nodes: Vec::new(),
            master: "mymaster".to_owned(),
            database: 0,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "weir".to_owned(),
            // With the timer's grain of a millisecond, a request waits 20 ms at most.
            timeout: HumanDuration::from_millis(18),
            // With the timeouts before it, a server that hangs is known to be away within a second.
            connect_timeout: HumanDuration::from_millis(800),
        }
    }
}

impl RedisConfig {
    /// One server at `url`, everything else as by default.
    pub fn single(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// The files that it names: whoever read the configuration knows what they are relative to.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let files = [
            ("password_file", &mut self.password_file),
            ("sentinel_password_file", &mut self.sentinel_password_file),
            ("ca_file", &mut self.ca_file),
            ("cert_file", &mut self.cert_file),
            ("key_file", &mut self.key_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.as_mut()?)))
    }
}

/// One thing that is wrong with a [`RedisConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisProblem {
    /// The key in the table.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub text: String,
}

/// Why a [`RedisConfig`] cannot work: every problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RedisConfigError(pub Vec<RedisProblem>);

impl fmt::Display for RedisConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |p: &RedisProblem| format!("`redis.{}` {}", p.key, p.text);
        write!(f, "{}", self.0.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
