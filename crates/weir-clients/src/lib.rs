//! How Weir talks to others: HTTP to another server, blocking for the command line
//! ([`Client`]) and asynchronous for requests in flight ([`HttpPool`], [`GrpcPool`]), the latter behind a
//! [`Guard`]: deadline, retry budget, breaker, adaptive limit, hedge.
//!
//! [`redis`] has caches and state behind the same breaker. Object stores and brokers join it with the
//! features that need them.

mod download;
mod grpc;
mod http;
mod pool;
pub mod redis;
mod resilience;
mod tls;

pub use self::http::{Client, ClientError, Reply};
pub use download::{
    Came, DownloadError, DownloadOptions, DownloadProblem, Downloader, Location, S3Config, S3Keys, Sink,
    is_passing as is_passing_io,
};
pub use grpc::{GrpcError, GrpcPool, GrpcStatus};
pub use pool::{Answer, HttpPool, PoolOptions, plain};
pub use resilience::{
    Breaker, BreakerPolicy, BreakerState, CallError, Guard, GuardStats, Health, LimitPolicy, Limiter, Pass,
    Policy, RetryBudget, RetryPolicy, Sample,
};
pub use tls::{Trust, certificates};
