//! Settings that are each valid and cannot work.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use weir_api::config::ServerConfig;
use weir_config::{HumanDuration, Places, Problem};

use super::{MOST_THREADS, Settings};
use crate::{environment, telemetry};

/// What is wrong with `settings` as a whole.
pub(super) fn impossible(settings: &Settings, places: &Places) -> Vec<Problem> {
    let server = &settings.server;
    let zero = |duration: HumanDuration| duration.0.is_zero();
    let checks = [
        ("max_connections", server.max_connections == 0, "must be at least 1: nobody could connect"),
        (
            "header_timeout",
            zero(server.header_timeout),
            "must be longer than nothing: no request could be read",
        ),
        ("body_timeout", zero(server.body_timeout), "must be longer than nothing: no body could be read"),
        ("write_timeout", zero(server.write_timeout), "must be longer than nothing: no answer could be sent"),
        (
            "request_timeout",
            zero(server.request_timeout),
            "must be longer than nothing: no request could be answered",
        ),
        (
            "max_queue",
            server.max_queue == 0,
            "must be at least 1: a model with threads of its own could answer nothing",
        ),
        ("threads", server.threads > MOST_THREADS, "is at most 1024; 0 means one a core"),
        (
            "access_log_sample",
            !(0.0..=1.0).contains(&server.access_log_sample),
            "is a share: from 0 to 1, for example 0.01",
        ),
        (
            "max_body_in_flight",
            server.max_body_in_flight < server.max_body,
            "must hold one body of `max_body` at least",
        ),
        (
            "admin_listen",
            server.admin_listen.is_some_and(|address| !address.ip().is_loopback()),
            "must be an address of this machine alone, such as `127.0.0.1:8001`: there is no authentication \
             yet, and whoever reaches it may empty the cache. From elsewhere, use a tunnel (ssh -L) or a proxy \
             that asks for credentials",
        ),
    ];
    let server = checks.map(|(key, broken, why)| (format!("server.{key}"), broken, why));
    let others = others(settings).map(|(key, broken, why)| (key.to_owned(), broken, why));
    let broken = server.into_iter().chain(others).filter(|(_, broken, _)| *broken);
    let problem = |(key, _, why): (String, bool, &str)| places.problem(&key, format!("`{key}` {why}"));
    let level = telemetry::wrong_filter(&settings.log.level);
    let level = level.map(|why| places.problem("log.level", format!("`log.level` {why}")));
    let variable = environment::log_filter().and_then(|filter| telemetry::wrong_filter(&filter));
    let variable = variable.map(|why| Problem::new(Path::new("environment variable RUST_LOG"), why));
    let telemetry = &settings.telemetry;
    let headers = telemetry.wrong_headers(environment::otlp_headers().as_deref());
    let filters = level.into_iter().chain(variable);
    let all = broken.map(problem).chain(shared(&settings.server, places)).chain(filters);
    all.chain(telemetry.impossible(places)).chain(headers).collect()
}

/// The same of other tables.
fn others(settings: &Settings) -> [(&'static str, bool, &'static str); 3] {
    const MOST_WRITES: usize = 1 << 20;
    const LEAST_PURGE_INTERVAL: Duration = Duration::from_millis(10);
    let Settings { cache, state, idempotency, .. } = settings;
    [
        (
            "cache.purge_interval",
            cache.purge_interval.get() < LEAST_PURGE_INTERVAL,
            "must be 10ms at least: each replica asks Redis as often",
        ),
        (
            "state.queue",
            !(1..=MOST_WRITES).contains(&state.queue),
            "must be from 1 to 1048576: that many writes may wait for the disk",
        ),
        (
            "idempotency.ttl",
            idempotency.ttl.get().is_zero(),
            "must be longer than nothing: no answer would be given a second time",
        ),
    ]
}

/// Listeners that want what one above them has.
fn shared(server: &ServerConfig, places: &Places) -> Vec<Problem> {
    let listeners = listeners(server);
    let mut problems = Vec::new();
    for (index, Listen { key, address, without }) in listeners.iter().enumerate() {
        let taken = listeners.iter().take(index).find(|other| overlap(*address, other.address));
        problems.extend(taken.map(|other| {
            let (other, at) = (other.key, other.address);
            let text = format!("`server.{key}` must differ from `server.{other}`, which is {at}; {without}");
            places.problem(&format!("server.{key}"), text)
        }));
    }
    problems
}

/// An address that the server listens on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listen {
    /// Its key in `[server]`.
    pub(crate) key: &'static str,
    pub(crate) address: SocketAddr,
    /// What is so without it.
    without: &'static str,
}

/// All of them, in the order in which they are bound.
pub(crate) fn listeners(server: &ServerConfig) -> Vec<Listen> {
    let all = [
        ("listen", Some(server.listen), ""),
        ("metrics_listen", server.metrics_listen, "without it, metrics are on `listen`"),
        ("grpc_listen", server.grpc_listen, "without it, gRPC is on `listen`"),
        ("admin_listen", server.admin_listen, "it has a listener alone"),
    ];
    let all = all.into_iter();
    all.filter_map(|(key, address, without)| Some(Listen { key, address: address?, without })).collect()
}

/// Whether the system gives one of the two only. Each that asks for port 0 gets one of its own; `0.0.0.0` is every
/// address of IPv4, and `[::]` those of IPv6 too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let holds =
        |all: IpAddr, one: IpAddr| all == one || (all.is_unspecified() && (all.is_ipv6() || one.is_ipv4()));
    one.port() != 0
        && one.port() == other.port()
        && (holds(one.ip(), other.ip()) || holds(other.ip(), one.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_for_one_listener_of_those_that_an_address_holds() {
        for (one, other, both) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("0.0.0.0:80", "[::]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
        ] {
            let of = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((of(one, other), of(other, one)), (both, both), "{one} {other}");
        }
    }
}
