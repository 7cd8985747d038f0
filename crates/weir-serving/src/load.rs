//! Builds snapshots off the request path.

use std::{path::PathBuf, sync::Arc};

use weir_artifact::{Candidate, LoadedModel, Problem};
use weir_engine::{Cost, Engine, EngineOptions};
use weir_types::Clock;

use crate::{BySize, Executor, Failure, Pool, ServedVersion, ServingSnapshot, samples};

/// Rows up to which a small model answers on the thread that decoded the request. At the
/// 50 µs a row that still count as small, more would hold up the thread's other requests
/// for milliseconds.
const INLINE_ROWS: usize = 64;

/// How models are loaded.
#[derive(Clone)]
pub struct LoadOptions {
    /// How engines are chosen and set up.
    pub engine: EngineOptions,
    /// Threads of a heavy model's pool.
    pub threads: usize,
    /// Jobs that may wait for one model.
    pub queue: usize,
    /// Time for deadlines.
    pub clock: Arc<dyn Clock>,
}

/// Loads what is on disk into a [`ServingSnapshot`].
#[derive(Clone)]
pub struct Loader {
    paths: Vec<PathBuf>,
    options: LoadOptions,
}

impl Loader {
    /// Loads the models under `paths`.
    pub fn new(paths: Vec<PathBuf>, options: LoadOptions) -> Self {
        Self { paths, options }
    }

    /// Where models are looked for.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Builds the snapshot that follows `previous`. Versions whose digest is unchanged are
    /// taken over as they are; a version that fails to load leaves the one that serves in
    /// its place and its reason in [`ServingSnapshot::failures`]. `progress` hears of each
    /// version before it is loaded: index from 0, total, the candidate.
    ///
    /// # Errors
    /// What keeps the folders from being read as models at all: nothing is served then
    /// that was not served before.
    pub fn load(
        &self,
        previous: &ServingSnapshot,
        mut progress: impl FnMut(usize, usize, &Candidate),
    ) -> Result<ServingSnapshot, Vec<Problem>> {
        let candidates = self.discover()?;
        let mut next = ServingSnapshot::default();
        for (index, candidate) in candidates.iter().enumerate() {
            progress(index, candidates.len(), candidate);
            let serving = previous.find(&candidate.name, &candidate.version);
            match self.load_one(candidate, serving) {
                Ok(served) => next.insert(served),
                Err(reason) => {
                    tracing::error!(model = %candidate.name, version = %candidate.version, "not loaded: {reason}");
                    serving.into_iter().for_each(|old| next.insert(old.clone()));
                    let (name, version) = (candidate.name.clone(), candidate.version.clone());
                    next.fail(Failure { name, version, reason });
                }
            }
        }
        Ok(next)
    }

    fn discover(&self) -> Result<Vec<Candidate>, Vec<Problem>> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            match weir_artifact::discover(path).complete() {
                Ok(found) => candidates.extend(found),
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(duplicates(&candidates));
        if problems.is_empty() { Ok(candidates) } else { Err(problems) }
    }

    fn load_one(
        &self,
        candidate: &Candidate,
        serving: Option<&Arc<ServedVersion>>,
    ) -> Result<Arc<ServedVersion>, String> {
        let model = weir_artifact::load(candidate).map_err(|problems| lines(&problems))?;
        if let Some(serving) = serving.filter(|s| s.spec.digest == model.spec.digest) {
            return Ok(serving.clone());
        }
        let engine = weir_engine::load(&model, &self.options.engine).map_err(|e| e.to_string())?;
        samples::check(&model.spec, &*engine).map_err(|failures| failures.join("\n"))?;
        self.serve(model, engine).map(Arc::new)
    }

    fn serve(&self, model: LoadedModel, engine: Arc<dyn Engine>) -> Result<ServedVersion, String> {
        let LoadOptions { threads, queue, clock, .. } = self.options.clone();
        let info = engine.info().clone();
        let executor: Result<Arc<dyn Executor>, _> = match engine.cost() {
            Cost::Light => BySize::new(engine, clock, 1, queue, INLINE_ROWS).map(|e| Arc::new(e) as _),
            Cost::Heavy => Pool::new(engine, clock, threads, queue).map(|e| Arc::new(e) as _),
        };
        let executor = executor.map_err(|e| format!("the system gives no thread for the model: {e}"))?;
        Ok(ServedVersion { spec: Arc::new(model.spec), engine: info, executor })
    }
}

fn duplicates(candidates: &[Candidate]) -> impl Iterator<Item = Problem> + '_ {
    candidates.iter().enumerate().filter_map(|(i, candidate)| {
        let same = |c: &&Candidate| c.name == candidate.name && c.version == candidate.version;
        let first = candidates[..i].iter().find(same)?;
        Some(Problem {
            file: candidate.folder.clone(),
            at: None,
            message: format!(
                "model `{}` version `{}` is also in {}; give one of them another name or version",
                candidate.name,
                candidate.version,
                first.folder.display()
            ),
        })
    })
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
