//! Builds snapshots off the request path.

mod doubles;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use weir_artifact::{BatchingTable, Candidate, Discovery, Kind, LoadedModel, ModelSpec, SequenceStoreWord};
use weir_engine::{EngineInfo, EngineOptions};
use weir_features::Features;
use weir_types::{Clock, Error, ModelName};

use crate::{
    Archives, Cache, Cores, Executor, KeepSequences, Local, LocalOptions, MemoryBudget, Reason, Sequences,
    ServedVersion, ServingSnapshot, Stats,
    background::Background,
    executor::{self, Resident, Trial},
    features::{self, Lookup},
    graph, samples,
    sequence::SequenceExecutor,
    snapshot,
};

/// How models are loaded.
#[derive(Clone)]
pub struct LoadOptions {
    /// How engines are chosen and set up.
    pub engine: EngineOptions,
    /// Threads that all models compute on together.
    pub cores: Arc<Cores>,
    /// Jobs that may wait for one model that does not say itself.
    pub queue: usize,
    /// Time for deadlines.
    pub clock: Arc<dyn Clock>,
    /// Memory that all models share; without one, all stay loaded.
    pub budget: Option<Arc<MemoryBudget>>,
    /// Where fields that models take from feature views are looked up. Without it, all rows are
    /// explicit.
    pub features: Option<Features>,
    /// `[batching]` in place of each model's own: to measure what it would come to.
    pub batching: Option<BatchingTable>,
    /// Where answers are kept of models that want it; without one, none are.
    pub cache: Option<Cache>,
    /// Where models keep sequences.
    pub sequences: KeepSequences,
}

/// Loads what is on disk into a [`ServingSnapshot`].
#[derive(Clone)]
pub struct Loader {
    paths: Vec<PathBuf>,
    archives: Option<Archives>,
    options: LoadOptions,
    background: Arc<Background>,
}

/// One version is about to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// How many are done or under way, this one included.
    pub number: usize,
    /// How many there are.
    pub total: usize,
    /// Which one.
    pub candidate: &'a Candidate,
}

/// What came of one version.
type Attempt = Result<Arc<ServedVersion>, Reason>;

impl Loader {
    /// Loads the models under `paths`.
    pub fn new(paths: Vec<PathBuf>, options: LoadOptions) -> Self {
        Self { paths, archives: None, options, background: Arc::default() }
    }

    /// The same for models under other paths.
    pub(crate) fn at(&self, paths: Vec<PathBuf>) -> Self {
        Self { paths, ..self.clone() }
    }

