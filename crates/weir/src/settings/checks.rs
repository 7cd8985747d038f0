//! Settings that are each valid and cannot work.

use weir_api::config::ServerConfig;
use weir_config::{HumanDuration, Places, Problem};

use super::Settings;
use crate::{environment, telemetry};

/// What is wrong with `settings` as a whole.
pub(super) fn impossible(settings: &Settings, places: &Places) -> Vec<Problem> {
    const MOST_THREADS: usize = 1_024;
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
            "metrics_listen",
            server.metrics_listen == Some(server.listen),
            "must differ from `listen`; without it, metrics are there",
        ),
        (
            "admin_listen",
            server.admin_listen.is_some_and(|address| !address.ip().is_loopback()),
            "must be an address of this machine alone, such as `127.0.0.1:8001`: there is no authentication \
             yet, and whoever reaches it may empty the cache. From elsewhere, use a tunnel (ssh -L) or a proxy \
             that asks for credentials",
        ),
        (
            "admin_listen",
            admin_is_taken(server),
            "must differ from the other addresses: it has a listener alone",
        ),
    ];
    let broken = checks.into_iter().filter(|(_, broken, _)| *broken);
    let problem = |(key, _, why)| places.problem(&format!("server.{key}"), format!("`server.{key}` {why}"));
    let level = telemetry::wrong_filter(&settings.log.level);
    let level = level.map(|why| places.problem("log.level", format!("`log.level` {why}")));
    let telemetry = &settings.telemetry;
    let headers = telemetry.wrong_headers(environment::otlp_headers().as_deref());
    broken.map(problem).chain(level).chain(telemetry.impossible(places)).chain(headers).collect()
}

/// Whether the admin API would share the address of another listener. The system gives each that
/// asks for port 0 one of its own.
fn admin_is_taken(server: &ServerConfig) -> bool {
    let others = [Some(server.listen), server.metrics_listen, server.grpc_listen];
    server.admin_listen.is_some_and(|admin| admin.port() != 0 && others.contains(&Some(admin)))
}
