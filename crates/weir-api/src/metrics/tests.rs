use super::*;

fn metrics() -> Metrics {
    Metrics::new(Arc::default(), Admission::new(1))
}

const TRACEPARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_sampled_request_is_its_buckets_exemplar_and_others_change_nothing() {
    let metrics = metrics();
    let route = metrics.route("GET", "/x", None);
    let sampled = TraceContext::parse(TRACEPARENT)
        .map(|trace| (trace, SystemTime::UNIX_EPOCH + Duration::from_secs(5)));
    route.observe(StatusCode::OK, Duration::from_millis(30), sampled);
    route.observe(StatusCode::OK, Duration::from_millis(31), None);
    let text = metrics.render(Format::OpenMetrics);
    let bucket = "weir_request_duration_seconds_bucket{method=\"GET\",route=\"/x\",model=\"\",version=\"\",le=\"0.05\"} 2 \
                  # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",span_id=\"00f067aa0ba902b7\"} 0.03 5.0\n";
    assert!(text.contains(bucket), "{text}");
    assert_eq!(text.matches("trace_id").count(), 1);
    assert!(text.ends_with("# EOF\n"));
    let old = metrics.render(Format::Text);
    assert!(!old.contains("trace_id") && !old.contains("EOF"), "the older format has neither");
    assert!(old.contains(
        "weir_request_duration_seconds_count{method=\"GET\",route=\"/x\",model=\"\",version=\"\"} 2\n"
    ));
}

#[test]
fn an_observation_at_an_objective_is_told_within_it() {
    let metrics = metrics();
    metrics.route("GET", "/x", None).observe(StatusCode::OK, Duration::from_millis(100), None);
    let text = metrics.render(Format::Text);
    let within = |le: &str| text.contains(&format!(",version=\"\",le=\"{le}\"}} 1\n"));
    assert!(within("0.1") && !within("0.05") && within("+Inf"), "{text}");
}

#[test]
fn a_stage_counts_the_requests_that_went_through_it() {
    let [queue, engine, cache] = [(); 3].map(|()| Latencies::default());
    let stages = StageMetrics {
        decode: Latencies::default(),
        queue: queue.clone(),
        engine: engine.clone(),
        cache: Some(cache.clone()),
        encode: Latencies::default(),
        features: None,
    };
    let (ms, us) = (Duration::from_millis, Duration::from_micros);
    let hit = Took { model: None, cache: Some(us(2)) };
    let missed = Took { cache: Some(us(3)), ..Took::by_model(ms(1), ms(5)) };
    for took in [missed, hit, hit, Took::by_model(ms(1), ms(7))] {
        stages.executed(took);
    }
    let counted = |stage: &Latencies| (stage.read().count, stage.read().sum);
    assert_eq!(counted(&engine), (2, 0.012));
    assert_eq!(counted(&queue), (2, 0.002));
    assert_eq!(counted(&cache).0, 3);
}

#[test]
fn errors_are_counted_by_their_status() {
    let metrics = metrics();
    let route = metrics.route("GET", "/x", None);
    for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::NOT_FOUND] {
        route.observe(status, Duration::ZERO, None);
    }
    let text = metrics.render(Format::Text);
    assert!(
        text.contains("version=\"\",code=\"200\"} 1\n") && text.contains("version=\"\",code=\"404\"} 2\n")
    );
}