    /// The clock that loading is timed by.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.options.clock
    }

    /// Loads the models of `archives` too, as far as they are here.
    #[must_use]
    pub fn with_archives(self, archives: Option<Archives>) -> Self {
        Self { archives, ..self }
    }

    /// The archives that models are loaded from.
    pub(crate) fn archives(&self) -> Option<&Archives> {
        self.archives.as_ref()
    }

    /// Where models are looked for.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Builds the snapshot that follows `previous`, several versions at a time. Versions of
    /// which nothing changed are taken over as they are; what cannot be loaded or read leaves
    /// what serves in its place and its reason in [`ServingSnapshot::failures`]. Models in
    /// `unloaded` are left out.
    pub fn load(
        &self,
        previous: &ServingSnapshot,
        unloaded: &BTreeSet<ModelName>,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> ServingSnapshot {
        // Before the folders are read: an archive that comes between is then here and missed, until the next load, which
        // it asks for. The other way round it would be neither, and a snapshot without its models would be complete.
        let missing: Vec<_> = self.archives.iter().flat_map(Archives::missing).collect();
        let Discovery { mut found, problems } = self.discover();
        found.retain(|candidate| !unloaded.contains(&candidate.name));
        let mut next = ServingSnapshot::without_models(unloaded.clone());
        self.load_into(&mut next, &found, previous, progress);
        problems.into_iter().for_each(|problem| next.keep_folder(problem, previous));
        missing.into_iter().for_each(|missing| next.await_archive(missing));
        graph::settle(&mut next, previous, &self.options, &self.background);
        next.keep_models(previous);
        next
    }

    /// Loads `model` alone, with the models that it asks if it is made of others.
    pub fn load_alone(&self, model: &ModelName) -> ServingSnapshot {
        let Discovery { found, problems } = self.discover();
        let found = graph::with_members(found, model);
        let previous = ServingSnapshot::default();
        let mut next = ServingSnapshot::default();
        self.load_into(&mut next, &found, &previous, &|_| {});
        let own = problems.into_iter().filter(|p| p.folder.file_name().is_some_and(|n| n == model.as_str()));
        own.for_each(|problem| next.keep_folder(problem, &previous));
        graph::settle(&mut next, &previous, &self.options, &self.background);
        next
    }

    /// The snapshot that follows `previous` when `model` alone is read again.
    ///
    /// # Errors
    /// `NotFound` where no folder holds the model, `InvalidArgument` where its folder cannot
    /// be read as one.
    pub fn load_model(
        &self,
        previous: &ServingSnapshot,
        model: &ModelName,
    ) -> Result<ServingSnapshot, Error> {
        let Discovery { mut found, problems } = self.discover();
        found.retain(|candidate| candidate.name == *model);
        let mut broken =
            problems.iter().filter(|p| p.folder.file_name().is_some_and(|n| n == model.as_str()));
        match (found.is_empty(), broken.next()) {
            (true, Some(broken)) => {
                tracing::error!("not loaded: {}", broken.problem);
                return Err(Error::invalid(snapshot::broken_folder(broken).public().to_owned()));
            }
            (true, None) => return Err(Error::not_found(format!("no model folder holds a model `{model}`"))),
            (false, _) => {}
        }
        let mut next = previous.clone();
        next.forget(model);
        self.load_into(&mut next, &found, previous, &|_| {});
        graph::settle(&mut next, previous, &self.options, &self.background);
        next.keep_models(previous);
        Ok(next)
    }

    /// Loads plain models and reads graphs, which are built once all models are there.
    fn load_into(
        &self,
        next: &mut ServingSnapshot,
        found: &[Candidate],
        previous: &ServingSnapshot,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) {
        let (graphs, plain): (Vec<_>, Vec<_>) = found.iter().partition(|c| c.kind == Kind::Graph);
        let attempts = self.attempt_all(&plain, previous, progress);
        for (candidate, attempt) in plain.into_iter().zip(attempts) {
            next.place(candidate, attempt, previous);
        }
        for candidate in graphs {
            match weir_artifact::read_graph(candidate) {
                Ok(draft) => next.add_draft(draft),
                Err(problems) => next.place(candidate, Err(Reason::of_files(&problems)), previous),
            }
        }
    }

    /// One attempt a candidate, in their order, on as many threads as models have.
    fn attempt_all(
        &self,
        found: &[&Candidate],
        previous: &ServingSnapshot,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Vec<Attempt> {
        let taken = AtomicUsize::new(0);
        let attempts: Vec<OnceLock<Attempt>> = found.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let index = taken.fetch_add(1, Ordering::Relaxed);
                let Some((candidate, slot)) = found.get(index).zip(attempts.get(index)) else { return };
                progress(Progress { number: index + 1, total: found.len(), candidate });
                let serving = previous.find(&candidate.name, &candidate.version);
                slot.get_or_init(|| self.load_one(candidate, serving));
            }
        };
        thread::scope(|scope| {
            // This thread works too, so that there is one where the system gives no other.
            // Under a budget models load one by one, which is how they are measured.
            let most = if self.options.budget.is_some() { 1 } else { self.options.cores.total() };
            let others = most.min(found.len()).saturating_sub(1);
            for _ in 0..others {
                let _ = thread::Builder::new().name("weir-load".into()).spawn_scoped(scope, work);
            }
            work();
        });
        let missing = || Err(Reason::open("its load was cut off"));
        attempts.into_iter().map(|slot| slot.into_inner().unwrap_or_else(missing)).collect()
    }

    fn discover(&self) -> Discovery {
        let mut all = Discovery::default();
        let fetched = self.archives.as_ref().map(Archives::folders).unwrap_or_default();
        // An image names a folder to mount models into: beside archives nothing has to be there.
        let alone = self.archives.as_ref().is_none_or(Archives::is_empty);
        let meant = |path: &&PathBuf| alone || !weir_artifact::is_empty_folder(path);
        for path in self.paths.iter().filter(meant).chain(&fetched) {
            let Discovery { found, problems } = weir_artifact::discover(path);
            all.found.extend(found);
            all.problems.extend(problems);
        }
        doubles::refuse(&mut all);
        all
    }

    fn load_one(&self, candidate: &Candidate, serving: Option<&Arc<ServedVersion>>) -> Attempt {
        if candidate.kind == Kind::Remote {
            return self.load_remote(candidate, serving);
        }
        let (model, lookup) = self.options.read(candidate)?;
        if let Some(serving) = serving.filter(|s| *s.spec == model.spec) {
            return Ok(serving.clone());
        }
        let attempt = match self.options.budget.clone() {
            None => self.options.start(&model, Arc::default()),
            Some(budget) => self.start_within(&budget, candidate, &model),
        };
        let (engine, executor) = attempt?;
        let executor = self.options.sequenced(&model.spec, executor, serving)?;
        let spec = Arc::new(model.spec);
        let executor = self.options.keeping(&spec, &engine, &[], executor);
        Ok(Arc::new(ServedVersion { spec, engine, executor, lookup, members: Vec::new() }))
    }

    /// Asks the server that runs the model what it is, and runs its golden rows there.
    fn load_remote(&self, candidate: &Candidate, serving: Option<&Arc<ServedVersion>>) -> Attempt {
        let mut described = executor::describe(candidate, &self.background)?;
        let lookup = features::bind(&mut described.spec, self.options.features.as_ref())?;
        if let Some(serving) =
            serving.filter(|s| s.spec.digest == described.spec.digest && s.spec.cache == described.spec.cache)
        {
            return Ok(serving.clone());
        }
        let LoadOptions { clock, queue, .. } = &self.options;
        // Golden rows run on an executor of their own: what requests are sent on is opened by
        // them, on the server's threads.
        let probe = described.executor(clock.clone(), Arc::default(), *queue)?;
        samples::check_executor(&described.spec, &probe, &**clock, &self.background)?;
        if let Some(note) = described.settle(&probe, &**clock, &self.background) {
            tracing::info!(model = %candidate.name, version = %candidate.version, "{note}");
        }
        let executor = Arc::new(described.executor(clock.clone(), Arc::default(), *queue)?);
        let (spec, engine) = (Arc::new(described.spec), described.engine);
        let executor = self.options.keeping(&spec, &engine, &[], executor);
        Ok(Arc::new(ServedVersion { spec, engine, executor, lookup, members: Vec::new() }))
    }

    /// Starts a model that sleeps when its memory is needed.
    fn start_within(
        &self,
        budget: &Arc<MemoryBudget>,
        candidate: &Candidate,
        model: &LoadedModel,
    ) -> Started {
        let stats: Arc<Stats> = Arc::default();
        let least = model.spec.artifact_bytes;
        let (started, bytes) = budget.measure(least, || self.options.start(model, stats.clone()));
        let (engine, executor) = started?;
        let (options, candidate, digest) =
            (self.options.clone(), candidate.clone(), model.spec.digest.clone());
        let wake = Box::new(move |stats| {
            let (model, _) = options.read(&candidate).map_err(|reason| reason.to_string())?;
            if model.spec.digest != digest {
                return Err(format!("{} changed since it was loaded: reload", candidate.folder.display()));
            }
            let started = options.start(&model, stats).map_err(|reason| reason.to_string());
            started.map(|(_, executor)| executor)
        });
        let resident = Resident::new(budget, executor, (bytes, least), stats, wake);
        Ok((engine, Arc::new(resident)))
    }
}

