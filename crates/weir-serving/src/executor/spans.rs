//! What traces show of an execution: whom it was for, and what it was.
//!
//! An execution for one request is a span of that request. One that serves several is a trace of
//! its own, since it is part of none of them: its span links to a span in each, and each of those
//! links back.

use std::time::Instant;

use weir_engine::Engine;
use weir_types::trace::{RequestSpan, Scope, Span, SpanKind};

use super::call::Call;

/// Most links of a span: OpenTelemetry's default limit.
const MAX_LINKS: usize = 128;

/// An execution under way, as far as it is recorded.
pub(super) struct Execution {
    start: Instant,
    jobs: usize,
    rows: usize,
    /// There where it serves several.
    batch: Option<RequestSpan>,
    parts: Vec<Part>,
}

/// Its part in one request.
struct Part {
    around: Scope,
    scope: Scope,
    rows: usize,
}

impl Execution {
    /// An execution that began at `start` for `calls` and so many rows of each; `None` where none of
    /// them is recorded.
    pub(super) fn of<'a>(
        calls: impl ExactSizeIterator<Item = (&'a Call, usize)> + Clone,
        start: Instant,
    ) -> Option<Self> {
        let recorded = calls
            .clone()
            .filter_map(|(call, rows)| Some((call.trace.as_ref()?, rows)))
            .filter(|(s, _)| s.is_recorded());
        let parts: Vec<Part> = recorded
            .map(|(around, rows)| Part { around: around.clone(), scope: around.within(), rows })
            .collect();
        parts.first()?;
        let jobs = calls.len();
        let batch = parts.iter().filter(|_| jobs > 1).find_map(|part| part.scope.apart("batch", start));
        Some(Self { start, jobs, rows: calls.map(|(_, rows)| rows).sum(), batch, parts })
    }

    /// Where a call to another server is: within the execution.
    pub(super) fn scope(&self) -> Option<&Scope> {
        match &self.batch {
            Some(batch) => Some(batch.scope()),
            None => self.parts.first().map(|part| &part.scope),
        }
    }

    /// It ended. `more` tells what is known of it besides, of so many rows.
    pub(super) fn end<F: FnOnce(&mut Span)>(mut self, end: Instant, more: impl Fn(usize) -> F) {
        let batch = self.batch.as_ref().map(|batch| batch.scope().link());
        for Part { around, scope, rows } in &self.parts {
            scope.end(around, ("engine", SpanKind::Internal), (self.start, end), |span| {
                more(*rows)(span);
                span.set("weir.batch.requests", self.jobs);
                span.set("weir.batch.rows", self.rows);
                span.links.extend(batch);
            });
        }
        let Some(batch) = &mut self.batch else { return };
        let model = batch.scope().model().map(ToString::to_string);
        batch.end(end, false, |span| {
            more(self.rows)(span);
            span.set("weir.batch.requests", self.jobs);
            model.into_iter().for_each(|model| span.set("weir.model.name", model));
            let sampled = self.parts.iter().filter(|part| part.scope.context().is_sampled());
            span.links.extend(sampled.take(MAX_LINKS).map(|part| part.scope.link()));
        });
    }
}

/// What an engine's span says.
pub(super) fn engine(engine: &dyn Engine, rows: usize, failed: bool) -> impl FnOnce(&mut Span) + use<> {
    said(engine.info().name, rows, failed)
}

/// What the span of a model on another server says.
pub(super) fn remote(rows: usize, failed: bool) -> impl FnOnce(&mut Span) {
    said("remote", rows, failed)
}

fn said(engine: &'static str, rows: usize, failed: bool) -> impl FnOnce(&mut Span) {
    move |span| {
        span.set("weir.engine", engine);
        span.set("weir.rows", rows);
        span.failed = failed;
    }
}
