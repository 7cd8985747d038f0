//! What `serve` does before it listens, which is what `config check` checks.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{anyhow, bail};
use weir_api::Server;
use weir_clients::redis::Redis;
use weir_config::Places;
use weir_serving::{
    Cache, Fetcher, KeepSequences, LoadOptions, Loader, Progress, RedisSequences, ServingSnapshot,
};
use weir_types::{AllowLocal, Clock, SystemClock};

use crate::{
    archives,
    output::Output,
    settings::{self, Settings, failure_lines, route_lines},
    state::{self, Opening},
};

/// Models that were loaded and routes that were compiled, as far as they could be.
pub(super) struct Started {
    pub(super) loader: Loader,
    /// What fetches the archives of models.
    pub(super) fetcher: Fetcher,
    /// What the models keep, where they may.
    pub(super) cache: Option<Cache>,
    /// The server, or every problem of its routes.
    pub(super) server: Result<Server, String>,
    /// How many models can answer, or may once the server that runs them is back.
    pub(super) models: usize,
    /// What could not be loaded, one a line; empty where there is nothing.
    pub(super) failures: String,
}

/// Loads the models and compiles the routes.
///
/// # Errors
/// Where there is nothing to load, and everything that is wrong with the views and their store, or
/// with files of secrets and certificates.
pub(super) fn start(
    settings: Settings,
    places: &Places,
    opening: Opening,
    output: &Output,
) -> anyhow::Result<Started> {
    if settings.server.models.is_empty() && settings.archive.is_empty() {
        bail!(
            "nothing to serve: name a model (weir serve PATH) or list `models` under [server] in a --config file"
        );
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let redis = redis(&settings, places)?;
    let state = state::open(&settings, places, &clock, redis.as_ref(), opening);
    let state = state.map_err(|problems| anyhow!(settings::lines(&problems)))?;
    let archives = archives::open(&settings, places, &clock, opening);
    let (fetcher, archives) = archives.map_err(|problems| anyhow!(settings::lines(&problems)))?;
    let Settings { server, route, cache, .. } = settings;
    let cache = cache.enabled.then(|| match &redis {
        Some(redis) => Cache::sharing(cache, clock.clone(), Arc::new(redis.clone())),
        None => Cache::new(cache, clock.clone()),
    });
    let options = settings::load_options(&server, clock.clone());
    let sequences = redis.clone().map(|redis| Arc::new(RedisSequences::new(redis)) as _);
    let options = LoadOptions {
        cache: cache.clone(),
        features: state.features.clone(),
        sequences: KeepSequences::AsDeclared(sequences),
        ..options
    };
    let loader = Loader::new(server.models.clone(), options).with_archives(Some(archives));
    let progress = |p: Progress<'_>| {
        output.progress(&format!("loading {}/{} {}", p.number, p.total, p.candidate.name));
    };
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &progress);
    output.progress("");
    let away = snapshot.failures().iter().filter(|failure| failure.transient).count();
    let models = snapshot.models().count() + away + snapshot.awaited().count();
    let failures = failing(&snapshot, opening);
    let server = Server::with_state(server, route, snapshot, state, (Arc::new(AllowLocal), clock));
    let server = server.map_err(|problems| route_lines(&problems, places));
    if let Ok(server) = &server {
        cache.iter().for_each(|cache| server.offer_cache(cache.clone()));
        redis.into_iter().for_each(|redis| server.offer_redis(redis));
    }
    Ok(Started { loader, fetcher, cache, server, models, failures })
}

/// The Redis, where no file is wrong that it or telemetry names: both are told at once.
fn redis(settings: &Settings, places: &Places) -> anyhow::Result<Option<Redis>> {
    let redis = settings::redis(settings.redis.as_ref(), places);
    let telemetry = settings.telemetry.wrong_files(places);
    if telemetry.is_empty() {
        return redis;
    }
    let lines = [settings::lines(&telemetry), redis.err().map(|error| error.to_string()).unwrap_or_default()];
    Err(anyhow!(lines.join("\n").trim_end().to_owned()))
}

/// What could not be loaded, one a line. That an archive is not here is no failure of a check, which fetches
/// nothing.
pub(super) fn failing(snapshot: &ServingSnapshot, opening: Opening) -> String {
    let awaited = snapshot.awaited().filter(|_| opening != Opening::Check);
    let awaited = awaited.map(|archive| format!("archive {}: {}", archive.name, archive.reason));
    let loaded = failure_lines(snapshot.failures());
    let lines = (!loaded.is_empty()).then_some(loaded).into_iter().chain(awaited);
    lines.collect::<Vec<_>>().join("\n")
}
