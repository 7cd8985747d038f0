//! What stands between Weir and a server that may be slow, overloaded or away.
//!
//! Four small state machines that know no clock and no network ([`Breaker`], [`Limiter`],
//! [`RetryBudget`], the waits of [`RetryPolicy`]), and [`Guard`], which makes calls by them.

mod breaker;
mod counts;
mod guard;
mod limiter;
mod retry;
mod window;

use std::time::Duration;

pub use breaker::{Breaker, BreakerPolicy, BreakerState, Health, Pass};
pub use counts::GuardStats;
pub use guard::{Guard, Policy};
pub use limiter::{LimitPolicy, Limiter, Sample};
pub use retry::{RetryBudget, RetryPolicy};

/// Why a call has no answer. `Display` is for logs: it may name the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not asked: it did not answer a moment ago.
    #[error("not asked: the breaker is open for another {0:?}")]
    BreakerOpen(Duration),
    /// Not asked: as many calls as it is known to take are under way.
    #[error("not asked: {0} calls are under way, the limit that its latency allows")]
    Limited(u32),
    /// Not asked: what is to be sent cannot be sent that way.
    #[error("not asked: {0}")]
    Unsendable(String),
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection could not be made, or ended before the answer.
    #[error("{0}")]
    Connection(String),
    /// The connection was not made: what the server shows is signed by nobody who is trusted, or is for
    /// another server, or not valid now.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
    /// It answered that it has too much to do, and when to come back where it said so.
    #[error("it answered {status}: {text}")]
    Overloaded {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
        /// What it said, bounded.
        text: String,
    },
    /// It answered with another error.
    #[error("it answered {status}: {text}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it said, bounded.
        text: String,
    },
    /// It answered something that is no answer to what it was asked.
    #[error("its answer cannot be used: {0}")]
    Broken(String),
}
