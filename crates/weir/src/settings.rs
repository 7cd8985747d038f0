//! `weir.toml`, with environment and flags laid over it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_api::{
    RouteProblem,
    config::{RouteConfig, ServerConfig},
};
use weir_artifact::Candidate;
use weir_clients::redis::{Redis, RedisConfig, RedisConfigError, RedisProblem};
use weir_config::{HumanDuration, Loaded, Origin, Override, Places, Problem};
use weir_engine::EngineOptions;
use weir_features::{IdempotencyConfig, StateConfig, ViewConfig};
use weir_serving::{
    CacheConfig, Cores, Failure, KeepSequences, LoadOptions, Loader, MemoryBudget, ServedVersion,
};
use weir_types::{Clock, SystemClock};

use crate::{
    args::Sources,
    environment,
    telemetry::{LogConfig, TelemetryConfig},
};

/// `weir.toml`: the server, its logs, and the routes that an operator declares.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The server.
    pub(crate) server: ServerConfig,
    /// Its logs.
    pub(crate) log: LogConfig,
    /// What is sent to an OTLP receiver: traces.
    pub(crate) telemetry: TelemetryConfig,
    /// Which models keep their answers, and where.
    pub(crate) cache: CacheConfig,
    /// The Redis that replicas share; without it, each is on its own.
    pub(crate) redis: Option<RedisConfig>,
    /// Where features, aggregates and idempotency keys are kept.
    pub(crate) state: StateConfig,
    /// How answers are kept under an `Idempotency-Key`.
    pub(crate) idempotency: IdempotencyConfig,
    /// Feature views.
    pub(crate) view: Vec<ViewConfig>,
    /// Routes that the operator declares.
    pub(crate) route: Vec<RouteConfig>,
}

/// Reads the file (nothing, without one), then the environment, then `flags`. Relative
/// paths of the file are relative to the file; paths given as arguments replace them.
///
/// # Errors
/// Every problem, one a line.
pub(crate) fn load(sources: &Sources, flags: Vec<Override>) -> anyhow::Result<Loaded<Settings>> {
    let file = sources.config.as_deref();
    let text = file.map(fs::read_to_string).transpose();
    let name = file.unwrap_or(Path::new("weir.toml"));
    let text = text.with_context(|| format!("{} cannot be read", name.display()))?.unwrap_or_default();
    let mut overrides = environment::otel();
    overrides.extend(environment::overrides());
    overrides.extend(flags);
    let mut loaded: Loaded<Settings> =
        weir_config::parse_with(name, &text, &overrides).map_err(|p| anyhow!(lines(&p)))?;
    let mut problems = impossible(&loaded.value.server, &loaded.places);
    problems.extend(loaded.value.telemetry.impossible(&loaded.places));
    if !problems.is_empty() {
        return Err(anyhow!(lines(&problems)));
    }
    let server = &mut loaded.value.server;
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    // What the environment or a flag says is relative to where its writer is.
    let in_file = |key: &str| matches!(loaded.places.origin(key), Origin::File { .. });
    if in_file("server.models") {
        server.models.iter_mut().for_each(|path| *path = folder.join(&*path));
    }
    if in_file("server.onnxruntime") {
        server.onnxruntime = server.onnxruntime.take().map(|path| folder.join(path));
    }
    let state = &mut loaded.value.state.path;
    if in_file("state.path") {
        *state = folder.join(&*state).to_string_lossy().into_owned();
    }
    let server = &mut loaded.value.server;
    if in_file("server.trace_file") {
        server.trace_file = server.trace_file.take().map(|path| folder.join(path));
    }
    if in_file("telemetry.headers_file") {
        let file = &mut loaded.value.telemetry.headers_file;
        *file = file.take().map(|path| folder.join(path));
    }
    for (key, path) in loaded.value.redis.iter_mut().flat_map(RedisConfig::files_mut) {
        if in_file(&format!("redis.{key}")) {
            *path = folder.join(&*path);
        }
    }
    if !sources.paths.is_empty() {
        server.models = sources.paths.clone();
    }
    Ok(loaded)
}

/// Settings that are each valid and cannot work.
fn impossible(server: &ServerConfig, places: &Places) -> Vec<Problem> {
    const MOST_THREADS: usize = 1_024;
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
    broken
        .map(|(key, _, why)| places.problem(&format!("server.{key}"), format!("`server.{key}` {why}")))
        .collect()
}

/// Whether the admin API would share the address of another listener. The system gives each that
/// asks for port 0 one of its own.
fn admin_is_taken(server: &ServerConfig) -> bool {
    let others = [Some(server.listen), server.metrics_listen, server.grpc_listen];
    server.admin_listen.is_some_and(|admin| admin.port() != 0 && others.contains(&Some(admin)))
}

/// Problems, one a line.
pub(crate) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The Redis that is configured; it is connected to when it is first needed.
///
/// # Errors
/// Every problem, one a line.
pub(crate) fn redis(config: Option<&RedisConfig>, places: &Places) -> anyhow::Result<Option<Redis>> {
    let placed = |RedisConfigError(problems)| {
        let place = |p: &RedisProblem| {
            places.problem(&format!("redis.{}", p.key), format!("`redis.{}` {}", p.key, p.text))
        };
        anyhow!(lines(&problems.iter().map(place).collect::<Vec<_>>()))
    };
    config.map(|config| Redis::new(config).map_err(placed)).transpose()
}

