//! What is to be sent, where, when, and how it is judged.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    answer::Expected,
    rng::Rng,
    schedule::{Spread, Stage, total},
};

/// The protocol that requests are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Face {
    /// Typed JSON rows, or any body a file holds, over HTTP/1.1.
    Typed,
    /// Open Inference Protocol V2 over REST, tensors as JSON.
    V2,
    /// The same with Triton's binary tensors.
    V2Binary,
    /// The same over gRPC.
    Grpc,
}

/// The server, and the one thing that is asked of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The `Host` of requests.
    pub host: String,
    /// The path, for gRPC that of the method.
    pub path: String,
    /// How requests and answers are written.
    pub face: Face,
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "loop")]
pub enum Shape {
    /// By schedule, whatever the server does: latency counts from the moment a request was due.
    Open {
        /// The rates.
        stages: Vec<Stage>,
        /// How arrivals are spread.
        spread: Spread,
    },
    /// Each connection sends as soon as it has its answer. A slow server is asked less, so
    /// latency under load is flattered; throughput is what this tells.
    Closed {
        /// For how long, seconds.
        seconds: f64,
    },
}

impl Shape {
    /// How long requests are sent.
    pub fn duration(&self) -> Duration {
        match self {
            Self::Open { stages, .. } => total(stages),
            Self::Closed { seconds } => Duration::from_secs_f64(*seconds),
        }
    }
}

/// Where the time left is written into a request, right before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// First byte.
    pub at: usize,
    /// Bytes; the number is padded to it.
    pub width: usize,
    /// What the number means.
    pub unit: SlotUnit,
}

/// The unit of a [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUnit {
    /// Decimal seconds, padded with zeros: the header `Request-Timeout`.
    Seconds,
    /// Whole microseconds, padded with spaces: V2's parameter `timeout`.
    Microseconds,
}

/// A request, ready for the wire.
#[derive(Debug, Clone)]
pub struct Request {
    /// For HTTP/1.1 head and body; for gRPC the message with its prefix.
    pub wire: Bytes,
    /// Where the time left goes.
    pub slots: Vec<Slot>,
    /// Rows in it.
    pub rows: u32,
    /// The right answer, where it is known.
    pub expected: Option<Arc<Expected>>,
}

/// Makes requests that were never sent before.
pub trait Source: Send + Sync {
    /// One more request.
    fn request(&self, rng: &mut Rng) -> Request;
}

/// Which requests are sent.
#[derive(Clone)]
pub struct Traffic {
    /// Requests that repeat, sent in turn.
    pub pool: Vec<Arc<Request>>,
    /// The share of requests that comes from `pool`, in `[0, 1]`; others come from `fresh`.
    pub repeat: f64,
    /// Where requests come from that do not repeat. Needed where `repeat` is below 1.
    pub fresh: Option<Arc<dyn Source>>,
}

/// A load: everything that [`run`](crate::run) needs.
#[derive(Clone)]
pub struct Plan {
    /// Who is asked.
    pub target: Target,
    /// What is asked.
    pub traffic: Traffic,
    /// When.
    pub shape: Shape,
    /// Requests in flight at most. Over HTTP/1.1 each has a connection of its own, over gRPC a
    /// connection carries up to [`STREAMS`](crate::transport::STREAMS).
    pub connections: usize,
    /// Threads of the generator, 1 or 2.
    pub threads: usize,
    /// From the start, not counted.
    pub warmup: Duration,
    /// What a good answer keeps; sent along as `Request-Timeout`, `grpc-timeout`, `timeout`.
    pub deadline: Option<Duration>,
    /// When the generator gives a request up.
    pub timeout: Duration,
    /// How often a request that failed is sent again, at once.
    pub retries: u32,
    /// Of arrivals and bodies.
    pub seed: u64,
}

impl Plan {
    /// The time that counts.
    pub fn measured(&self) -> Duration {
        self.shape.duration().saturating_sub(self.warmup)
    }
}
