use std::time::SystemTime;

use super::*;
use crate::{SystemClock, trace::Value};

#[derive(Default)]
struct Sink(Mutex<Vec<Recorded>>);

impl SpanSink for Sink {
    fn take(&self, recorded: Recorded) -> bool {
        assert!(recorded.at.1 > SystemTime::UNIX_EPOCH);
        self.0.lock().unwrap().push(recorded);
        true
    }
}

/// A sink without room.
struct Full;

impl SpanSink for Full {
    fn take(&self, _: Recorded) -> bool {
        false
    }
}

fn tracing(sample: f64, tail: Tail) -> (Arc<Tracing>, Arc<Sink>) {
    let sink = Arc::<Sink>::default();
    (Arc::new(Tracing::new(sample, tail, Arc::new(SystemClock), sink.clone())), sink)
}

fn caller(sampled: bool) -> TraceContext {
    let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0{}", u8::from(sampled));
    TraceContext::parse(text.as_bytes()).unwrap()
}

#[test]
fn the_share_is_kept_and_a_smaller_one_is_part_of_a_larger_one() {
    let sampled = |share: f64| {
        let (tracing, _) = tracing(share, Tail::default());
        move |trace| {
            TraceContext::new(trace, SpanId::new(1).unwrap(), true).trace.randomness() >= tracing.threshold
        }
    };
    let ids = Ids::default();
    let traces: Vec<_> = (0..20_000).map(|_| ids.trace()).collect();
    let (tenth, half) = (sampled(0.1), sampled(0.5));
    let (few, many): (usize, usize) =
        (traces.iter().filter(|t| tenth(**t)).count(), traces.iter().filter(|t| half(**t)).count());
    assert!((1_800..2_200).contains(&few) && (9_600..10_400).contains(&many), "{few}, {many}");
    assert!(traces.iter().all(|t| !tenth(*t) || half(*t)));
    assert!(traces.iter().all(|t| sampled(1.0)(*t)) && !traces.iter().any(|t| sampled(0.0)(*t)));
    assert!(!traces.iter().any(|t| sampled(f64::NAN)(*t)));
}

#[test]
fn the_callers_word_counts_before_the_share() {
    for (share, said) in [(0.0, true), (1.0, false)] {
        let (tracing, sink) = tracing(share, Tail::default());
        let now = Instant::now();
        let mut request = tracing.begin(("GET", now), Some(caller(said)), Some("a=1".into()));
        assert_eq!(request.scope().is_recorded(), said);
        assert_eq!(request.scope().context().trace, caller(said).trace);
        assert_eq!(request.scope().context().is_sampled(), said, "and is passed on");
        assert_eq!(request.end(now, false, |_| {}), said);
        let handed = sink.0.lock().unwrap();
        assert_eq!(handed.len(), usize::from(said));
        for recorded in &*handed {
            assert_eq!(recorded.spans[0].parent, Some(caller(said).span));
            assert_eq!((recorded.state.as_deref(), recorded.remote), (Some("a=1"), true));
        }
    }
}

#[test]
fn spans_nest_and_end_up_behind_their_request() {
    let (tracing, sink) = tracing(1.0, Tail::default());
    let now = Instant::now();
    let mut request = tracing.begin(("GET", now), None, None);
    let root = request.scope().clone();
    let cache = root.within();
    cache.add("engine", (now, now), |span| span.set("weir.rows", 3usize));
    cache.note("weir.model.name", "iris");
    cache.end(&root, ("cache", SpanKind::Internal), (now, now - Duration::from_secs(1)), |_| {});
    assert!(request.end(now, false, |span| span.name = "GET /x".into()));
    root.add("late", (now, now), |_| {});
    assert!(!request.end(now, false, |_| {}), "once");
    drop(request);
    let handed = sink.0.lock().unwrap();
    let [recorded] = &handed[..] else { panic!("{handed:?}") };
    let names: Vec<_> = recorded.spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["GET /x", "engine", "cache"]);
    let [first, engine, cache] = &recorded.spans[..] else { unreachable!("three, as above") };
    assert_eq!((first.parent, cache.parent, engine.parent), (None, Some(first.id), Some(cache.id)));
    assert_eq!(first.attributes, [("weir.model.name", Value::from("iris"))]);
    assert_eq!(engine.attributes, [("weir.rows", Value::Int(3))]);
    assert!(recorded.spans.iter().all(|span| span.end >= span.start));
}

