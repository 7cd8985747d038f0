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
use weir_clients::redis::{Redis, RedisConfig, RedisProblem};
use weir_config::{HumanDuration, Loaded, Origin, Override, Places, Problem};
use weir_engine::EngineOptions;
use weir_serving::{
    Cores, Failure, KeepSequences, LoadOptions, Loader, MemoryBudget, RedisSequences, ServedVersion,
};
use weir_types::{Clock, SystemClock};

use crate::{args::Sources, environment, telemetry::LogConfig};

/// `weir.toml`: the server, its logs, and the routes that an operator declares.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The server.
    pub(crate) server: ServerConfig,
    /// Its logs.
    pub(crate) log: LogConfig,
    /// A Redis that replicas share, for what says `redis`.
    pub(crate) redis: RedisConfig,
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
    let mut overrides = environment::overrides();
    overrides.extend(flags);
    let mut loaded: Loaded<Settings> =
        weir_config::parse_with(name, &text, &overrides).map_err(|p| anyhow!(lines(&p)))?;
    let problems = impossible(&loaded.value.server, &loaded.places);
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
    for (key, path) in loaded.value.redis.files_mut() {
        if in_file(&format!("redis.{key}")) {
            *path = folder.join(&*path);
        }
    }
    let server = &mut loaded.value.server;
    if in_file("server.trace_file") {
        server.trace_file = server.trace_file.take().map(|path| folder.join(path));
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
            "max_body_in_flight",
            server.max_body_in_flight < server.max_body,
            "must hold one body of `max_body` at least",
        ),
        (
            "metrics_listen",
            server.metrics_listen == Some(server.listen),
            "must differ from `listen`; without it, metrics are there",
        ),
    ];
    let broken = checks.into_iter().filter(|(_, broken, _)| *broken);
    broken
        .map(|(key, _, why)| places.problem(&format!("server.{key}"), format!("`server.{key}` {why}")))
        .collect()
}

/// Problems, one a line.
pub(crate) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
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
        sequences: KeepSequences::Here,
    }
}

/// Where the server's models keep sequences: a Redis if one is named.
///
/// # Errors
/// All that is wrong with `[redis]`, one a line.
pub(crate) fn sequences(redis: &RedisConfig, places: &Places) -> anyhow::Result<KeepSequences> {
    if redis.url.is_none() && redis.nodes.is_empty() {
        return Ok(KeepSequences::AsDeclared(None));
    }
    let place = |problem: &RedisProblem| {
        let key = format!("redis.{}", problem.key);
        places.problem(&key, format!("`{key}` {}", problem.text))
    };
    let redis =
        Redis::new(redis).map_err(|error| anyhow!(lines(&error.0.iter().map(place).collect::<Vec<_>>())))?;
    Ok(KeepSequences::AsDeclared(Some(Arc::new(RedisSequences::new(redis)))))
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
