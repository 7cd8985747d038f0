//! `weir.toml`, with environment and flags laid over it.

mod checks;
mod defaults;
mod files;
mod live;

use std::{path::PathBuf, sync::Arc, thread};

use anyhow::anyhow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_api::{
    RouteProblem,
    config::{RouteConfig, ServerConfig},
};
use weir_artifact::Candidate;
use weir_clients::{
    S3Config,
    redis::{Redis, RedisConfig, RedisConfigError, RedisProblem},
};
use weir_config::{Origin, Places, Problem};
use weir_engine::EngineOptions;
use weir_features::{IdempotencyConfig, StateConfig, ViewConfig};
use weir_serving::{
    ArchiveConfig, CacheConfig, Cores, Failure, FetchConfig, KeepSequences, LoadOptions, Loader,
    MemoryBudget, Reason, ServedVersion,
};
use weir_types::{Clock, SystemClock};

use crate::{
    environment,
    telemetry::{LogConfig, TelemetryConfig},
};

pub(crate) use checks::{Listen, listeners};
pub(crate) use files::{Wrong, load, load_within, read_within};
pub(crate) use live::{Changed, is_live, keys};

/// `weir.toml`: the server, its logs, and the routes that an operator declares.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The server.
    pub(crate) server: ServerConfig,
    /// Its logs.
    pub(crate) log: LogConfig,
    /// What is sent to an OTLP receiver: traces and metrics.
    pub(crate) telemetry: TelemetryConfig,
    /// How archives of models are fetched, and where they are kept.
    pub(crate) fetch: FetchConfig,
    /// The object store that archives with `s3://` lie in.
    pub(crate) s3: Option<S3Config>,
    /// Archives of models that are fetched at start and on reload.
    pub(crate) archive: Vec<ArchiveConfig>,
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

/// Most threads that serve.
const MOST_THREADS: usize = 1_024;

/// Problems, one a line.
pub(crate) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The Redis that is configured; it is connected to when it is first needed.
///
/// # Errors
/// Every problem.
pub(crate) fn redis(config: Option<&RedisConfig>, places: &Places) -> Result<Option<Redis>, Vec<Problem>> {
    let placed = |RedisConfigError(problems)| {
        let place = |p: &RedisProblem| {
            places.problem(&format!("redis.{}", p.key), format!("`redis.{}` {}", p.key, p.text))
        };
        problems.iter().map(place).collect()
    };
    config.map(|config| Redis::new(config).map_err(placed)).transpose()
}

/// What could not be loaded, one a line.
pub(crate) fn failure_lines(failures: &[Failure]) -> String {
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("\n")
}

/// Why routes are not in force: anybody may read it but for where the files are.
pub(crate) fn routes_refused(problems: &[RouteProblem], places: &Places) -> Reason {
    Reason::new(weir_api::route_lines(problems), route_lines(problems, places))
}

/// Problems of routes, placed in the file.
pub(crate) fn route_lines(problems: &[RouteProblem], places: &Places) -> String {
    let beside = |problem: &RouteProblem| {
        let origin = problem.beside.map(|other| places.origin(&format!("route[{other}]")));
        origin.filter(Origin::is_file).map(|at| format!(" (the other is at {at})")).unwrap_or_default()
    };
    let place = |problem: &RouteProblem| {
        let text = format!("{problem}{}", beside(problem));
        match problem.route {
            Some(index) => places.problem(&format!("route[{index}]"), text).to_string(),
            None => text,
        }
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
        // More is refused, by which time what else is wrong is looked for.
        threads => threads.min(MOST_THREADS),
    }
}

/// Where engines are looked for.
pub(crate) fn engine_options(onnxruntime: Option<PathBuf>) -> EngineOptions {
    let explicit = onnxruntime.or_else(environment::onnxruntime);
    EngineOptions::new(explicit, &environment::site_packages())
}

#[cfg(test)]
mod tests;
