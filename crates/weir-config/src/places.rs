//! Where each value of a document came from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::Problem;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file, at this line and column (both from 1).
    File {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An override, by its name: `environment variable WEIR_SERVER__LISTEN`, `--listen`.
    Override(String),
    /// Nobody wrote it.
    Default,
}

/// Key path (`server.listen`, `input.field[2].name`) to origin, for every value that was
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    file: PathBuf,
    origins: BTreeMap<String, Origin>,
}

impl Places {
    pub(crate) fn new(file: &Path, origins: BTreeMap<String, Origin>) -> Self {
        Self { file: file.to_owned(), origins }
    }

    /// Places of values that stand in `file`, which need not be TOML: key path and line and
    /// column, from 1.
    pub fn of(file: &Path, places: impl IntoIterator<Item = (String, (usize, usize))>) -> Self {
        let origin = |(path, (line, column))| (path, Origin::File { line, column });
        Self::new(file, places.into_iter().map(origin).collect())
    }

    /// Where the value at `path` came from; [`Origin::Default`] if nobody wrote it.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// All that was written, by key path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.origins.iter().map(|(path, origin)| (path.as_str(), origin))
    }

    /// A problem with the value at `path`, found after parsing: placed there, or at the
    /// closest table around it that was written.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let mut around = path;
        let origin = loop {
            match (self.origins.get(around), around.rfind(['.', '['])) {
                (Some(origin), _) => break origin,
                (None, Some(end)) => around = &around[..end],
                (None, None) => break &Origin::Default,
            }
        };
        place(&self.file, origin, message.into())
    }
}

/// A problem of a value that came from `origin`.
pub(crate) fn place(file: &Path, origin: &Origin, message: String) -> Problem {
    match origin {
        Origin::File { line, column } => Problem::new(file, message).at(*line, *column),
        Origin::Override(source) => Problem::new(source.as_ref(), message),
        Origin::Default => Problem::new(file, message),
    }
}
