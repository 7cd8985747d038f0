//! What is served: one immutable value, swapped as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use weir_artifact::{Candidate, FolderProblem, GraphDraft, Kind, ModelSpec};
use weir_engine::EngineInfo;
use weir_types::{Error, ErrorCode, ModelName, Version};

use crate::{Executor, Lookup, Reason, fetch::Missing};

/// One version of a model, ready to answer.
pub struct ServedVersion {
    /// What the model is.
    pub spec: Arc<ModelSpec>,
    /// The engine that runs it.
    pub engine: EngineInfo,
    /// Where it runs.
    pub executor: Arc<dyn Executor>,
    /// Where its rows' features are looked up, if they are.
    pub lookup: Option<Arc<Lookup>>,
    /// The versions that it asks, if it is made of others: what it answers is theirs.
    pub members: Vec<Arc<ServedVersion>>,
}

impl fmt::Debug for ServedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.spec.name, self.spec.version, self.engine.name)
    }
}

/// The versions of one model, oldest first, never empty.
#[derive(Debug, Clone, Default)]
pub struct ServedModel {
    versions: BTreeMap<Version, Arc<ServedVersion>>,
}

impl ServedModel {
    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<ServedVersion>> {
        self.versions.values()
    }
}

/// Something that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The model; the folder's name where it is not known.
    pub model: String,
    /// The version, where it is known.
    pub version: Option<Version>,
    /// Why; all of it has one problem a line.
    pub reason: Reason,
    /// Whether something that loaded earlier serves in its place.
    pub covered: bool,
    /// Whether it may load without anybody changing a file: its server was away.
    pub transient: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.which(), self.reason)
    }
}

impl Failure {
    /// The line of it that anybody may read.
    pub fn public(&self) -> String {
        format!("{}: {}", self.which(), self.reason.public())
    }

    fn which(&self) -> String {
        let version = self.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
        format!("model {}{version}", self.model)
    }
}

/// Why nothing of a folder could be loaded: what is wrong with it names others.
pub(crate) fn broken_folder(broken: &FolderProblem) -> Reason {
    Reason::new("its folder cannot be used; the log says why", broken.problem.to_string())
}

/// Everything that is served at one moment.
#[derive(Debug, Clone, Default)]
pub struct ServingSnapshot {
    models: BTreeMap<ModelName, ServedModel>,
    failures: Vec<Failure>,
    unloaded: BTreeSet<ModelName>,
    /// All graphs that could be read, also those that could not be built: they are built
    /// again whenever a model changes.
    drafts: Vec<Arc<GraphDraft>>,
    /// Archives that are still to come. Nobody knows their models yet: an archive's name is none of a model.
    awaited: Vec<Missing>,
    /// Models of which an earlier state serves that is not where models are read from now.
    kept: BTreeSet<ModelName>,
}

