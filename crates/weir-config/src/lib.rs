//! TOML that an operator writes: checked as a whole, every problem told at once.
//!
//! The Rust type is the only description: `schemars` turns it into a JSON Schema, the
//! document is checked against that with spans, and only a clean document is
//! deserialized.

use std::{fmt, path::PathBuf};

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both from 1; `None` where the problem is not at a place.
    pub at: Option<(usize, usize)>,
    /// What is wrong, and what would be right.
    pub message: String,
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
