//! What became of a request.

use serde::Serialize;

/// What became of a request, once all its retries were through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered, and rightly where the right answer is known.
    Ok,
    /// Answered with success and another answer than the expected one.
    Wrong,
    /// Turned away: 429, 503, RESOURCE_EXHAUSTED, UNAVAILABLE.
    Refused,
    /// The server says that the deadline passed: 504, 408, DEADLINE_EXCEEDED.
    Deadline,
    /// Any other status that is no success.
    Status,
    /// The connection could not be opened, broke, or said what is no HTTP.
    Transport,
    /// No answer within the generator's own timeout.
    Timeout,
    /// Never sent: its deadline or timeout passed while every connection was busy, or before the
    /// generator came to it.
    Unsent,
}

impl Outcome {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Wrong,
        Self::Refused,
        Self::Deadline,
        Self::Status,
        Self::Transport,
        Self::Timeout,
        Self::Unsent,
    ];

    /// The word of tables and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Wrong => "wrong answer",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::Status => "error status",
            Self::Transport => "transport error",
            Self::Timeout => "timeout",
            Self::Unsent => "unsent",
        }
    }

    /// What an HTTP status means.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            429 | 503 => Self::Refused,
            408 | 504 => Self::Deadline,
            _ => Self::Status,
        }
    }

    /// What a gRPC status means (<https://grpc.io/docs/guides/status-codes/>).
    pub(crate) fn of_grpc(code: u16) -> Self {
        match code {
            0 => Self::Ok,
            4 => Self::Deadline,
            8 | 14 => Self::Refused,
            _ => Self::Status,
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_reports_is_that_of_the_indices() {
        assert!(Outcome::ALL.iter().enumerate().all(|(i, outcome)| outcome.index() == i));
    }

    #[test]
    fn statuses_mean_the_same_over_both_transports() {
        for (http, grpc) in [(200, 0), (429, 8), (503, 14), (504, 4), (400, 3), (404, 5), (500, 13)] {
            assert_eq!(Outcome::of_status(http), Outcome::of_grpc(grpc), "{http}");
        }
    }
}
