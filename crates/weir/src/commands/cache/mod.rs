//! `weir cache`.

mod explain;
mod purge;
mod stats;
mod warm;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use weir_api::config::ServerConfig;
use weir_clients::{Client, Reply};

use crate::{
    args::{AdminPlace, Cache, Sources},
    output::Output,
    settings,
};

/// Where the admin API is looked for where nothing says it.
const ADMIN: &str = "http://127.0.0.1:8001";
/// How long an answer may take: purging Redis looks at every key there.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(command: Cache, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Cache::Stats(place) => stats::run(&place, output),
        Cache::Purge(options) => purge::run(&options, output),
        Cache::Warm(options) => warm::run(&options, output),
        Cache::Explain(options) => explain::run(&options, output),
    }
}

/// The server's settings, where there is a file; the environment counts either way.
fn server(config: &[PathBuf]) -> anyhow::Result<ServerConfig> {
    let sources = Sources { paths: Vec::new(), config: config.to_vec() };
    Ok(settings::load(&sources, Vec::new())?.value.server)
}

/// The URL of an address that a server listens on: from all addresses, this machine's own.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let loopback: SocketAddr = match address {
            SocketAddr::V4(_) => ([127, 0, 0, 1], address.port()).into(),
            SocketAddr::V6(_) => ([0, 0, 0, 0, 0, 0, 0, 1], address.port()).into(),
        };
        address = loopback;
    }
    format!("http://{address}")
}

/// Whether an answer with this status and body says what was asked.
type Good = fn(u16, &Value) -> bool;

fn is_ok(status: u16, _: &Value) -> bool {
    status == 200
}

/// The admin API of a server.
struct Admin {
    client: Client,
    url: String,
}

impl Admin {
    fn at(place: &AdminPlace) -> anyhow::Result<Self> {
        let url = match &place.url {
            Some(url) => url.clone(),
            None => match server(&place.config)?.admin_listen {
                Some(address) => url(address),
                None if !place.config.is_empty() => bail!(
                    "the configuration has no admin API: set `admin_listen = \"127.0.0.1:8001\"` under [server], \
                     or name one with --url"
                ),
                None => ADMIN.to_owned(),
            },
        };
        Ok(Self { client: Client::new(&url, TIMEOUT), url })
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.read(self.client.get(path), is_ok)
    }

    fn post(&self, path: &str, body: &Value, good: Good) -> anyhow::Result<Value> {
        self.read(self.client.post_json(path, body.to_string().as_bytes()), good)
    }

    /// Asks to compare two bodies.
    fn post_raw(&self, body: &[u8]) -> anyhow::Result<Value> {
        self.read(self.client.post_json("/admin/v1/cache:explain", body), is_ok)
    }

    /// The body of a `good` answer.
    fn read(&self, reply: Result<Reply, weir_clients::ClientError>, good: Good) -> anyhow::Result<Value> {
        let reply = reply.with_context(|| {
            format!(
                "no admin API answers at {}: it is where the server's `admin_listen` is (weir serve \
                 --admin-listen 127.0.0.1:8001), or name it with --url",
                self.url
            )
        })?;
        match serde_json::from_slice::<Value>(&reply.body) {
            Ok(body) if good(reply.status, &body) => Ok(body),
            Ok(body) => match body["detail"].as_str() {
                Some("Not Found") => bail!("{} is no admin API of Weir, or an older one's", self.url),
                Some(why) => bail!("{why}"),
                None => bail!("{} answered {}: {body}", self.url, reply.status),
            },
            Err(_) => bail!("{} answers, but not as Weir's admin API does", self.url),
        }
    }
}

/// A count of the answer.
fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// What share `part` is of `whole`.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_this_machines_own() {
        for (address, wanted) in [
            ("0.0.0.0:8000", "http://127.0.0.1:8000"),
            ("[::]:80", "http://[::1]:80"),
            ("10.1.2.3:1", "http://10.1.2.3:1"),
        ] {
            assert_eq!(url(address.parse().unwrap()), wanted);
        }
    }

    #[test]
    fn shares_of_nothing_are_none() {
        assert_eq!((share(0, 0), share(1, 3)), ("–".to_owned(), "33.3 %".to_owned()));
    }
}
