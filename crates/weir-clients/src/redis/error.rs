//! Why a call got no answer.

/// Why Redis did not do what it was asked. `Display` is for logs: it may name the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// Not asked, or it said that it cannot serve now: there is no connection, its breaker is open,
    /// it is loading or failing over. What was asked may be asked again later.
    #[error("Redis is away: {0}")]
    Unavailable(String),
    /// No answer in time. A write may have been done or may yet be.
    #[error("Redis did not answer in time")]
    Timeout,
    /// It answered with an error: no permission, a value of another type, a script that failed.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// It answered something that is no answer to what it was asked.
    #[error("Redis answered what cannot be used: {0}")]
    Garbage(String),
}