impl ServingSnapshot {
    /// All models that can answer, by name.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &ServedModel)> {
        self.models.iter()
    }

    /// What could not be loaded the last time it was tried.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Archives of models that are still to come.
    pub fn awaited(&self) -> impl Iterator<Item = &Missing> {
        self.awaited.iter()
    }

    /// How much is not there that should be: versions that could not be loaded the last time it was tried, and
    /// archives that are still to come.
    pub fn missing_count(&self) -> usize {
        self.failures.len() + self.awaited.len()
    }

    /// Whether a model answers, or may without anybody changing anything: its server may come back, its archive
    /// be fetched.
    pub fn has_prospects(&self) -> bool {
        let coming = self.awaited.iter().any(|archive| !archive.lasting);
        coming || !self.models.is_empty() || self.failures.iter().any(|failure| failure.transient)
    }

    /// Whether every model has a version that answers, and all models are known. A newer version that
    /// failed beside one that serves does not count, or one bad push would take down the fleet.
    pub fn can_answer(&self) -> bool {
        self.awaited.is_empty() && self.unavailable().next().is_none()
    }

    /// The same, of whose awaited archives is told that they are held up by `reason`.
    pub fn held_up(&self, reason: &Reason) -> Self {
        let mut held = self.clone();
        held.awaited.iter_mut().for_each(|archive| archive.reason = reason.clone());
        held
    }

    /// Models that were told to unload.
    pub fn unloaded(&self) -> impl Iterator<Item = &ModelName> {
        self.unloaded.iter()
    }

    /// Failures that leave a model without any version: while there is one, the server
    /// [cannot answer](Self::can_answer). A newer version that failed beside an older one that serves does not count.
    pub fn unavailable(&self) -> impl Iterator<Item = &Failure> {
        self.failures
            .iter()
            .filter(|f| !f.covered && !self.models.keys().any(|name| name.as_str() == f.model))
    }

    /// The version asked for, or the latest.
    ///
    /// # Errors
    /// `NotFound`, naming what there is; `Unavailable` for what failed to load or was unloaded.
    pub fn version(&self, name: &str, version: Option<&str>) -> Result<&Arc<ServedVersion>, Error> {
        let Some((_, model)) = self.models.iter().find(|(n, _)| n.as_str() == name) else {
            return Err(self.missing(name));
        };
        match version {
            None => model.versions.values().next_back(),
            Some(wanted) => model.versions.iter().find(|(v, _)| v.as_str() == wanted).map(|(_, v)| v),
        }
        .ok_or_else(|| {
            let failed = |f: &Failure| f.model == name && f.version.as_ref().map(Version::as_str) == version;
            if self.failures.iter().any(failed) {
                return not_loaded(&format!("{name}/{}", version.unwrap_or_default()));
            }
            if !self.awaited.is_empty() {
                // An archive may hold it.
                return incomplete();
            }
            let have: Vec<_> = model.versions.keys().map(Version::as_str).collect();
            Error::not_found(format!("model `{name}` has no such version; it has: {}", have.join(", ")))
        })
    }

    fn missing(&self, name: &str) -> Error {
        if self.unloaded.iter().any(|unloaded| unloaded.as_str() == name) {
            return Error::new(ErrorCode::Unavailable, format!("model `{name}` is unloaded"));
        }
        if self.failures.iter().any(|f| f.model == name) {
            return not_loaded(name);
        }
        if !self.awaited.is_empty() {
            return incomplete();
        }
        Error::not_found(format!("there is no model `{}`", name.chars().take(128).collect::<String>()))
    }

    /// The same without `model`, which counts as unloaded.
    ///
    /// # Errors
    /// `NotFound` where it is not served, `Conflict` where a graph asks it.
    pub(crate) fn without(&self, model: &ModelName) -> Result<Self, Error> {
        if !self.models.contains_key(model) {
            return Err(self.missing(model.as_str()));
        }
        if let Some(graph) = self.graph_on(model) {
            let message = format!("model `{model}` is a step of `{graph}`: unload that one first");
            return Err(Error::new(ErrorCode::Conflict, message));
        }
        let mut next = self.clone();
        next.forget(model);
        next.unloaded.insert(model.clone());
        Ok(next)
    }

    /// A model that asks `model`, other than itself.
    fn graph_on(&self, model: &ModelName) -> Option<&ModelName> {
        let asks = |version: &Arc<ServedVersion>| version.members.iter().any(|m| m.spec.name == *model);
        let others = self.models.iter().filter(|(name, _)| *name != model);
        others.filter(|(_, other)| other.versions().any(asks)).map(|(name, _)| name).next()
    }

    /// The graphs that could be read.
    pub(crate) fn drafts(&self) -> &[Arc<GraphDraft>] {
        &self.drafts
    }

    pub(crate) fn add_draft(&mut self, draft: GraphDraft) {
        self.drafts.push(Arc::new(draft));
    }

    /// What came of one candidate takes its place, and its earlier failure's.
    pub(crate) fn place(
        &mut self,
        candidate: &Candidate,
        attempt: Result<Arc<ServedVersion>, Reason>,
        previous: &Self,
    ) {
        let earlier = |f: &Failure| {
            f.model == candidate.name.as_str() && f.version.as_ref() == Some(&candidate.version)
        };
        self.failures.retain(|failure| !earlier(failure));
        match attempt {
            Ok(served) => self.insert(served),
            Err(reason) => {
                // What is tried again every few seconds need not be told each time.
                if !previous.failures.iter().any(|f| earlier(f) && f.reason == reason) {
                    tracing::error!(model = %candidate.name, version = %candidate.version, "not loaded: {reason}");
                }
                self.keep_version(candidate, reason, previous);
            }
        }
    }

    pub(crate) fn without_models(unloaded: BTreeSet<ModelName>) -> Self {
        Self { unloaded, ..Self::default() }
    }

    /// Drops all that is known of `model`.
    pub(crate) fn forget(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.kept.remove(model);
        self.drafts.retain(|draft| draft.candidate().name != *model);
        self.unloaded.remove(model);
        self.failures.retain(|f| f.model != model.as_str());
    }

    pub(crate) fn insert(&mut self, served: Arc<ServedVersion>) {
        let model = self.models.entry(served.spec.name.clone()).or_default();
        model.versions.insert(served.spec.version.clone(), served);
    }

    /// A candidate failed: the same version as it was loaded earlier serves on, from wherever that was.
    pub(crate) fn keep_version(&mut self, candidate: &Candidate, reason: Reason, previous: &Self) {
        let earlier = previous.find(&candidate.name, &candidate.version).cloned();
        let (model, version) = (candidate.name.to_string(), Some(candidate.version.clone()));
        let (covered, transient) = (earlier.is_some(), candidate.kind == Kind::Remote);
        self.failures.push(Failure { model, version, reason, covered, transient });
        if let Some(version) = earlier {
            if !version.spec.artifact.starts_with(&candidate.folder) {
                self.kept.insert(candidate.name.clone());
            }
            self.insert(version);
        }
    }

    /// All that is loaded is there. Of models that have nothing now but failures, what `previous` has
    /// serves on.
    pub(crate) fn keep_models(&mut self, previous: &Self) {
        for (name, model) in &previous.models {
            let failed = |f: &Failure| f.model == name.as_str();
            if self.models.contains_key(name) || !self.failures.iter().any(failed) {
                continue;
            }
            self.failures.iter_mut().filter(|f| failed(f)).for_each(|f| f.covered = true);
            self.kept.insert(name.clone());
            self.models.insert(name.clone(), model.clone());
        }
    }

    /// What failed of models that serve only as they were elsewhere: there, nothing of them is left.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Failure> {
        let kept = |f: &&Failure| self.kept.iter().any(|name| name.as_str() == f.model);
        self.failures.iter().filter(kept)
    }

    /// An archive is not here yet; it comes without anybody changing a file.
    pub(crate) fn await_archive(&mut self, archive: Missing) {
        self.awaited.push(archive);
    }

    /// A folder cannot be read: what was loaded from it earlier serves on.
    pub(crate) fn keep_folder(&mut self, broken: FolderProblem, previous: &Self) {
        tracing::error!("not loaded: {}", broken.problem);
        let all = previous.models.values().flat_map(ServedModel::versions);
        let earlier: Vec<_> = all.filter(|v| v.spec.artifact.starts_with(&broken.folder)).cloned().collect();
        let model = broken.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reason = broken_folder(&broken);
        let covered = !earlier.is_empty();
        self.failures.push(Failure { model, version: None, reason, covered, transient: false });
        earlier.into_iter().for_each(|version| self.insert(version));
    }

    pub(crate) fn find(&self, name: &ModelName, version: &Version) -> Option<&Arc<ServedVersion>> {
        self.models.get(name)?.versions.get(version)
    }
}

/// What is asked for may come.
fn incomplete() -> Error {
    Error::new(ErrorCode::Unavailable, "not all archives of models are served yet; /readyz says why")
}

fn not_loaded(model: &str) -> Error {
    let text = format!("model `{model}` could not be loaded; /readyz says why");
    Error::new(ErrorCode::Unavailable, text)
}
