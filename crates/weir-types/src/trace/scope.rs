//! The part of a trace that a request is, as it goes along with its work.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    context::{SpanId, TraceContext},
    ids::Ids,
    span::{Link, Recorded, Span, SpanKind, SpanSink, Value},
};
use crate::{Clock, ModelName};

/// Most spans of one request: a graph with all its branches, a large request in its pieces. What is
/// beyond is counted.
const MAX_SPANS: usize = 256;

/// Requests that are handed in although they were not sampled: known only when they have ended,
/// so that all are recorded where this is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// Those that failed by the server's fault.
    pub errors: bool,
    /// Those that took at least so long.
    pub slow: Option<Duration>,
}

impl Tail {
    fn is_used(&self) -> bool {
        self.errors || self.slow.is_some()
    }

    fn wants(&self, failed: bool, took: Duration) -> bool {
        (self.errors && failed) || self.slow.is_some_and(|slow| took >= slow)
    }
}

/// Decides which requests are recorded, and gives what was recorded to a sink.
pub struct Tracing {
    ids: Ids,
    /// Of the 2^56 values that a trace's randomness has, those from here on are sampled.
    threshold: u64,
    tail: Tail,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn SpanSink>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").field("threshold", &self.threshold).field("tail", &self.tail).finish()
    }
}

impl Tracing {
    /// Samples the share `sample` (0 to 1) of traces that begin here; those that came from
    /// elsewhere as their origin says. Consistent with others that sample by the trace id: what is
    /// sampled at a share is sampled at every larger one (OpenTelemetry, "Consistent probability
    /// sampling").
    pub fn new(sample: f64, tail: Tail, clock: Arc<dyn Clock>, sink: Arc<dyn SpanSink>) -> Self {
        let most = 1u64 << 56;
        // A float's cast saturates, and takes NaN for 0.
        let threshold = most - ((sample.clamp(0.0, 1.0) * most as f64) as u64).min(most);
        Self { ids: Ids::default(), threshold, tail, clock, sink }
    }

