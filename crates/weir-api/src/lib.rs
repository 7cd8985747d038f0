//! The HTTP faces: typed routes over the predict use case, their OpenAPI description and
//! docs page, probes and metrics, behind an accept loop with bounds on everything.
//!
//! hyper is used directly, with matchit (the router inside axum). Every route is data that
//! changes with a reload, and FastAPI's rules for HEAD, 405 and trailing slashes differ
//! from axum's, so its extractors and router would be worked around rather than used
//! (ADR 0002).

mod admin;
mod body;
mod bound;
mod builtin;
mod coding;
pub mod config;
mod declare;
mod docs;
mod exchange;
mod face;
#[doc(hidden)] // what the fuzz targets call
pub mod fuzzed;
pub mod grpc;
mod head;
mod listener;
mod metrics;
mod observe;
mod openai;
mod openapi;
pub mod operation;
mod predict;
mod respond;
mod routes;
mod server;
mod state;
mod template;
mod trace;
mod v2;

pub use bound::Bound;
pub use declare::RouteProblem;
pub use metrics::TelemetryStats;
pub use server::{Server, route_lines};
pub use state::{State, StateEndpoint};
#[doc(hidden)] // what the fuzz targets call
pub use v2::bodies as v2_bodies;
pub use v2::core::{LogControl, LogSettings};