/// A model that runs.
type Started = Result<(EngineInfo, Arc<dyn Executor>), Reason>;

impl LoadOptions {
    /// Reads a model from disk, and finds where its rows are completed.
    fn read(&self, candidate: &Candidate) -> Result<(LoadedModel, Option<Arc<Lookup>>), Reason> {
        let mut model = weir_artifact::load(candidate).map_err(|problems| Reason::of_files(&problems))?;
        if let Some(batching) = &self.batching {
            model.spec.batching = batching.clone();
        }
        let lookup = features::bind(&mut model.spec, self.features.as_ref())?;
        Ok((model, lookup))
    }

    /// `executor`, keeping its answers where that is wanted.
    pub(crate) fn keeping(
        &self,
        spec: &Arc<ModelSpec>,
        engine: &EngineInfo,
        members: &[Arc<ServedVersion>],
        executor: Arc<dyn Executor>,
    ) -> Arc<dyn Executor> {
        match &self.cache {
            Some(cache) => cache.wrap(spec, engine, members, executor),
            None => executor,
        }
    }

    /// The executor with the sequences of a model that keeps state: those of `serving` go on if it
    /// has the same digest, and else end with it: a state means nothing to other weights.
    fn sequenced(
        &self,
        spec: &ModelSpec,
        executor: Arc<dyn Executor>,
        serving: Option<&Arc<ServedVersion>>,
    ) -> Result<Arc<dyn Executor>, Reason> {
        let Some(sequence) = &spec.sequence else { return Ok(executor) };
        let store = match (sequence.store, &self.sequences) {
            (SequenceStoreWord::Memory, _) | (_, KeepSequences::Here) => None,
            (SequenceStoreWord::Redis, KeepSequences::AsDeclared(Some(store))) => Some(store.clone()),
            (SequenceStoreWord::Redis, KeepSequences::AsDeclared(None)) => {
                return Err(Reason::open(
                    "sequence.store is \"redis\", and the server has none: write [redis] with a url into weir.toml, \
                     or leave it out",
                ));
            }
        };
        let same = serving.filter(|serving| serving.spec.digest == spec.digest);
        let table = same.and_then(|serving| serving.executor.sequences()).cloned();
        let table = table.unwrap_or_else(|| Arc::new(Sequences::new(self.clock.clone())));
        let of = (spec, sequence.clone());
        Ok(Arc::new(SequenceExecutor::new(executor, of, table, store, self.clock.clone())))
    }

    /// Builds the engine, runs the golden rows and starts the executor.
    fn start(&self, model: &LoadedModel, stats: Arc<Stats>) -> Started {
        let engine = weir_engine::load(model, &self.engine)
            .map_err(|error| Reason::new("no engine can run it; the log says why", error.to_string()))?;
        samples::check(&model.spec, &samples::on(&*engine))?;
        let trial = Trial::new(&model.spec, &*engine, &*self.clock);
        if let Some(note) = trial.note() {
            tracing::info!(model = %model.spec.name, version = %model.spec.version, "{note}");
        }
        let info = engine.info().clone();
        let options = LocalOptions {
            batching: model.spec.batching.clone(),
            queue: self.queue,
            merge: trial.merges(),
            uniform: trial.uniform,
            cores: self.cores.clone(),
            clock: self.clock.clone(),
        };
        Ok((info, Arc::new(Local::tried(engine, options, trial, stats))))
    }
}
