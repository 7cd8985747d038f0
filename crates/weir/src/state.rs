//! Online state: from `[state]`, `[idempotency]`, `[redis]` and `[[view]]` to services.

use std::{path::Path, sync::Arc};

use rustix::fs::{Access, access};
use weir_api::State;
use weir_clients::redis::Redis;
use weir_config::{Places, Problem};
use weir_features::{
    Budget, Embedded, Features, Idempotency, Memory, RedisStore, SharedStore, StoreKind, Views,
};
use weir_types::Clock;

use crate::settings::Settings;

/// Whether the store is to be used, or only what is written of it to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It serves.
    Use,
    /// Nothing is opened: the file may be in use by the server that serves.
    Check,
}

/// Opens the store and puts the services on it.
///
/// There is nothing to flush at the end: what the store acknowledged is where it is kept.
///
/// # Errors
/// Everything that is wrong with the views and the store.
pub(crate) fn open(
    settings: &Settings,
    places: &Places,
    clock: &Arc<dyn Clock>,
    redis: Option<&Redis>,
    opening: Opening,
) -> Result<State, Vec<Problem>> {
    let views = Views::new(&settings.view).map_err(|problems| {
        problems.into_iter().map(|problem| places.problem(&problem.path, problem.message)).collect()
    });
    let budget = Budget {
        state: settings.state.budget.as_usize(),
        idempotency: settings.idempotency.budget.as_usize(),
    };
    let store = store((settings, budget), places, clock, (redis, opening));
    let (views, store) = match (views, store) {
        (Ok(views), Ok(store)) => (views, store),
        (views, store) => {
            let problems: [Vec<Problem>; 2] =
                [views.err().unwrap_or_default(), store.err().unwrap_or_default()];
            return Err(problems.concat());
        }
    };
    let idempotency = Idempotency::new(&settings.idempotency, store.clone(), clock.clone());
    let features = Features::new(views, store.clone(), clock.clone(), settings.state.ahead.get());
    Ok(State { features: Some(features), store: Some(store), idempotency: Some(idempotency) })
}

fn store(
    (settings, budget): (&Settings, Budget),
    places: &Places,
    clock: &Arc<dyn Clock>,
    (redis, opening): (Option<&Redis>, Opening),
) -> Result<SharedStore, Vec<Problem>> {
    let (config, path) = (&settings.state, Path::new(&settings.state.path));
    let wrong = |key, text: String| vec![places.problem(key, text)];
    match (config.store, redis, opening) {
        (StoreKind::Redis, Some(redis), _) => Ok(Arc::new(RedisStore::new(redis.clone(), clock.clone()))),
        (StoreKind::Redis, None, _) if settings.redis.is_none() => {
            Err(wrong("state.store", "`state.store` is `redis`: say in [redis] where that is".to_owned()))
        }
        (StoreKind::Embedded, _, Opening::Use) => {
            let opened = Embedded::open(path, budget, config.queue, clock.clone());
            Ok(Arc::new(opened.map_err(|error| wrong("state.path", error.to_string()))?))
        }
        (StoreKind::Embedded, _, Opening::Check) if unwritable(path).is_some() => {
            let why = unwritable(path).unwrap_or_default();
            Err(wrong("state.path", format!("`state.path` {} {why}", path.display())))
        }
        // What is wrong with [redis] is told where it stands.
        (StoreKind::Memory | StoreKind::Redis, ..) | (StoreKind::Embedded, _, Opening::Check) => {
            Ok(Arc::new(Memory::new(budget, clock.clone())))
        }
    }
}

/// Why no file can be written at `path`, without trying.
fn unwritable(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Some("is in no folder: make it, or name another path".to_owned());
    }
    let place = if path.exists() { path } else { folder };
    let error = access(place, Access::WRITE_OK).err()?;
    Some(format!("cannot be written: {error}; let this user write it, or name another path"))
}
