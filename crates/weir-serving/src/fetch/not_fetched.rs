//! Why an archive is not here, and whether waiting helps.

use std::{fmt, io};

use weir_artifact::archive::ArchiveError;
use weir_clients::{CallError, DownloadError, is_passing_io};

use super::list::Wanted;
use crate::Reason;

/// What everybody may read where the folder of archives is the reason.
pub(super) const FOLDER: &str = "the folder that keeps archives cannot be used; the log says why";
/// What everybody may read where what is in it is.
pub(super) const UNREADABLE: &str = "what is kept of it cannot be read; the log says why";

/// Why an archive is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotFetched {
    /// What was got, and what to do where somebody has to. Its public part is the class of the error: what a server
    /// said, and where it is, is nobody's but the operator's.
    pub(crate) reason: Reason,
    /// Whether it may come without anybody changing anything.
    pub(crate) passing: bool,
}

impl fmt::Display for NotFetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl NotFetched {
    /// It may come by itself.
    pub(super) fn passing(public: impl Into<String>, full: impl Into<String>) -> Self {
        Self { reason: Reason::new(public, full), passing: true }
    }

    /// Somebody has to change something.
    pub(super) fn lasting(public: impl Into<String>, full: impl Into<String>) -> Self {
        Self { reason: Reason::new(public, full), passing: false }
    }

    /// The system refuses `what` in the folder of archives.
    pub(super) fn of_folder(what: String, error: &io::Error) -> Self {
        let full = format!("{what}: {error}; name another folder with `fetch.cache`");
        Self { reason: Reason::new(FOLDER, full), passing: is_passing_io(error.kind()) }
    }

    pub(super) fn of_download(error: &DownloadError, wanted: &Wanted) -> Self {
        let fix = error.fix(&wanted.from, wanted.token_file.is_some());
        let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
        Self { reason: Reason::new(class(error), format!("{error}{fix}")), passing: error.is_passing() }
    }

    /// It has the digest that was asked for, and cannot be unpacked.
    pub(super) fn of_archive(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::Refused(text) => {
                let full = format!(
                    "it is what `archive.sha256` names, and no archive that can be unpacked: {text}; \
                     pack it again with `weir package`"
                );
                Self::lasting("what came cannot be unpacked; the log says why", full)
            }
            ArchiveError::Io { source, .. } => Self::of_folder(error.to_string(), source),
        }
    }

    /// Names the archive and, for operators, where it was looked for.
    pub(super) fn named(self, wanted: &Wanted) -> Self {
        let (from, stem) = (&wanted.from, wanted.from.stem());
        let public = format!("archive {stem} cannot be had: {}", self.reason.public());
        Self {
            reason: Reason::new(public, format!("archive {stem} cannot be had from {from}: {self}")),
            ..self
        }
    }
}

/// The class of an error, in words that are nobody's but ours.
fn class(error: &DownloadError) -> String {
    let words = match error {
        DownloadError::Call(CallError::Status { status, .. } | CallError::Overloaded { status, .. }) => {
            return format!("its server answered {status}");
        }
        DownloadError::Call(CallError::TimedOut) => "its server did not answer in time",
        DownloadError::Call(CallError::Connection(_)) => "the connection to its server failed",
        DownloadError::Call(CallError::Broken(_)) => "its server's answer cannot be used",
        DownloadError::Call(CallError::BreakerOpen(_) | CallError::Limited(_) | CallError::Unsendable(_)) => {
            "its server could not be asked"
        }
        DownloadError::Call(CallError::Untrusted(_)) => "its server's certificate is not trusted",
        DownloadError::Refused(_) => "it cannot be fetched that way; the log says why",
        DownloadError::Read { .. } => "its file cannot be read",
        DownloadError::Write(_) => FOLDER,
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use weir_clients::Location;

    use super::*;

    #[test]
    fn everybody_reads_the_class_and_operators_what_was_said_and_where() {
        let wanted = Wanted {
            from: Location::parse("https://canary.example/canary?key=canary/housing-1.tar.gz").unwrap(),
            sha256: "a".repeat(64),
            token_file: None,
        };
        let said = || "denied for token canary".to_owned();
        let errors = [
            (DownloadError::Call(CallError::Status { status: 401, text: said() }), "answered 401"),
            (
                DownloadError::Call(CallError::Overloaded { status: 503, retry_after: None, text: said() }),
                "answered 503",
            ),
            (DownloadError::Call(CallError::Connection(said())), "connection"),
            (DownloadError::Call(CallError::Broken(said())), "answer"),
            (DownloadError::Call(CallError::Untrusted(said())), "certificate"),
            (DownloadError::Refused(said()), "log"),
            (
                DownloadError::Read { path: PathBuf::from("canary"), source: io::ErrorKind::NotFound.into() },
                "file",
            ),
            (DownloadError::Write(io::Error::other(said())), "folder"),
        ];
        for (error, words) in errors {
            let told = NotFetched::of_download(&error, &wanted);
            assert!(told.to_string().contains("canary"), "{told:?}");
            let public = told.reason.public();
            assert!(public.contains(words) && !public.contains("canary"), "{public}");
        }
        let folder =
            NotFetched::of_folder("/srv/canary cannot be made".into(), &io::ErrorKind::NotFound.into());
        let archive = NotFetched::of_archive(&ArchiveError::Refused(said()));
        for told in [folder, archive] {
            assert!(
                told.to_string().contains("canary") && !told.reason.public().contains("canary"),
                "{told:?}"
            );
        }
    }
}
