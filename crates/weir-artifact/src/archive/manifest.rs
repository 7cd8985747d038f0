//! `weir-package.json`: what an archive holds.

use serde::{Deserialize, Serialize};

use super::{ArchiveError, entry};

/// The file that says what an archive holds, at its top.
pub const PACKAGE_FILE: &str = "weir-package.json";

/// The only form that there is.
const FORM: u32 = 1;
/// Most bytes of the file: 10,000 files with long paths.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageManifest {
    /// Which form this file has: 1.
    pub format: u32,
    /// The models, by name and version; empty where the archive was made by another program.
    pub models: Vec<PackagedModel>,
    /// All files but this one, by path.
    pub files: Vec<PackagedFile>,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagedModel {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Weir's serving digest: what its answers depend on. None of a graph that was not checked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagedFile {
    /// Where it lies in the archive, `/` between its parts.
    pub path: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// SHA-256 of its contents, lower-case hex.
    pub sha256: String,
}

impl PackageManifest {
    /// A manifest of this form.
    pub fn new(models: Vec<PackagedModel>, files: Vec<PackagedFile>) -> Self {
        Self { format: FORM, models, files }
    }

    /// The file's contents.
    ///
    /// # Errors
    /// Never for what can be in one.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, ArchiveError> {
        let text = serde_json::to_vec_pretty(self);
        let mut text = text.map_err(|e| ArchiveError::Refused(format!("{PACKAGE_FILE}: {e}")))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the file's contents.
    ///
    /// # Errors
    /// What is no such file, has another form, or names a path that leads somewhere else.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let refuse = |why: String| ArchiveError::Refused(format!("{PACKAGE_FILE} {why}"));
        let read: Self = serde_json::from_slice(bytes).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        if read.format != FORM {
            return Err(refuse(format!("has form {}, and this Weir reads form {FORM}", read.format)));
        }
        if !read.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(refuse("names a file twice, or in no order".to_owned()));
        }
        for file in &read.files {
            if entry::plain(&file.path, entry::What::File)? != file.path {
                return Err(refuse(format!("names `{}`, which is no plain path", file.path.escape_debug())));
            }
        }
        Ok(read)
    }
}
