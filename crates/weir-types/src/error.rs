//! One table of error codes for every face.

use std::{borrow::Cow, time::Duration};

/// Shorthand for results of this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the caller's terms. HTTP statuses follow RFC 9110, gRPC codes
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the field's standard terms
pub enum ErrorCode {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    Conflict,
    RequestTimeout,
    TooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    QuotaExceeded,
    Internal,
    Unsupported,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
    NotCached,
}

impl ErrorCode {
    /// Every code, in declaration order.
    pub const ALL: [ErrorCode; 16] = [
        ErrorCode::InvalidArgument,
        ErrorCode::Unauthenticated,
        ErrorCode::PermissionDenied,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::RequestTimeout,
        ErrorCode::TooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::ValidationFailed,
        ErrorCode::QuotaExceeded,
        ErrorCode::Internal,
        ErrorCode::Unsupported,
        ErrorCode::Overloaded,
        ErrorCode::Unavailable,
        ErrorCode::DeadlineExceeded,
        ErrorCode::NotCached,
    ];

    /// `(stable name, HTTP status, gRPC status)`: the one table.
    fn row(self) -> (&'static str, u16, i32) {
        match self {
            ErrorCode::InvalidArgument => ("invalid_argument", 400, 3),
            ErrorCode::Unauthenticated => ("unauthenticated", 401, 16),
            ErrorCode::PermissionDenied => ("permission_denied", 403, 7),
            ErrorCode::NotFound => ("not_found", 404, 5),
            ErrorCode::RequestTimeout => ("request_timeout", 408, 4),
            ErrorCode::Conflict => ("conflict", 409, 10),
            ErrorCode::TooLarge => ("too_large", 413, 8),
            ErrorCode::UnsupportedMediaType => ("unsupported_media_type", 415, 3),
            ErrorCode::ValidationFailed => ("validation_failed", 422, 3),
            ErrorCode::QuotaExceeded => ("quota_exceeded", 429, 8),
            ErrorCode::Internal => ("internal", 500, 13),
            ErrorCode::Unsupported => ("unsupported", 501, 12),
            ErrorCode::Overloaded => ("overloaded", 503, 14),
            ErrorCode::Unavailable => ("unavailable", 503, 14),
            ErrorCode::DeadlineExceeded => ("deadline_exceeded", 504, 4),
            // RFC 9111, 5.2.1.7. Not gRPC's DEADLINE_EXCEEDED: asking again the same way is in vain.
            ErrorCode::NotCached => ("not_cached", 504, 9),
        }
    }

    /// The stable name that bodies, metrics and logs carry.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        self.row().1
    }

    /// The gRPC status code.
    pub fn grpc_status(self) -> i32 {
        self.row().2
    }
}

/// An error whose text may be shown to the caller: it holds nothing internal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of error.
    pub code: ErrorCode,
    /// One sentence that names field, limit and fix.
    pub message: Cow<'static, str>,
    /// When it is worth trying again, where that is known better than "soon".
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error of `code` that says `message`.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The same error, which says when to try again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The caller sent something that cannot be read or does not fit.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The same, to be tried again after `wait`.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Our fault. `message` must not hold internals; log those.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.http_status()));
            assert!((1..=16).contains(&code.grpc_status()));
        }
    }
}
