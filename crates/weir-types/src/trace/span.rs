//! What is recorded of one piece of work.

use std::{
    borrow::Cow,
    time::{Instant, SystemTime},
};

use super::{SpanId, TraceContext, TraceId};

/// What a span is to the others of its trace
/// (<https://opentelemetry.io/docs/specs/otel/trace/api/#spankind>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that came from outside.
    Server,
    /// A call to another server.
    Client,
    /// Work in between.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Value::Bool(yes)
    }
}

/// A span of this trace or another one that belongs to this one without being its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(pub TraceContext);

/// A piece of work, when it was done and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its name within the trace.
    pub id: SpanId,
    /// What it is part of; `None` for the first of a trace.
    pub parent: Option<SpanId>,
    /// What was done: few different ones, never a caller's words.
    pub name: Cow<'static, str>,
    /// What it is to the others.
    pub kind: SpanKind,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// Names by OpenTelemetry's semantic conventions, `weir.…` where there is none.
    pub attributes: Vec<(&'static str, Value)>,
    /// What else it belongs to.
    pub links: Vec<Link>,
    /// Whether it failed.
    pub failed: bool,
}

impl Span {
    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }
}

/// Spans of one trace, handed in together.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The trace.
    pub trace: TraceId,
    /// Its `tracestate`.
    pub state: Option<std::sync::Arc<str>>,
    /// The first span's parent is in another process.
    pub remote: bool,
    /// What was recorded; the first is what the others are part of.
    pub spans: Vec<Span>,
    /// Spans beyond what one request may record.
    pub lost: usize,
    /// One moment on both clocks, by which instants become calendar time.
    pub at: (Instant, SystemTime),
}

/// Takes what was recorded. Must neither wait nor fail: what does not fit is dropped and counted.
pub trait SpanSink: Send + Sync {
    /// Takes the spans of one trace; says whether it did, for only then the trace may be found.
    fn take(&self, recorded: Recorded) -> bool;
}
