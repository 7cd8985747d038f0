//! One thing that is wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Most problems told at once; more than a person fixes in one go.
const MAX_PROBLEMS: usize = 100;

/// Longest piece of the operator's text that a message repeats, in characters.
const MAX_ECHO_CHARS: usize = 64;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file; for a value that came from elsewhere its source, for example
    /// `environment variable WEIR_SERVER__LISTEN`.
    pub file: PathBuf,
    /// Line and column (in characters), both from 1; `None` where the problem is not at a
    /// place.
    pub at: Option<(usize, usize)>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with a file as a whole.
    pub fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Problem {}

/// In the order of places, at most [`MAX_PROBLEMS`], saying how many more there are.
pub(crate) fn tidy(file: &Path, mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (a.file != file, &a.file, a.at).cmp(&(b.file != file, &b.file, b.at)));
    problems.dedup();
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::new(file, format!("and {more} more problems")));
    }
    problems
}

/// Text of the operator's as a message may repeat it: shortened, no control characters.
pub(crate) fn echo(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(MAX_ECHO_CHARS)
        .flat_map(|c| c.is_control().then_some('\u{fffd}').or(Some(c)))
        .collect();
    if text.chars().nth(MAX_ECHO_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// The one of `known` that `word` was probably meant to be: a few slips away, or alike in
/// its beginning.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.9; // Jaro-Winkler, which favours common beginnings
    let length = word.chars().count();
    if length > MAX_ECHO_CHARS {
        return None; // the comparison is quadratic
    }
    let slips = |k: &str| strsim::osa_distance(word, k);
    let close = |k: &&str| slips(k) <= 1 + length / 5 || strsim::jaro_winkler(word, k) >= ALIKE;
    known.into_iter().filter(|k| word != *k && close(k)).min_by_key(|k| slips(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_as_compilers_do() {
        let mut problem = Problem::new(Path::new("a.toml"), "no");
        assert_eq!(problem.to_string(), "a.toml: no");
        problem.at = Some((3, 7));
        assert_eq!(problem.to_string(), "a.toml:3:7: no");
    }

    #[test]
    fn nearest_finds_slips_and_no_strangers() {
        let known = ["labels", "task", "limits", "samples"];
        assert_eq!(nearest("lable", known), Some("labels"));
        assert_eq!(nearest("smaples", known), Some("samples"));
        assert_eq!(nearest("tsak", known), Some("task"));
        assert_eq!(nearest("frobnicate", known), None);
        assert_eq!(nearest(&"l".repeat(1_000_000), known), None);
    }

    #[test]
    fn echoes_are_short_and_printable() {
        assert_eq!(echo("a\u{1b}[31mb"), "a\u{fffd}[31mb");
        assert_eq!(echo(&"x".repeat(1000)).chars().count(), MAX_ECHO_CHARS + 1);
    }
}
