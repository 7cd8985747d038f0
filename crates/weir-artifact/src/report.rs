//! Collecting problems of one model, each at its place in `model.toml`.

use std::path::{Path, PathBuf};

use weir_config::{Places, Problem};

/// What is wrong with a model so far.
#[derive(Debug)]
pub(crate) struct Report {
    /// What a problem names when there is no `model.toml`.
    file: PathBuf,
    places: Option<Places>,
    pub(crate) problems: Vec<Problem>,
}

impl Report {
    /// `places` are those of `model.toml`, `file` stands in where there is none.
    pub(crate) fn new(file: &Path, places: Option<Places>) -> Self {
        Self { file: file.to_owned(), places, problems: Vec::new() }
    }

    /// Something is wrong with the value at the key path `path` of `model.toml`.
    pub(crate) fn at(&mut self, path: &str, message: impl Into<String>) {
        let problem = match &self.places {
            Some(places) => places.problem(path, message),
            None => Problem::new(&self.file, message),
        };
        self.problems.push(problem);
    }

    /// A problem at the key path `path` of which nothing is said yet.
    pub(crate) fn place(&self, path: &str) -> Problem {
        match &self.places {
            Some(places) => places.problem(path, String::new()),
            None => Problem::new(&self.file, String::new()),
        }
    }

    /// The value, or else its error is reported at `path`.
    pub(crate) fn keep<T>(&mut self, path: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.at(path, message)).ok()
    }
}
