//! One thing that is wrong.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Most problems told at once; more than a person fixes in one go.
const MAX_PROBLEMS: usize = 100;

/// Longest piece of the operator's text that a message repeats, in characters.
const MAX_ECHO_CHARS: usize = 64;

/// Longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 1000;

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
    /// A problem with a file as a whole. Control characters in the message are replaced,
    /// and a very long message is cut: it may repeat what the file says.
    pub fn new(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, message: cut(&message.into(), MAX_MESSAGE_CHARS) }
    }

    /// The same at a line and column, both from 1.
    #[must_use]
    pub fn at(self, line: usize, column: usize) -> Self {
        Self { at: Some((line, column)), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cut(&self.file.to_string_lossy(), usize::MAX))?;
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
    cut(text, MAX_ECHO_CHARS)
}

/// At most `max` characters, control characters replaced: a terminal would obey them.
fn cut(text: &str, max: usize) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(max).map(shown).collect();
    if text.chars().nth(max).is_some() {
        short.push('…');
    }
    short
}

/// The one of `known` that `word` was probably meant to be: a few slips away, or alike in
/// its beginning.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