    /// A request began at `start`, called by `caller` where it said so; `name` is what its span is
    /// called until more is known.
    pub fn begin(
        self: &Arc<Self>,
        (name, start): (&'static str, Instant),
        caller: Option<TraceContext>,
        state: Option<Arc<str>>,
    ) -> RequestSpan {
        let span = self.ids.span();
        let context = match caller {
            Some(caller) => caller.at(span),
            None => {
                let trace = self.ids.trace();
                TraceContext::new(trace, span, trace.randomness() >= self.threshold)
            }
        };
        let records = context.is_sampled() || self.tail.is_used();
        let record = records.then(|| self.record(context, state.clone(), caller.map(|caller| caller.span)));
        let scope = Scope { context, state, record, model: None };
        let parent = caller.map(|caller| caller.span);
        RequestSpan {
            scope,
            parent,
            work: (name.into(), SpanKind::Server, start),
            tracing: self.clone(),
            over: false,
        }
    }

    fn record(
        self: &Arc<Self>,
        context: TraceContext,
        state: Option<Arc<str>>,
        caller: Option<SpanId>,
    ) -> Arc<Record> {
        let spans = Mutex::new(Spans { spans: Vec::with_capacity(8), ..Spans::default() });
        Arc::new(Record { tracing: self.clone(), context, state, caller, spans })
    }

    fn hand_in(&self, record: &Record, mut root: Span) -> bool {
        let held = std::mem::replace(&mut *record.lock(), Spans { over: true, ..Spans::default() });
        root.attributes.extend(held.notes);
        let spans: Vec<Span> = std::iter::once(root).chain(held.spans).collect();
        let at = (self.clock.now(), self.clock.wall());
        let (trace, state) = (record.context.trace, record.state.clone());
        let remote = record.caller.is_some();
        self.sink.take(Recorded { trace, state, remote, spans, lost: held.lost, at })
    }
}

/// What is recorded of one request so far.
struct Record {
    tracing: Arc<Tracing>,
    context: TraceContext,
    state: Option<Arc<str>>,
    /// The span in another process that the first one here is part of.
    caller: Option<SpanId>,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    spans: Vec<Span>,
    /// What the request's own span says besides what is known at its end.
    notes: Vec<(&'static str, Value)>,
    lost: usize,
    /// Handed in: what comes later is of no use to anybody.
    over: bool,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Spans> {
        // What is guarded stays whole when a holder panics: spans are added as a whole.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a trace that goes along with the work for a request. Cheap to clone.
#[derive(Clone)]
pub struct Scope {
    context: TraceContext,
    state: Option<Arc<str>>,
    record: Option<Arc<Record>>,
    model: Option<ModelName>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({}, recorded: {})", self.context, self.is_recorded())
    }
}

impl Scope {
    /// The place that a caller gave, to be passed on where nothing is recorded here.
    pub fn passed_on(context: TraceContext, state: Option<Arc<str>>) -> Self {
        Self { context, state, record: None, model: None }
    }

    /// What is told to whom the work asks.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// The trace's `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Whether spans are recorded. Building one where they are not is waste.
    pub fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// The same place, of work that `model` does.
    #[must_use]
    pub fn of(&self, model: &ModelName) -> Self {
        let model = self.record.as_ref().map(|_| model.clone());
        Self { model, ..self.clone() }
    }

    /// The model that the work is of, where it is known and recorded.
    pub fn model(&self) -> Option<&ModelName> {
        self.model.as_ref()
    }

    /// Work within this one, whose span is recorded when it has ended ([`end`](Self::end)). The same
    /// place where nothing is recorded.
    #[must_use]
    pub fn within(&self) -> Self {
        let context = match &self.record {
            Some(record) => self.context.at(record.tracing.ids.span()),
            None => self.context,
        };
        Self { context, ..self.clone() }
    }

    /// Records the span of this place, which began [`within`](Self::within) `around`; `more` adds
    /// what is known of it.
    pub fn end(
        &self,
        around: &Scope,
        (name, kind): (impl Into<Cow<'static, str>>, SpanKind),
        (start, end): (Instant, Instant),
        more: impl FnOnce(&mut Span),
    ) {
        let Some(record) = &self.record else { return };
        let mut span = blank(self.context.span, Some(around.context.span), (name.into(), kind), (start, end));
        more(&mut span);
        let mut held = record.lock();
        if held.over {
            return;
        }
        match held.spans.len() < MAX_SPANS {
            true => held.spans.push(span),
            false => held.lost += 1,
        }
    }

    /// Records work within this place that had none of its own.
    pub fn add(&self, name: &'static str, (start, end): (Instant, Instant), more: impl FnOnce(&mut Span)) {
        if self.is_recorded() {
            self.within().end(self, (name, SpanKind::Internal), (start, end), more);
        }
    }

    /// The beginning of another trace, sampled because this one is: for work that is done for
    /// several requests at once and belongs to none of them. Of one that only its end may keep, most
    /// would be handed in for requests that are not.
    pub fn apart(&self, name: &'static str, start: Instant) -> Option<RequestSpan> {
        let tracing = &self.record.as_ref().filter(|_| self.context.is_sampled())?.tracing;
        let context = TraceContext::new(tracing.ids.trace(), tracing.ids.span(), true);
        let record = Some(tracing.record(context, None, None));
        let scope = Scope { context, state: None, record, model: self.model.clone() };
        let work = (name.into(), SpanKind::Internal, start);
        Some(RequestSpan { scope, parent: None, work, tracing: tracing.clone(), over: false })
    }

    /// A part of the same trace that is handed in on its own: for one of many requests of a stream,
    /// which may outlive the span that they are within. Where the trace is not sampled, that span is
    /// hardly ever handed in: then the part hangs on the caller's, if there is one.
    pub fn own_part(&self, name: &'static str, start: Instant) -> Option<RequestSpan> {
        let whole = self.record.as_ref()?;
        let tracing = &whole.tracing;
        let context = self.context.at(tracing.ids.span());
        let (parent, caller) = match self.context.is_sampled() {
            true => (Some(self.context.span), None),
            false => (whole.caller, whole.caller),
        };
        let record = Some(tracing.record(context, self.state.clone(), caller));
        let scope = Scope { context, record, ..self.clone() };
        let work = (name.into(), SpanKind::Internal, start);
        Some(RequestSpan { scope, parent, work, tracing: tracing.clone(), over: false })
    }

    /// Lets the request's own span say one thing more: what is known only where it is worked on.
    pub fn note(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(record) = &self.record {
            record.lock().notes.push((name, value.into()));
        }
    }

    /// This place, for others to link to.
    pub fn link(&self) -> Link {
        Link(self.context)
    }
}

fn blank(
    id: SpanId,
    parent: Option<SpanId>,
    (name, kind): (Cow<'static, str>, SpanKind),
    (start, end): (Instant, Instant),
) -> Span {
    // A span that ends before it begins would be refused.
    let end = end.max(start);
    Span { id, parent, name, kind, start, end, attributes: Vec::new(), links: Vec::new(), failed: false }
}

/// What a request's spans are part of: ends once, and hands in what was recorded. One that is
/// dropped before its end was given up: its caller went away.
#[derive(Debug)]
pub struct RequestSpan {
    scope: Scope,
    parent: Option<SpanId>,
    work: (Cow<'static, str>, SpanKind, Instant),
    tracing: Arc<Tracing>,
    over: bool,
}

impl RequestSpan {
    /// The place that goes along with the request's work.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Calls the span by a name that was not known at its beginning.
    pub fn name(&mut self, name: impl FnOnce() -> Cow<'static, str>) {
        if self.scope.is_recorded() {
            self.work.0 = name();
        }
    }

    /// The request ended at `end`: hands in its span, to which `more` adds, and all others, if it
    /// was sampled or the tail wants it. Says whether it did: then its trace can be found, and
    /// exemplars may name it.
    pub fn end(&mut self, end: Instant, failed: bool, more: impl FnOnce(&mut Span)) -> bool {
        self.close(end, failed, |span| {
            span.failed = failed;
            more(span);
        })
    }

    /// `failed` is what the tail is told.
    fn close(&mut self, end: Instant, failed: bool, more: impl FnOnce(&mut Span)) -> bool {
        let Some(record) = self.scope.record.clone().filter(|_| !self.over) else { return false };
        self.over = true;
        let (name, kind, start) = (std::mem::take(&mut self.work.0), self.work.1, self.work.2);
        let took = end.saturating_duration_since(start);
        if !self.scope.context.is_sampled() && !self.tracing.tail.wants(failed, took) {
            return false;
        }
        let mut root = blank(self.scope.context.span, self.parent, (name, kind), (start, end));
        more(&mut root);
        self.tracing.hand_in(&record, root)
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.over && self.scope.is_recorded() {
            let now = self.tracing.clock.now();
            // It has no answer, but not by the server's fault: the tail keeps it if it was slow.
            self.close(now, false, |span| {
                span.failed = true;
                span.set("error.type", "abandoned");
            });
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
