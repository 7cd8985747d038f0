//! Why an archive is not here, and whether waiting helps.

use std::{fmt, io};

use weir_artifact::archive::ArchiveError;
use weir_clients::{DownloadError, is_passing_io};

use super::list::Wanted;

/// Why an archive is not here: what was got, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotFetched {
    /// What was got, and what to do where somebody has to.
    pub(crate) text: String,
    /// Whether it may come without anybody changing anything.
    pub(crate) passing: bool,
}

impl fmt::Display for NotFetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl NotFetched {
    /// It may come by itself.
    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true }
    }

    /// Somebody has to change something.
    pub(super) fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: false }
    }

    /// The system refuses `what` in the folder of archives.
    pub(super) fn of_folder(what: String, error: &io::Error) -> Self {
        let text = format!("{what}: {error}; name another folder with `fetch.cache`");
        Self { text, passing: is_passing_io(error.kind()) }
    }

    pub(super) fn of_download(error: &DownloadError, wanted: &Wanted) -> Self {
        let fix = error.fix(&wanted.from, wanted.token_file.is_some());
        let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
        Self { text: format!("{error}{fix}"), passing: error.is_passing() }
    }

    /// It has the digest that was asked for, and cannot be unpacked.
    pub(super) fn of_archive(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::Refused(text) => Self::lasting(format!(
                "it is what `archive.sha256` names, and no archive that can be unpacked: {text}; \
                 pack it again with `weir package`"
            )),
            ArchiveError::Io { source, .. } => Self::of_folder(error.to_string(), source),
        }
    }

    /// Names the archive and where it was looked for.
    pub(super) fn named(self, wanted: &Wanted) -> Self {
        let Wanted { from, .. } = wanted;
        Self { text: format!("archive {} cannot be had from {from}: {}", from.stem(), self.text), ..self }
    }
}
