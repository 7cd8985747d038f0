//! What is found on disk.

use std::path::{Path, PathBuf};

use weir_config::Problem;
use weir_types::{ModelName, Version};

use super::{entries::is_number, folder_name};
use crate::Foreign;

/// What a model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An artefact that an engine runs.
    Artifact,
    /// Other models: `[graph]` in `model.toml`, `ensemble_scheduling` in `config.pbtxt`.
    Graph,
    /// Another server: `[remote]` in `model.toml`.
    Remote,
}

/// One version of a model as found on disk, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The model's name: from `model.toml`, else the folder's (or file's).
    pub name: ModelName,
    /// The version: the numeric folder's name, else `1`.
    pub version: Version,
    /// What it is made of.
    pub kind: Kind,
    /// The folder that holds the artefact.
    pub folder: PathBuf,
    /// The artefact file; for a graph the file that describes it.
    pub artifact: PathBuf,
    /// The `model.toml` that describes it, if any: in `folder`, else in the folder above it
    /// that versions share.
    pub manifest: Option<PathBuf>,
    /// What describes it in another layout (`config.pbtxt`, `MLmodel`, `config.json`), if
    /// anything does: read only where there is no `manifest`.
    pub foreign: Option<Foreign>,
}

impl Candidate {
    /// The folder around the model's own, where the models lie that a graph asks.
    pub fn neighbours(&self) -> PathBuf {
        let own = self.artifact.parent().unwrap_or(&self.folder);
        let own = if own.as_os_str().is_empty() { Path::new(".") } else { own };
        // So that there is something around `.` and `..` too.
        let own = own.canonicalize().unwrap_or_else(|_| own.to_owned());
        let versioned = self.artifact.parent() == Some(&self.folder) && is_number(&folder_name(&own));
        own.ancestors().nth(if versioned { 2 } else { 1 }).unwrap_or(&own).to_owned()
    }
}

/// What was found, and what keeps other folders from being models: one broken folder does
/// not hide its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Everything that can be tried, sorted by name and version.
    pub found: Vec<Candidate>,
    /// What is wrong elsewhere, in the order it was met.
    pub problems: Vec<FolderProblem>,
}

/// Something that keeps a folder from being a model or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderProblem {
    /// The folder that cannot be served: a version's own, or the model's where no version can
    /// be told; for a path that is a single file, that file. Nothing in [`Discovery::found`]
    /// has this folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Discovery {
    /// All candidates, where nothing is wrong.
    ///
    /// # Errors
    /// All problems at once.
    pub fn complete(self) -> Result<Vec<Candidate>, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(self.found);
        }
        // Versions that share a broken `model.toml` have one problem, not one each.
        let mut all: Vec<Problem> = self.problems.into_iter().map(|p| p.problem).collect();
        all.dedup();
        Err(all)
    }
}
