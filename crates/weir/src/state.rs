//! Online state: from `[state]`, `[idempotency]`, `[redis]` and `[[view]]` to services.

use std::{path::Path, sync::Arc};

use weir_api::State;
use weir_clients::redis::Redis;
use weir_config::{Places, Problem};
use weir_features::{
    Budget, Embedded, Features, Idempotency, Memory, RedisStore, SharedStore, StateConfig, StoreKind, Views,
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
    let store = store((&settings.state, budget), places, clock, (redis, opening));
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
    (config, budget): (&StateConfig, Budget),
    places: &Places,
    clock: &Arc<dyn Clock>,
    (redis, opening): (Option<&Redis>, Opening),
) -> Result<SharedStore, Vec<Problem>> {
    match (config.store, opening) {
        (StoreKind::Redis, _) => {
            let nowhere = "`state.store` is `redis`: say in [redis] where that is";
            let redis = redis.ok_or_else(|| vec![places.problem("state.store", nowhere)])?;
            Ok(Arc::new(RedisStore::new(redis.clone(), clock.clone())))
        }
        (StoreKind::Embedded, Opening::Use) => {
            let path = Path::new(&config.path);
            let opened = Embedded::open(path, budget, config.queue, clock.clone());
            let store = opened.map_err(|error| vec![places.problem("state.path", error.to_string())])?;
            Ok(Arc::new(store))
        }
        (StoreKind::Memory, _) | (StoreKind::Embedded, Opening::Check) => {
            Ok(Arc::new(Memory::new(budget, clock.clone())))
        }
    }
}
