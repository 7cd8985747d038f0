//! Why a file did not come, and whether asking again may help.

use std::{error::Error, io, path::PathBuf, time::Duration};

use rustls::InvalidMessage;

use super::Location;
use crate::{CallError, RetryPolicy};

/// Why a file did not come. `Display` is for logs and operators.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There was no answer, or one that is an error.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It must not be done, or cannot be until somebody changes something.
    #[error("{0}")]
    Refused(String),
    /// A file of this machine cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What came cannot be kept.
    #[error("what came cannot be written: {0}")]
    Write(io::Error),
}

impl DownloadError {
    /// Whether the same again may end otherwise without anybody changing anything.
    ///
    /// Of HTTP's errors those may that say so: 408 and 425 (RFC 9110 section 15.5.9, RFC 8470 section 5.2), 429, and
    /// all of 5xx. The rest of 4xx is about the request, which would be the same. What breaks off, is refused by
    /// the network or is not known to DNS passes: it is as a server looks that is about to start.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call(CallError::Status { status, .. }) => *status >= 500 || matches!(status, 408 | 425),
            Self::Call(CallError::Unsendable(_) | CallError::Untrusted(_)) | Self::Refused(_) => false,
            Self::Call(_) => true,
            Self::Read { source, .. } | Self::Write(source) => is_passing(source.kind()),
        }
    }

    /// Whether a download goes on where it stopped: after an error of writing, nobody knows what is there.
    pub(super) fn resumes(&self) -> bool {
        self.is_passing() && !matches!(self, Self::Write(_))
    }

    /// What somebody has to change, where something has to be changed and the error does not say it itself;
    /// `signed`: a token or keys were sent.
    pub fn fix(&self, from: &Location, signed: bool) -> Option<&'static str> {
        match self {
            Self::Call(CallError::Status { status: 401 | 403, .. }) => Some(match (from, signed) {
                (Location::S3 { .. }, _) => {
                    "let the keys of [s3] read it (s3:GetObject), and keep this host's clock right"
                }
                (_, true) => "let the token of `archive.token_file` read it",
                (_, false) => {
                    "name a token with `archive.token_file`; an address that is signed counts for a while only"
                }
            }),
            Self::Call(CallError::Status { status: 404 | 410, .. }) => {
                Some("put the archive there, or correct `archive.url`")
            }
            Self::Call(CallError::Status { .. }) if !self.is_passing() => Some("correct `archive.url`"),
            Self::Call(CallError::Untrusted(_)) => {
                Some("name its authority with `fetch.ca_file`, or correct the server's certificate")
            }
            Self::Read { .. } if !self.is_passing() => {
                Some("put the file there and let this user read it, or correct the path")
            }
            Self::Write(_) if !self.is_passing() => Some("name another folder with `fetch.cache`"),
            _ => None,
        }
    }

    /// The wait before repeat number `repeats`: the policy's, or what the server asked for, which is never more
    /// than the policy's longest.
    pub(super) fn wait(&self, retry: &RetryPolicy, repeats: u32, random: u64) -> Duration {
        let asked = match self {
            Self::Call(CallError::Overloaded { retry_after, .. }) => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        retry.wait(repeats, random).max(asked.min(retry.max))
    }
}

/// Whether an error of this machine's files may pass: a full disk and one that is away may, what is not there
/// or not allowed does not.
pub fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem,
        Unsupported,
    };
    !matches!(
        kind,
        InvalidFilename
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
            | Unsupported
    )
}

/// Of a request that got no answer.
pub(super) fn unanswered(error: &(dyn Error + 'static)) -> DownloadError {
    match crate::pool::tls(error) {
        Some(rustls::Error::NoCertificatesPresented) => {
            DownloadError::Call(CallError::Untrusted(crate::pool::chain(error)))
        }
        // Nothing is wrong with its certificate, and no authority that somebody names would help.
        Some(rustls::Error::PeerIncompatible(_)) => {
            let why = crate::pool::chain(error);
            DownloadError::Refused(format!("its server speaks no TLS that Weir does (1.2 or 1.3): {why}"))
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            DownloadError::Refused("what listens there speaks no TLS: `http://` in `archive.url`?".to_owned())
        }
        _ => DownloadError::Call(crate::pool::connection(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> DownloadError {
        DownloadError::Call(match status {
            429 | 503 => CallError::Overloaded { status, retry_after: None, text: String::new() },
            _ => CallError::Status { status, text: String::new() },
        })
    }

    #[test]
    fn what_passes_is_told_from_what_somebody_has_to_change() {
        let from = Location::parse("https://a/b").unwrap();
        for passing in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(status(passing).is_passing() && status(passing).fix(&from, false).is_none(), "{passing}");
        }
        for lasting in [204, 304, 400, 401, 403, 404, 405, 410, 412, 416, 451] {
            let error = status(lasting);
            assert!(!error.is_passing() && error.fix(&from, false).is_some(), "{lasting}");
        }
        let of = |kind: io::ErrorKind| DownloadError::Write(kind.into());
        assert!(of(io::ErrorKind::StorageFull).is_passing() && !of(io::ErrorKind::StorageFull).resumes());
        assert!(!of(io::ErrorKind::PermissionDenied).is_passing());
        assert!(DownloadError::Call(CallError::TimedOut).resumes());
    }

    #[test]
    fn the_fix_is_where_the_rights_come_from() {
        let of = |from: &str, signed| status(403).fix(&Location::parse(from).unwrap(), signed).unwrap();
        assert!(of("s3://models/a", true).contains("[s3]"));
        assert!(of("https://a/b", true).starts_with("let the token"));
        assert!(of("https://a/b", false).starts_with("name a token"));
    }

    #[test]
    fn a_server_may_ask_for_a_longer_wait_up_to_the_longest() {
        let retry = RetryPolicy { max: Duration::from_secs(30), ..RetryPolicy::default() };
        let asking = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            DownloadError::Call(CallError::Overloaded { status: 429, retry_after, text: String::new() })
        };
        assert_eq!(asking(7).wait(&retry, 0, 0), Duration::from_secs(7));
        assert_eq!(asking(3_000).wait(&retry, 0, 0), Duration::from_secs(30));
        assert_eq!(status(500).wait(&retry, 0, 0), Duration::ZERO);
        assert_eq!(asking(0).wait(&retry, 0, u64::MAX), retry.base);
    }

    #[test]
    fn the_error_of_tls_is_found_within_what_wraps_it() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let told = unanswered(&wrapped);
        assert!(
            matches!(&told, DownloadError::Call(CallError::Untrusted(text)) if text.contains("UnknownIssuer")),
            "{told}"
        );
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(matches!(unanswered(&io::Error::other(plain)), DownloadError::Refused(_)));
        let old = rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);
        let told = unanswered(&io::Error::other(old)).to_string();
        assert!(told.contains("no TLS that Weir does") && !told.contains("certificate"), "{told}");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(unanswered(&refused).is_passing());
    }
}
