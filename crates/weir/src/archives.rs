//! Archives of models: from `[fetch]`, `[s3]` and `[[archive]]` to what a loader loads from.

use std::sync::Arc;

use weir_config::{Places, Problem};
use weir_serving::{Archives, FetchParts, FetchProblem, Fetcher};
use weir_types::Clock;

use crate::{environment, settings::Settings, state::Opening};

/// Fetches what is configured, or only looks at what of it is here.
///
/// # Errors
/// Everything that is wrong with the three tables.
pub(crate) fn open(
    settings: &Settings,
    places: &Places,
    clock: &Arc<dyn Clock>,
    opening: Opening,
) -> Result<(Fetcher, Archives), Vec<Problem>> {
    let placed = |problems: Vec<FetchProblem>| -> Vec<Problem> {
        problems.into_iter().map(|p| places.problem(&p.key, format!("`{}` {}", p.key, p.text))).collect()
    };
    let parts = FetchParts {
        cache: settings.fetch.cache.clone().unwrap_or_else(environment::model_cache),
        s3: settings.s3.clone(),
        s3_keys: environment::s3_keys(),
        clock: clock.clone(),
    };
    let fetcher = Fetcher::new(&settings.fetch, parts).map_err(placed)?;
    let archives = match opening {
        Opening::Use => fetcher.begin(&settings.archive),
        Opening::Check => fetcher.look(&settings.archive),
    };
    Ok((fetcher, archives.map_err(placed)?))
}
