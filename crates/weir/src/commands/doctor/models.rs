//! Models: whether they can be read, how large they are, and what would run them.

use std::{path::Path, sync::Arc};

use weir_artifact::{Candidate, Discovery, Kind};
use weir_config::Places;
use weir_engine::EngineOptions;
use weir_types::{Clock, SystemClock};

use super::finding::Finding;
use crate::{
    archives,
    output::size,
    settings::{Settings, engine_options, lines},
    state::Opening,
};

/// What was found of the models.
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    /// Bytes of all artefacts that this process runs.
    pub(super) bytes: u64,
    /// Whether there are archives that have to be fetched.
    pub(super) awaits: bool,
}

/// Reads every model and builds its engine, one after the other; each is dropped again. Nothing is fetched.
pub(super) fn look(settings: &Settings, places: &Places) -> Seen {
    let mut seen = Seen { findings: Vec::new(), bytes: 0, awaits: false };
    let engines = engine_options(settings.server.onnxruntime.clone());
    settings.server.models.iter().for_each(|path| seen.look_in(path, &engines));
    if !settings.archive.is_empty() {
        seen.look_at_archives(settings, places, &engines);
    }
    if settings.server.models.is_empty() && settings.archive.is_empty() {
        let fix = "list `models` under [server], name them as arguments, or name an [[archive]]";
        seen.findings.push(Finding::fail("models", "there is nothing to serve", fix));
    }
    seen
}

impl Seen {
    fn look_at_archives(&mut self, settings: &Settings, places: &Places, engines: &EngineOptions) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let archives = match archives::open(settings, places, &clock, Opening::Check) {
            Ok((_, archives)) => archives,
            Err(problems) => {
                let fix = "correct what is named; `weir config keys` explains every key";
                return self.findings.push(Finding::fail("archives", lines(&problems), fix));
            }
        };
        for missing in archives.missing() {
            self.awaits = true;
            let found = format!("{} is fetched when the server starts; not asked", missing.name);
            self.findings.push(Finding::ok("archives", found));
        }
        archives.folders().iter().for_each(|folder| self.look_in(folder, engines));
    }

    fn look_in(&mut self, path: &Path, engines: &EngineOptions) {
        let Discovery { found, problems } = weir_artifact::discover(path);
        let problems: Vec<_> = problems.into_iter().map(|problem| problem.problem).collect();
        let fix = "correct the path or the folder, and let this user read it";
        self.findings
            .extend(problems.iter().map(|problem| Finding::fail("models", problem.to_string(), fix)));
        if found.is_empty() && problems.is_empty() {
            self.findings.push(Finding::fail("models", format!("{} holds no model", path.display()), fix));
        }
        found.iter().for_each(|candidate| self.add(candidate, engines));
    }

    fn add(&mut self, candidate: &Candidate, engines: &EngineOptions) {
        let name = format!("{}/{}", candidate.name, candidate.version);
        let finding = match candidate.kind {
            Kind::Remote => Finding::ok("models", format!("{name} runs on another server; not asked")),
            Kind::Graph => Finding::ok("models", format!("{name} is made of others")),
            _ => match read(candidate, engines) {
                Ok((bytes, engine)) => {
                    self.bytes = self.bytes.saturating_add(bytes);
                    Finding::ok("models", format!("{name}, {} on {engine}", size(bytes)))
                }
                Err(reason) => {
                    let fix = "`weir inspect` explains a model; for ONNX Runtime, install onnxruntime 1.24 or later with \
                               pip, or name its library in server.onnxruntime";
                    Finding::fail("models", format!("{name}: {reason}"), fix)
                }
            },
        };
        self.findings.push(finding);
    }
}

/// Its bytes, and what would run it.
fn read(candidate: &Candidate, engines: &EngineOptions) -> Result<(u64, String), String> {
    let model = weir_artifact::load(candidate).map_err(|problems| lines(&problems))?;
    let engine = weir_engine::load(&model, engines).map_err(|error| error.to_string())?;
    let info = engine.info();
    Ok((model.spec.artifact_bytes, format!("{} {}", info.name, info.version)))
}
