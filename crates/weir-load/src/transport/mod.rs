//! Sending a request and reading its answer.

mod grpc;
mod http1;
mod patch;
mod patience;

pub(crate) use grpc::{Channels, Grpc};
pub(crate) use http1::Http1;

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::{outcome::Outcome, plan::Request};

/// Requests that share one HTTP/2 connection at most.
pub const STREAMS: usize = 100;

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    /// By status alone: the body is not judged here.
    pub(crate) outcome: Outcome,
    /// The HTTP or gRPC status; 0 where none came over HTTP.
    pub(crate) status: u16,
    /// Whether the answer said when to come back.
    pub(crate) retry_after: bool,
}

/// One request at a time to one server.
pub(crate) trait Transport {
    /// Sends `request`, with `left` as the time that the server has, and reads the answer; at
    /// `give_up` it stops waiting.
    fn call(
        &mut self,
        request: &Request,
        left: Option<Duration>,
        give_up: Instant,
    ) -> impl Future<Output = Reply>;

    /// The body of the last answer, and how much of it is JSON where the rest is tensors.
    fn answer(&self) -> (&[u8], Option<usize>);

    /// Why the last call failed, where the answer does not say.
    fn reason(&self) -> &str;
}
