//! Where each value of a document came from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Problem;

/// What a value that is laid over files came by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The environment variable of this name.
    Variable(String),
    /// An argument of the command, by what it is called: `--listen`.
    Argument(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Variable(name) => write!(f, "environment variable {name}"),
            Source::Argument(name) => f.write_str(name),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file, at this line and column (both from 1).
    File {
        /// The file, as it was named.
        file: Arc<Path>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An override.
    Override(Source),
    /// Nobody wrote it, and it was worked out from this: `a share of the cgroup's memory limit`.
    Derived(String),
    /// Nobody wrote it.
    Default,
}

impl Origin {
    /// Whether it stands in a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Origin::File { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Origin::Override(source) => write!(f, "{source}"),
            Origin::Derived(from) => write!(f, "default, {from}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// Key path (`server.listen`, `input.field[2].name`) to origin, for every value that was
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    file: PathBuf,
    origins: BTreeMap<String, Origin>,
    /// What was laid over others: where those came from, the nearest first.
    over: BTreeMap<String, Vec<Origin>>,
}

impl Places {
    pub(crate) fn new(file: &Path, origins: BTreeMap<String, Origin>) -> Self {
        Self { file: file.to_owned(), origins, over: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, path: &str, origin: Origin, over: Vec<Origin>) {
        self.origins.insert(path.to_owned(), origin);
        if !over.is_empty() {
            self.over.insert(path.to_owned(), over);
        }
    }

    /// Notes that the value at `path` was replaced by what `origin` says.
    pub fn lay(&mut self, path: &str, origin: Origin) {
        if let Some(below) = self.origins.insert(path.to_owned(), origin) {
            self.over.entry(path.to_owned()).or_default().insert(0, below);
        }
    }

    /// Notes that nobody wrote the value at `path`, and what it was worked out from.
    pub fn derive(&mut self, path: &str, from: impl Into<String>) {
        self.origins.insert(path.to_owned(), Origin::Derived(from.into()));
    }

    /// Places of values that stand in `file`, which need not be TOML: key path and line and
    /// column, from 1.
    pub fn of(file: &Path, places: impl IntoIterator<Item = (String, (usize, usize))>) -> Self {
        let named: Arc<Path> = file.into();
        let origin = |(path, (line, column))| (path, Origin::File { file: named.clone(), line, column });
        Self::new(file, places.into_iter().map(origin).collect())
    }

    /// Where the value at `path` came from; [`Origin::Default`] if nobody wrote it.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// Where the values came from that the one at `path` was laid over, the nearest first.
    pub fn over(&self, path: &str) -> &[Origin] {
        self.over.get(path).map_or(&[], Vec::as_slice)
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
        Origin::File { file, line, column } => Problem::new(file, message).at(*line, *column),
        Origin::Override(source) => Problem::new(source.to_string().as_ref(), message),
        Origin::Derived(_) | Origin::Default => Problem::new(file, message),
    }
}
