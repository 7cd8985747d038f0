//! What `serve` does before it listens, which is what `config check` checks.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::bail;
use weir_api::Server;
use weir_config::Places;
use weir_serving::{LoadOptions, Loader, Progress, ServingSnapshot};
use weir_types::{AllowLocal, SystemClock};

use crate::{
    output::Output,
    settings::{self, Settings, failure_lines, route_lines},
};

/// Models that were loaded and routes that were compiled, as far as they could be.
pub(super) struct Started {
    pub(super) loader: Loader,
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
/// Where there is nothing to load.
pub(super) fn start(settings: Settings, places: &Places, output: &Output) -> anyhow::Result<Started> {
    let Settings { server, route, redis, .. } = settings;
    if server.models.is_empty() {
        bail!(
            "nothing to serve: name a model (weir serve PATH) or list `models` under [server] in a --config file"
        );
    }
    let clock = Arc::new(SystemClock);
    let sequences = settings::sequences(&redis, places)?;
    let options = LoadOptions { sequences, ..settings::load_options(&server, clock.clone()) };
    let loader = Loader::new(server.models.clone(), options);
    let progress = |p: Progress<'_>| {
        output.progress(&format!("loading {}/{} {}", p.number, p.total, p.candidate.name));
    };
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &progress);
    output.progress("");
    let away = snapshot.failures().iter().filter(|failure| failure.transient).count();
    let (models, failures) = (snapshot.models().count() + away, failure_lines(snapshot.failures()));
    let server = Server::new(server, route, snapshot, Arc::new(AllowLocal), clock);
    let server = server.map_err(|problems| route_lines(&problems, places));
    Ok(Started { loader, server, models, failures })
}
