//! Distributed traces: who asked in whose name, and what was recorded of it.
//!
//! A face begins a [`Scope`] for each request ([`Tracing::begin`]); the scope goes along with the
//! work, and whoever does a part of it records a [`Span`] there. Where a request is not recorded
//! that is one branch. What was recorded goes to a [`SpanSink`] in one piece when the request has
//! ended (ADR 0016).

mod context;
mod ids;
mod scope;
mod span;

pub use context::{SpanId, TraceContext, TraceId, trace_state};
pub use scope::{RequestSpan, Scope, Tail, Tracing};
pub use span::{Link, Recorded, Span, SpanKind, SpanSink, Value};