/// What could not be loaded, one a line.
pub(crate) fn failure_lines(failures: &[Failure]) -> String {
    let line = |f: &Failure| match &f.version {
        Some(version) => format!("model {}/{version}: {}", f.model, f.reason),
        None => format!("model {}: {}", f.model, f.reason),
    };
    failures.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Problems of routes, placed in the file.
pub(crate) fn route_lines(problems: &[RouteProblem], places: &Places) -> String {
    let place = |problem: &RouteProblem| match problem.route {
        Some(index) => places.problem(&format!("route[{index}]"), problem.to_string()).to_string(),
        None => problem.to_string(),
    };
    problems.iter().map(place).collect::<Vec<_>>().join("\n")
}

/// How models are loaded under these settings.
pub(crate) fn load_options(server: &ServerConfig, clock: Arc<dyn Clock>) -> LoadOptions {
    LoadOptions {
        engine: engine_options(server.onnxruntime.clone()),
        cores: std::sync::Arc::new(Cores::new(threads(server))),
        queue: server.max_queue,
        clock,
        budget: server.memory_budget.map(|budget| std::sync::Arc::new(MemoryBudget::new(budget.0))),
        batching: None,
        cache: None,
        features: None,
        sequences: KeepSequences::Here,
    }
}

/// One graph, built on the models that lie beside it.
///
/// # Errors
/// Why it cannot be, and what of its models could not be loaded.
pub(crate) fn graph(candidate: &Candidate) -> anyhow::Result<Arc<ServedVersion>> {
    let options = load_options(&ServerConfig::default(), Arc::new(SystemClock));
    let snapshot = Loader::new(vec![candidate.neighbours()], options).load_alone(&candidate.name);
    if !snapshot.failures().is_empty() {
        return Err(anyhow!(failure_lines(snapshot.failures())));
    }
    Ok(snapshot.version(candidate.name.as_str(), Some(candidate.version.as_str()))?.clone())
}

/// Threads to serve with.
pub(crate) fn threads(server: &ServerConfig) -> usize {
    match server.threads {
        0 => thread::available_parallelism().map_or(1, Into::into),
        threads => threads,
    }
}

/// Where engines are looked for.
pub(crate) fn engine_options(onnxruntime: Option<PathBuf>) -> EngineOptions {
    let explicit = onnxruntime.or_else(environment::onnxruntime);
    EngineOptions::new(explicit, &environment::site_packages())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> anyhow::Result<Loaded<Settings>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        load(&Sources { paths: Vec::new(), config: Some(file.path().to_owned()) }, Vec::new())
    }

    #[test]
    fn settings_that_cannot_work_are_told_with_their_places() {
        let text = "[server]\nmax_connections = 0\nrequest_timeout = \"0s\"\nmax_body_in_flight = \"1KiB\"";
        let error = written(text).unwrap_err().to_string();
        for place in [":2:", ":3:", ":4:"] {
            assert!(error.contains(place), "{error}");
        }
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn an_admin_api_for_everybody_is_refused_with_the_way_out() {
        for address in ["0.0.0.0:8001", "[::]:8001", "192.168.1.2:8001"] {
            let error = written(&format!("[server]\nadmin_listen = \"{address}\"")).unwrap_err().to_string();
            assert!(
                error.contains(":2:") && error.contains("127.0.0.1:8001") && error.contains("ssh -L"),
                "{error}"
            );
        }
        for address in ["127.0.0.1:8001", "[::1]:0", "localhost:1"] {
            assert!(written(&format!("[server]\nadmin_listen = \"{address}\"")).is_ok(), "{address}");
        }
        let both = written("[server]\nadmin_listen = \"127.0.0.1:8000\"").unwrap_err().to_string();
        assert!(both.contains("must differ"), "{both}");
        assert!(written("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"").is_ok());
    }

    #[test]
    fn redis_is_read_beside_the_file_and_every_problem_has_its_place() {
        let place = tempfile::TempDir::new().unwrap();
        fs::write(place.path().join("password"), "secret\n").unwrap();
        let file = place.path().join("weir.toml");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            let loaded =
                load(&Sources { paths: Vec::new(), config: Some(file.clone()) }, Vec::new()).unwrap();
            redis(loaded.value.redis.as_ref(), &loaded.places)
        };
        assert!(read("[server]").unwrap().is_none());
        let good = "[redis]\nurl = \"redis://127.0.0.1:6379\"\npassword_file = \"password\"";
        assert!(read(good).unwrap().is_some(), "nothing listens there, and nothing is asked yet");
        let bad = "[redis]\nurl = \"http://a\"\npassword_file = \"nowhere\"";
        let error = read(bad).unwrap_err().to_string();
        assert!(
            error.contains(":2:") && error.contains(":3:") && error.contains("redis.password_file"),
            "{error}"
        );
    }

    #[test]
    fn paths_of_the_file_are_relative_to_it_and_others_are_not() {
        let loaded = written("[server]\nmodels = [\"m\"]").unwrap();
        assert!(loaded.value.server.models[0].parent().is_some_and(Path::is_absolute));
        let flag = Override::new("--models", "server.models", "[\"m\"]");
        let file = tempfile::NamedTempFile::new().unwrap();
        let sources = Sources { paths: Vec::new(), config: Some(file.path().to_owned()) };
        let loaded = load(&sources, vec![flag]).unwrap();
        assert_eq!(loaded.value.server.models, [PathBuf::from("m")]);
    }

    #[test]
    fn the_committed_default_is_what_the_command_prints() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/weir.toml");
        let committed = fs::read_to_string(path).unwrap();
        let printed = weir_config::default_toml::<Settings>();
        assert_eq!(committed, printed, "run: cargo run -p weir -- config default > config/weir.toml");
        assert_eq!(weir_config::parse::<Settings>(Path::new("weir.toml"), &printed), Ok(Settings::default()));
    }
}
