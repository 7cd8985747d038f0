//! Why an archive cannot be made or unpacked.

use std::{io, path::Path};

/// Why an archive cannot be made or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system says no: disk, permissions, connection.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It holds, or would hold, what it may not; a sentence that says what to do.
    #[error("{0}")]
    Refused(String),
}

impl ArchiveError {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// For `map_err`: names the file.
    pub(crate) fn at(path: &Path, what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{} cannot be {what}", path.display());
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: the archive itself.
    pub(crate) fn reading(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::refused("the archive ends in the middle of an entry"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Self::Refused(format!("the archive's gzip is damaged: {source}"))
            }
            io::ErrorKind::FileTooLarge => Self::Refused(source.to_string()),
            _ => Self::Io { what: "the archive cannot be read".to_owned(), source },
        }
    }

    /// For `map_err`: the archive itself.
    pub(crate) fn writing(source: io::Error) -> Self {
        Self::Io { what: "the archive cannot be written".to_owned(), source }
    }
}
