//! What is served: one immutable value, swapped as a whole.

use std::{collections::BTreeMap, fmt, sync::Arc};

use weir_artifact::ModelSpec;
use weir_engine::EngineInfo;
use weir_types::{Error, ErrorCode, ModelName, Version};

use crate::Executor;

/// One version of a model, ready to answer.
pub struct ServedVersion {
    /// What the model is.
    pub spec: Arc<ModelSpec>,
    /// The engine that runs it.
    pub engine: EngineInfo,
    /// Where it runs.
    pub executor: Arc<dyn Executor>,
}

impl ServedVersion {
    /// Identifies what answers: artefact, normalised `model.toml`, engine and its version.
    /// Equal digests give equal answers to equal rows.
    pub fn serving_digest(&self) -> String {
        format!("{}-{}-{}", self.spec.digest, self.engine.name, self.engine.version)
    }
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

/// A version that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// Why, one problem a line.
    pub reason: String,
}

/// Everything that is served at one moment.
#[derive(Debug, Clone, Default)]
pub struct ServingSnapshot {
    models: BTreeMap<ModelName, ServedModel>,
    failures: Vec<Failure>,
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

    /// Models that have no version which can answer: while there is one, the server is not
    /// ready. A newer version that failed beside an older one that serves does not count.
    pub fn unavailable(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|f| !self.models.contains_key(&f.name))
    }

    /// The version asked for, or the latest.
    ///
    /// # Errors
    /// `NotFound`, naming what there is; `Unavailable` for what failed to load.
    pub fn version(&self, name: &str, version: Option<&str>) -> Result<&Arc<ServedVersion>, Error> {
        let Some((_, model)) = self.models.iter().find(|(n, _)| n.as_str() == name) else {
            return Err(self.missing(name));
        };
        match version {
            None => model.versions.values().next_back(),
            Some(wanted) => model.versions.iter().find(|(v, _)| v.as_str() == wanted).map(|(_, v)| v),
        }
        .ok_or_else(|| {
            let failed = |f: &Failure| f.name.as_str() == name && Some(f.version.as_str()) == version;
            if self.failures.iter().any(failed) {
                return not_loaded(&format!("{name}/{}", version.unwrap_or_default()));
            }
            let have: Vec<_> = model.versions.keys().map(Version::as_str).collect();
            Error::not_found(format!("model `{name}` has no such version; it has: {}", have.join(", ")))
        })
    }

    fn missing(&self, name: &str) -> Error {
        if self.failures.iter().any(|f| f.name.as_str() == name) {
            return not_loaded(name);
        }
        Error::not_found(format!("there is no model `{}`", name.chars().take(128).collect::<String>()))
    }

    pub(crate) fn insert(&mut self, served: Arc<ServedVersion>) {
        let model = self.models.entry(served.spec.name.clone()).or_default();
        model.versions.insert(served.spec.version.clone(), served);
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    pub(crate) fn find(&self, name: &ModelName, version: &Version) -> Option<&Arc<ServedVersion>> {
        self.models.get(name)?.versions.get(version)
    }
}

fn not_loaded(model: &str) -> Error {
    let text = format!("model `{model}` could not be loaded; /readyz says why");
    Error::new(ErrorCode::Unavailable, text)
}
