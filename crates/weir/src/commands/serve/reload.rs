//! Reload: the same sources are read again, checked whole, and put in force at once or not at all.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use weir_api::Server;
use weir_config::{Loaded, Override, Places, Problem};
use weir_serving::{Archives, Cache, Change, Fetcher, Reason, Refused, Reread, ServingSnapshot};

use crate::{
    args::Sources,
    host::Limits,
    settings::{self, Changed, Settings, Wrong, routes_refused},
    telemetry,
};

/// What a server was configured by, and what a new configuration is put into.
#[derive(Clone)]
pub(super) struct Reload {
    pub(super) sources: Sources,
    pub(super) flags: Vec<Override>,
    /// Defaults follow what was there at the start: a pod that was resized is no change that
    /// somebody wrote.
    pub(super) limits: Limits,
    /// What is in force, and where each value of it is from.
    pub(super) in_force: Arc<Mutex<Loaded<Settings>>>,
    pub(super) server: Server,
    pub(super) cache: Option<Cache>,
    pub(super) fetcher: Fetcher,
    pub(super) logs: Arc<telemetry::Control>,
}

impl Reload {
    /// What a keeper of models calls for each reload.
    pub(super) fn reread(self) -> Reread {
        Box::new(move |archives| {
            self.read(archives).inspect_err(|why| self.server.note_reload(Err(&why.reason)))
        })
    }

    /// Reads the sources; what is in force stays, and the archives that they name are still to be brought
    /// beside those that serve.
    fn read(&self, serving: Option<&Archives>) -> Result<Change, Refused> {
        let odd = |file: &&PathBuf| file.metadata().is_ok_and(|meta| !meta.is_file());
        if let Some(file) = self.sources.config.iter().find(odd) {
            // At the start a pipe is as good as a file; reading one here could wait for ever.
            return Err(wrong(&[Problem::new(file, "is no regular file")]));
        }
        let loaded = settings::load_within(&self.sources, self.flags.clone(), &self.limits);
        let Loaded { value: settings, places } =
            loaded.map_err(|error| match error.downcast_ref::<Wrong>() {
                Some(Wrong(problems)) => wrong(problems),
                None => {
                    Reason::new("the configuration cannot be read; the log says why", format!("{error:#}"))
                        .into()
                }
            })?;
        if settings.server.models.is_empty() && settings.archive.is_empty() {
            return Err(wrong(&[places.problem("server.models", "`server.models` names no model")]));
        }
        let changed = {
            let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
            let public = "the configuration cannot be compared with the one in force";
            Changed::between(&in_force.value, &settings)
                .map_err(|error| Reason::new(public, error.to_string()))?
        };
        changed.possible(&places)?;
        let bring = |serving| self.fetcher.bring(&settings.archive, serving);
        let archives = serving.map(bring).transpose()?;
        let paths = settings.server.models.clone();
        let (to, server) = (self.clone(), self.server.clone());
        Ok(Change {
            paths,
            archives,
            publish: Box::new(move |loaded| {
                let put = loaded.and_then(|snapshot| to.publish(settings, places, changed, snapshot));
                server.note_reload(put.as_ref().copied());
                put
            }),
        })
    }

    /// Puts settings in force together with what was loaded under them.
    fn publish(
        self,
        settings: Settings,
        places: Places,
        changed: Changed,
        snapshot: ServingSnapshot,
    ) -> Result<(), Reason> {
        let (config, routes) = (settings.server.clone(), settings.route.clone());
        let put = self.server.reconfigure(config, routes, snapshot);
        let put = put.map_err(|problems| routes_refused(&problems, &places));
        if put.is_ok() {
            let tell = || {
                if !changed.live.is_empty() {
                    tracing::info!(keys = changed.live.join(", "), "configuration changed");
                }
            };
            // Under the filter that shows it: one that is less talkative than the last would hide that it came.
            let before = tracing::enabled!(tracing::Level::INFO);
            if before {
                tell();
            }
            // Nothing below can be refused: filters were read with the file.
            let _ = self.logs.refilter(&telemetry::filter(&settings.log));
            if !before {
                tell();
            }
            self.cache.iter().for_each(|cache| cache.reconfigure(settings.cache.clone()));
            *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) =
                Loaded { value: settings, places };
        }
        put
    }
}

/// Why a configuration is refused that is wrong in itself: somebody has to correct it.
fn wrong(problems: &[Problem]) -> Refused {
    Reason::of_files(problems).into()
}
