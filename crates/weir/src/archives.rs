//! Archives of models: from `[fetch]`, `[s3]` and `[[archive]]` to what a loader loads from.

use std::sync::Arc;

use weir_config::{Places, Problem};
use weir_serving::{Archives, FetchParts, FetchProblem, Fetcher};
use weir_types::Clock;

use crate::{environment, settings::Settings, state::Opening};

/// What fetches by `[fetch]` and `[s3]`.
///
/// # Errors
/// Everything that is wrong with the two tables.
pub(crate) fn fetcher(
    settings: &Settings,
    places: &Places,
    clock: &Arc<dyn Clock>,
) -> Result<Fetcher, Vec<Problem>> {
    let parts = FetchParts {
        cache: settings.fetch.cache.clone().unwrap_or_else(environment::model_cache),
        s3: settings.s3.clone(),
        s3_keys: environment::s3_keys(),
        clock: clock.clone(),
    };
    Fetcher::new(&settings.fetch, parts).map_err(|problems| placed(problems, places))
}

/// Fetches what `[[archive]]` names, or only looks at what of it is here.
///
/// # Errors
/// Everything that is wrong with the list.
pub(crate) fn open(
    fetcher: &Fetcher,
    settings: &Settings,
    places: &Places,
    opening: Opening,
) -> Result<Archives, Vec<Problem>> {
    let archives = match opening {
        Opening::Use => fetcher.begin(&settings.archive),
        Opening::Check => fetcher.look(&settings.archive),
    };
    archives.map_err(|problems| placed(problems, places))
}

/// Only checks what `[[archive]]` says.
///
/// # Errors
/// Everything that is wrong with the list.
pub(crate) fn check(settings: &Settings, places: &Places) -> Result<(), Vec<Problem>> {
    let problems = FetchProblem::of(&settings.archive, settings.s3.is_some());
    if problems.is_empty() { Ok(()) } else { Err(placed(problems, places)) }
}

fn placed(problems: Vec<FetchProblem>, places: &Places) -> Vec<Problem> {
    problems.into_iter().map(|p| places.problem(&p.key, format!("`{}` {}", p.key, p.text))).collect()
}
