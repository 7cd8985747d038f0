//! What `serve` does before it listens: one home of it, so that `serve`, `config check` and `doctor` cannot
//! differ in what they take for right.
//!
//! ```text
//! settings ─▶ prepare: redis, state, archives ─▶ load: models, routes ─▶ Started
//!    └──────────────── what is wrong ────────────────────┴─▶ told at once
//! ```

use std::{collections::BTreeSet, sync::Arc};

use anyhow::bail;
use weir_api::{Server, State};
use weir_clients::redis::Redis;
use weir_config::{Loaded, Places, Problem};
use weir_serving::{
    ArchiveConfig, Archives, Cache, Failure, Fetcher, KeepSequences, LoadOptions, Loader, Progress,
    RedisSequences, ServedVersion, ServingSnapshot,
};
use weir_types::{AllowLocal, Clock, SystemClock};

use crate::{
    archives,
    output::Output,
    settings::{self, Settings, failure_lines, route_lines},
    state::{self, Opening},
};

/// Settings, and what is made of them before a model is loaded, as far as it could be made.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) places: Places,
    /// What is wrong so far.
    pub(super) problems: Vec<String>,
    /// The archives of models, those that are here and those that are not.
    pub(super) archives: Option<Archives>,
    fetcher: Option<Fetcher>,
    clock: Arc<dyn Clock>,
    redis: Option<Redis>,
    state: State,
    opening: Opening,
}

/// Models that were loaded and routes that were compiled, as far as they could be.
pub(super) struct Started {
    pub(super) loader: Loader,
    /// What fetches the archives of models.
    pub(super) fetcher: Option<Fetcher>,
    /// What the models keep, where they may.
    pub(super) cache: Option<Cache>,
    /// The server, where every route is right.
    pub(super) server: Option<Server>,
    /// What was loaded.
    pub(super) loaded: Vec<Arc<ServedVersion>>,
    /// What could not be loaded.
    pub(super) failures: Vec<Failure>,
    /// The same, one a line; empty where there is nothing.
    pub(super) failing: String,
    /// How many archives are not here.
    pub(super) awaited: usize,
    /// What is wrong with settings and routes; with one of them nothing is served.
    pub(super) problems: Vec<String>,
}

/// Takes what was read, with what cannot work in it. Where anything is wrong, nothing is opened or fetched,
/// and what else is wrong is found all the same.
pub(super) fn prepare((loaded, impossible): (Loaded<Settings>, Vec<Problem>), opening: Opening) -> Prepared {
    let Loaded { value: settings, places } = loaded;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut problems = impossible;
    problems.extend(settings.telemetry.wrong_files(&places));
    let redis = note(settings::redis(settings.redis.as_ref(), &places), &mut problems).flatten();
    let open = |opening| state::open(&settings, &places, &clock, redis.as_ref(), opening);
    let mut state = note(open(Opening::Check), &mut problems);
    let fetcher = note(archives::fetcher(&settings, &places, &clock), &mut problems);
    let mut archives = match &fetcher {
        Some(fetcher) => note(archives::open(fetcher, &settings, &places, Opening::Check), &mut problems),
        None => note(archives::check(&settings, &places), &mut problems).and(None),
    };
    let opening = if problems.is_empty() { opening } else { Opening::Check };
    if opening == Opening::Use {
        state = note(open(opening), &mut problems);
        let begin = |fetcher| archives::open(fetcher, &settings, &places, opening);
        archives = fetcher.as_ref().and_then(|fetcher| note(begin(fetcher), &mut problems));
    }
    let mut problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
    if settings.server.models.is_empty() && settings.archive.is_empty() {
        let nothing = "nothing to serve: name a model (weir serve PATH) or list `models` under [server] in a \
                       --config file";
        problems.push(nothing.to_owned());
    }
    let state = state.unwrap_or_default();
    Prepared { settings, places, problems, archives, fetcher, clock, redis, state, opening }
}

fn note<T>(result: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|found| problems.extend(found)).ok()
}

impl Prepared {
    /// Archives that are not here.
    pub(super) fn missing(&self) -> Vec<ArchiveConfig> {
        let all = self.settings.archive.iter();
        let here = |archive: &ArchiveConfig| {
            let looked = self.fetcher.as_ref().map(|fetcher| fetcher.look(std::slice::from_ref(archive)));
            looked.is_some_and(|looked| looked.is_ok_and(|archives| archives.missing().is_empty()))
        };
        all.filter(|archive| !here(archive)).cloned().collect()
    }

    /// Loads the models and compiles the routes.
    pub(super) fn load(self, output: &Output) -> Started {
        let Self { settings, places, mut problems, archives, fetcher, clock, redis, state, opening } = self;
        let Settings { server, route, cache, .. } = settings;
        let cache = cache.enabled.then(|| match &redis {
            Some(redis) => Cache::sharing(cache, clock.clone(), Arc::new(redis.clone())),
            None => Cache::new(cache, clock.clone()),
        });
        let sequences = redis.clone().map(|redis| Arc::new(RedisSequences::new(redis)) as _);
        let options = LoadOptions {
            cache: cache.clone(),
            features: state.features.clone(),
            sequences: KeepSequences::AsDeclared(sequences),
            ..settings::load_options(&server, clock.clone())
        };
        let loader = Loader::new(server.models.clone(), options).with_archives(archives);
        let progress = |p: Progress<'_>| {
            output.progress(&format!("loading {}/{} {}", p.number, p.total, p.candidate.name));
        };
        let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &progress);
        output.progress("");
        let loaded = snapshot.models().flat_map(|(_, model)| model.versions().cloned()).collect();
        let (failures, awaited) = (snapshot.failures().to_vec(), snapshot.awaited().count());
        let failing = failing(&snapshot, opening);
        let server = Server::with_state(server, route, snapshot, state, (Arc::new(AllowLocal), clock));
        let server = server.map_err(|wrong| problems.push(route_lines(&wrong, &places))).ok();
        if let Some(server) = &server {
            cache.iter().for_each(|cache| server.offer_cache(cache.clone()));
            redis.into_iter().for_each(|redis| server.offer_redis(redis));
        }
        Started { loader, fetcher, cache, server, loaded, failures, failing, awaited, problems }
    }
}

impl Started {
    /// Everything that is wrong, one a line, where anything is.
    pub(super) fn wrong(&self) -> Option<String> {
        let failing = (!self.failing.is_empty()).then_some(&self.failing);
        let lines: Vec<_> = self.problems.iter().chain(failing).map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// What serves.
    ///
    /// # Errors
    /// Everything that is wrong, where anything is wrong with settings or routes, or no model can answer and
    /// none may once the server that runs it is back, or its archive here.
    pub(super) fn serving(self) -> anyhow::Result<(Server, (Loader, Fetcher), Option<Cache>)> {
        let hopes = self.failures.iter().filter(|failure| failure.transient).count() + self.awaited;
        let none = self.loaded.is_empty() && hopes == 0;
        let wrong = self.wrong().unwrap_or_default();
        match (self.server, self.fetcher) {
            (Some(server), Some(fetcher)) if self.problems.is_empty() && !none => {
                Ok((server, (self.loader, fetcher), self.cache))
            }
            _ if self.problems.is_empty() => bail!("no model could be loaded\n{wrong}"),
            _ => bail!(wrong),
        }
    }
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