#[test]
fn the_tail_keeps_what_failed_or_was_slow_and_nothing_else() {
    let slow = Duration::from_secs(1);
    for (tail, failed, took, kept) in [
        (Tail { errors: true, slow: None }, true, Duration::ZERO, true),
        (Tail { errors: true, slow: None }, false, slow, false),
        (Tail { errors: false, slow: Some(slow) }, false, slow, true),
        (Tail { errors: false, slow: Some(slow) }, true, slow / 2, false),
        (Tail::default(), true, slow, false),
    ] {
        let (tracing, sink) = tracing(0.0, tail);
        let now = Instant::now();
        let mut request = tracing.begin(("GET", now), None, None);
        assert!(!request.scope().context().is_sampled());
        request.scope().add("engine", (now, now), |_| {});
        assert!(request.scope().apart("batch", now).is_none(), "handed in whatever becomes of this one");
        assert_eq!(request.end(now + took, failed, |_| {}), kept, "{tail:?}");
        assert_eq!(
            sink.0.lock().unwrap().iter().map(|r| r.spans.len()).sum::<usize>(),
            2 * usize::from(kept)
        );
    }
}

#[test]
fn a_request_that_is_given_up_is_told_as_such() {
    let (tracing, sink) = tracing(1.0, Tail::default());
    drop(tracing.begin(("GET", Instant::now()), None, None));
    let handed = sink.0.lock().unwrap();
    assert!(handed[0].spans[0].failed);
    assert_eq!(handed[0].spans[0].attributes, [("error.type", Value::from("abandoned"))]);
}

#[test]
fn a_caller_that_goes_away_is_no_failure_of_the_server() {
    let errors = Tail { errors: true, slow: None };
    let (tracing, sink) = tracing(0.0, errors);
    drop(tracing.begin(("GET", Instant::now()), None, None));
    assert!(sink.0.lock().unwrap().is_empty());
    let slow = Tail { errors: true, slow: Some(Duration::ZERO) };
    let (tracing, sink) = self::tracing(0.0, slow);
    drop(tracing.begin(("GET", Instant::now()), None, None));
    assert_eq!(sink.0.lock().unwrap().len(), 1, "it was as slow as is kept");
}

#[test]
fn what_the_sink_has_no_room_for_cannot_be_found() {
    let tracing = Tracing::new(1.0, Tail::default(), Arc::new(SystemClock), Arc::new(Full));
    let now = Instant::now();
    assert!(!Arc::new(tracing).begin(("GET", now), None, None).end(now, false, |_| {}));
}

#[test]
fn parts_of_a_stream_that_is_not_sampled_hang_on_what_can_be_found() {
    let now = Instant::now();
    for called in [Some(caller(false)), None] {
        let (tracing, sink) = tracing(0.0, Tail { errors: true, slow: None });
        let mut call = tracing.begin(("call", now), called, None);
        let mut part = call.scope().own_part("message", now).unwrap();
        assert!(!call.end(now, false, |_| {}) && part.end(now, true, |_| {}));
        let handed = sink.0.lock().unwrap();
        assert_eq!(handed[0].spans[0].parent, called.map(|caller| caller.span));
        assert_eq!(handed[0].remote, called.is_some());
    }
}

#[test]
fn what_one_request_records_is_bounded() {
    let (tracing, sink) = tracing(1.0, Tail::default());
    let now = Instant::now();
    let mut request = tracing.begin(("GET", now), None, None);
    (0..MAX_SPANS + 7).for_each(|_| request.scope().add("engine", (now, now), |_| {}));
    request.end(now, false, |_| {});
    let handed = sink.0.lock().unwrap();
    assert_eq!((handed[0].spans.len(), handed[0].lost), (MAX_SPANS + 1, 7));
}

#[test]
fn a_batch_is_a_trace_of_its_own_and_a_stream_has_parts() {
    let (tracing, sink) = tracing(1.0, Tail::default());
    let now = Instant::now();
    let mut request = tracing.begin(("call", now), None, None);
    let mut batch = request.scope().apart("batch", now).unwrap();
    let mut part = request.scope().own_part("message", now).unwrap();
    request.end(now, false, |_| {});
    batch.end(now, false, |span| span.links.push(request.scope().link()));
    part.end(now, false, |_| {});
    let handed = sink.0.lock().unwrap();
    let [call, batch, message] = &handed[..] else { panic!("{handed:?}") };
    assert_ne!(batch.trace, call.trace);
    assert_eq!(batch.spans[0].links, [request.scope().link()]);
    assert_eq!(message.trace, call.trace);
    assert_eq!(message.spans[0].parent, Some(call.spans[0].id));
    let silent = Scope::passed_on(caller(true), None);
    assert!(silent.apart("batch", now).is_none() && silent.own_part("message", now).is_none());
}
