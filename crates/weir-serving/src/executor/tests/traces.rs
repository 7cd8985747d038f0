//! What traces show of jobs: nested, in order, and linked both ways.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Instant,
};

use weir_types::trace::{Recorded, RequestSpan, Span, SpanSink, Tail, Tracing, Value};

use super::*;

#[derive(Default)]
pub(crate) struct Sink(Mutex<Vec<Recorded>>);

impl SpanSink for Sink {
    fn take(&self, recorded: Recorded) -> bool {
        self.0.lock().unwrap().push(recorded);
        true
    }
}

impl Sink {
    pub(crate) fn taken(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What records everything, on `clock`.
pub(crate) fn tracing(clock: Arc<dyn Clock>) -> (Arc<Tracing>, Arc<Sink>) {
    let sink = Arc::<Sink>::default();
    (Arc::new(Tracing::new(1.0, Tail::default(), clock, sink.clone())), sink)
}

fn traced(tracing: &Arc<Tracing>, clock: &dyn Clock, job: Job) -> (RequestSpan, Job) {
    let request = tracing.begin(("request", clock.now()), None, None);
    let trace = Some(request.scope().clone());
    (request, Job { trace, ..job })
}

fn named<'a>(recorded: &'a Recorded, name: &str) -> &'a Span {
    let mut found = recorded.spans.iter().filter(|span| span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in {recorded:?}"));
    assert!(found.next().is_none(), "two {name} in {recorded:?}");
    first
}

fn said(span: &Span, name: &str) -> Option<Value> {
    span.attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone())
}

/// What is part of the request is within its time, and in this order.
fn in_order(recorded: &Recorded, names: &[&str]) {
    let root = &recorded.spans[0];
    let mut last: Option<Instant> = None;
    for span in names.iter().map(|name| named(recorded, name)) {
        assert_eq!(span.parent, Some(root.id), "{}", span.name);
        assert!(span.start >= root.start && span.end <= root.end && span.start <= span.end, "{recorded:?}");
        assert!(last.is_none_or(|last| last <= span.start), "{} began too early", span.name);
        last = Some(span.end);
    }
}

#[tokio::test]
async fn small_work_is_one_engine_span() {
    let double = Double::light();
    let clock: Arc<dyn Clock> = double.clone_clock();
    let executor = local(&double, |_| {});
    let (tracing, sink) = tracing(clock.clone());
    let (mut request, job) = traced(&tracing, &*clock, job(double.clock(), &[1.0, 2.0], LONG));
    executor.execute(job).await.unwrap();
    request.end(clock.now(), false, |_| {});
    let [recorded] = &sink.taken()[..] else { panic!("one trace") };
    in_order(recorded, &["engine"]);
    assert_eq!(said(named(recorded, "engine"), "weir.rows"), Some(Value::Int(2)));
}

#[tokio::test]
async fn a_batch_and_its_requests_are_linked_both_ways() {
    let double = Double::held();
    let clock: Arc<dyn Clock> = double.clone_clock();
    let executor = local(&double, |b| b.max_rows = Some(4));
    let (tracing, sink) = tracing(clock.clone());
    let first = executor.execute(job(double.clock(), &[0.0], LONG));
    double.entered(1);
    let mut requests = Vec::new();
    let mut jobs = vec![first];
    for i in 1..=2 {
        let job = job(double.clock(), &[i as f32], LONG);
        let (request, job) = traced(&tracing, &*clock, job);
        requests.push(request);
        jobs.push(executor.execute(job));
    }
    // Of one that is not traced, the batch knows the number alone.
    jobs.push(executor.execute(job(double.clock(), &[3.0], LONG)));
    double.open();
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(double.calls(), [vec![0.0], vec![1.0, 2.0, 3.0]]);
    requests.iter_mut().for_each(|request| {
        request.end(clock.now(), false, |_| {});
    });
    let taken = sink.taken();
    let [batch, first, second] = &taken[..] else { panic!("{taken:?}") };
    let [batch_span] = &batch.spans[..] else { panic!("{batch:?}") };
    assert_eq!((&*batch_span.name, batch_span.parent), ("batch", None));
    assert_eq!(said(batch_span, "weir.batch.requests"), Some(Value::Int(3)));
    assert_eq!(said(batch_span, "weir.rows"), Some(Value::Int(3)));
    assert_eq!(batch_span.links.len(), 2);
    for (recorded, link) in [first, second].into_iter().zip(&batch_span.links) {
        assert_ne!(recorded.trace, batch.trace);
        in_order(recorded, &["queue", "prepare", "engine"]);
        let engine = named(recorded, "engine");
        assert_eq!((link.0.trace, link.0.span), (recorded.trace, engine.id));
        let [back] = &engine.links[..] else { panic!("{engine:?}") };
        assert_eq!((back.0.trace, back.0.span), (batch.trace, batch_span.id));
        assert_eq!((engine.start, engine.end), (batch_span.start, batch_span.end));
    }
}

#[tokio::test]
async fn a_job_in_pieces_has_a_span_for_each_and_waits_once() {
    let double = Double::heavy();
    let clock: Arc<dyn Clock> = double.clone_clock();
    let executor = local(&double, |b| (b.max_rows, b.instances) = (Some(2), Some(1)));
    let (tracing, sink) = tracing(clock.clone());
    let (mut request, job) = traced(&tracing, &*clock, job(double.clock(), &[1.0, 2.0, 3.0, 4.0, 5.0], LONG));
    executor.execute(job).await.unwrap();
    request.end(clock.now(), false, |_| {});
    let [recorded] = &sink.taken()[..] else { panic!("one trace") };
    let engines: Vec<_> = recorded.spans.iter().filter(|span| span.name == "engine").collect();
    let rows: Vec<_> = engines.iter().filter_map(|span| said(span, "weir.rows")).collect();
    assert_eq!(rows, [Value::Int(2), Value::Int(2), Value::Int(1)]);
    assert!(engines.iter().all(|span| span.links.is_empty()), "none is shared");
    named(recorded, "queue");
}

#[tokio::test]
async fn an_execution_that_is_tried_again_shows_each_try() {
    let double = Double::held();
    let clock: Arc<dyn Clock> = double.clone_clock();
    let executor = local(&double, |_| {});
    let (tracing, sink) = tracing(clock.clone());
    let blocker = executor.execute(job(double.clock(), &[0.0], LONG));
    double.entered(1);
    let (mut good, a) = traced(&tracing, &*clock, job(double.clock(), &[1.0], LONG));
    let (mut bad, b) = traced(&tracing, &*clock, job(double.clock(), &[-1.0], LONG));
    let (a, b) = (executor.execute(a), executor.execute(b));
    double.open();
    assert!(blocker.await.is_ok() && a.await.is_ok() && b.await.is_err());
    assert_eq!(executor.stats().retried.load(Ordering::Relaxed), 1);
    good.end(clock.now(), false, |_| {});
    bad.end(clock.now(), true, |_| {});
    let taken = sink.taken();
    let [batch, good, bad] = &taken[..] else { panic!("{taken:?}") };
    assert!(batch.spans[0].failed);
    let tries = |recorded: &Recorded| -> Vec<bool> {
        recorded.spans.iter().filter(|s| s.name == "engine").map(|s| s.failed).collect()
    };
    assert_eq!((tries(good), tries(bad)), (vec![true, false], vec![true, true]));
}
