//! A model's folder.

use std::path::{Path, PathBuf};

use weir_config::Problem;

use super::{Kind, entries::Entries, folder_name};
use crate::{
    Foreign, Format,
    files::Folders,
    formats::{self, triton},
};

/// A model's folder, which its versions share.
pub(super) struct Model<'a> {
    folder: &'a Path,
    pub(super) manifest: Option<&'a Path>,
    pub(super) foreign: Option<&'a Foreign>,
    pub(super) outline: Option<triton::Outline>,
}

impl<'a> Model<'a> {
    pub(super) fn new(folder: &'a Path, entries: &'a Entries) -> Self {
        let (manifest, foreign) = (entries.manifest.as_deref(), entries.foreign.as_ref());
        Self { folder, manifest, foreign, outline: None }
    }

    /// The `config.pbtxt`, where it is what describes the model.
    pub(super) fn triton(&self) -> Option<&'a Foreign> {
        self.foreign.filter(|f| f.format == Format::Triton && self.manifest.is_none())
    }

    /// Whether the folder is described as one model without versions.
    pub(super) fn is_whole(&self) -> bool {
        self.manifest.is_none() && self.foreign.is_some_and(|f| f.format != Format::Triton)
    }

    /// What the version in `folder` is made of, and the file that says or holds it.
    pub(super) fn source(&self, folder: &Path, foreign: &Foreign) -> Result<(Kind, PathBuf), Vec<Problem>> {
        match &self.outline {
            Some(outline) if outline.ensemble => Ok((Kind::Graph, foreign.file.clone())),
            Some(outline) => {
                let found = Folders::new(folder, None).find(&outline.artifact);
                let found = found.map_err(|message| vec![Problem::new(folder, message)]);
                found.map(|artifact| (Kind::Artifact, artifact))
            }
            None => formats::artifact(foreign).map(|artifact| (Kind::Artifact, artifact)),
        }
    }

    /// The folder's name; names of other layouts may have capitals, which are lowered.
    pub(super) fn default_name(&self, manifest: Option<&Path>, foreign: Option<&Foreign>) -> String {
        let folder = folder_name(self.folder);
        if manifest.is_some() || foreign.is_none() {
            return folder;
        }
        formats::plain_name(self.outline.as_ref().and_then(|o| o.name.as_ref()).unwrap_or(&folder))
    }
}
