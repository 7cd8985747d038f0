//! What is told of a request once it is answered: to the metrics, and to the access log.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use http::{HeaderValue, Response, StatusCode, request::Parts};
use weir_types::trace::{TraceContext, TraceId};

use crate::{
    config::ServerConfig,
    head,
    listener::Body,
    metrics::{RouteMetrics, Sampled},
    respond,
    routes::Route,
    server::Shared,
    trace::Trace,
};

/// Which requests the access log tells of.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// Of 2^56 equally likely numbers, those from here on are told.
    threshold: u64,
    slow: Duration,
    /// Requests without a trace so far.
    count: AtomicU64,
}

const RANDOM_BITS: u32 = 56;

impl AccessLog {
    /// `None` where nothing is logged.
    pub(crate) fn new(config: &ServerConfig) -> Option<Self> {
        let most = 1u64 << RANDOM_BITS;
        let share = config.access_log_sample.clamp(0.0, 1.0);
        let threshold = most - ((share * most as f64) as u64).min(most);
        config.access_log.then(|| Self {
            threshold,
            slow: config.access_log_slow.0,
            count: AtomicU64::new(0),
        })
    }

    /// Failures by the server's fault and slow requests always; a share of the others. Where there
    /// is a trace, its id decides, as it does for traces: what is logged at a share is traced at an
    /// equal or larger one, and all servers of a trace log it or none.
    pub(crate) fn wants(&self, status: StatusCode, took: Duration, trace: Option<TraceId>) -> bool {
        let number = || match trace {
            Some(trace) => trace.randomness(),
            None => spread(self.count.fetch_add(1, Ordering::Relaxed)),
        };
        status.is_server_error() || took >= self.slow || number() >= self.threshold
    }
}

/// Numbers of a counter as if drawn: every n-th would always meet the same of callers that take
/// turns. Fibonacci hashing (Knuth, TAOCP 6.4), whose multiples lie evenly.
fn spread(count: u64) -> u64 {
    count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RANDOM_BITS)
}

/// What becomes an exemplar. Only sampled requests ask for the calendar's time.
pub(crate) fn at_the_end(shared: &Shared, sampled: Option<TraceContext>) -> Option<Sampled> {
    sampled.map(|trace| (trace, shared.predictor.clock().wall()))
}

/// Counts a request that began at `start`, and logs it where that is asked for.
pub(crate) fn observe(
    shared: &Shared,
    head: &Parts,
    response: &Response<Body>,
    route: Option<&Route>,
    metrics: &RouteMetrics,
    (mut trace, start): (Trace, Instant),
) {
    let end = shared.predictor.clock().now();
    let took = end - start;
    let sampled = trace.end_http(response, end);
    metrics.observe(response.status(), took, at_the_end(shared, sampled));
    let (trace_id, span_id) = trace.ids();
    if shared.is_logged(response.status(), took, trace_id) {
        let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        tracing::info!(
            target: "weir::access",
            method = head.method.as_str(),
            // The pattern, not the path as sent: paths may hold what should not be logged.
            route = route.map_or("unmatched", |r| &r.path),
            status = response.status().as_u16(),
            duration_ms = took.as_secs_f64() * 1e3,
            request_id = text(head::REQUEST_ID),
            trace_id = trace_id.map(tracing::field::display),
            span_id = span_id.map(tracing::field::display),
            sampled = sampled.is_some(),
            model = text(respond::MODEL),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use weir_config::HumanDuration;

    use super::*;

    fn log(share: f64) -> AccessLog {
        let slow = HumanDuration(Duration::from_secs(1));
        let config = ServerConfig {
            access_log: true,
            access_log_sample: share,
            access_log_slow: slow,
            ..ServerConfig::default()
        };
        AccessLog::new(&config).unwrap()
    }

    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn failures_and_slow_requests_are_always_told() {
        let log = log(0.0);
        assert!(!log.wants(StatusCode::OK, QUICK, None));
        assert!(!log.wants(StatusCode::NOT_FOUND, QUICK, None), "a stranger's mistakes would be most of it");
        assert!(log.wants(StatusCode::SERVICE_UNAVAILABLE, QUICK, None));
        assert!(log.wants(StatusCode::OK, Duration::from_secs(1), None));
        assert!(AccessLog::new(&ServerConfig::default()).is_none());
    }

    #[test]
    fn a_share_of_the_others_is_told() {
        let told = |share, trace: fn(u128) -> Option<TraceId>| {
            let log = log(share);
            (1..=10_000u128).filter(|n| log.wants(StatusCode::OK, QUICK, trace(*n))).count()
        };
        assert_eq!((told(1.0, |_| None), told(0.0, |_| None)), (10_000, 0));
        assert!((90..=110).contains(&told(0.01, |_| None)), "{}", told(0.01, |_| None));
        let traced: fn(u128) -> Option<TraceId> =
            |n| TraceId::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        assert!((2_300..=2_700).contains(&told(0.25, traced)), "{}", told(0.25, traced));
    }

    #[test]
    fn all_servers_of_a_trace_decide_alike() {
        let (one, other) = (log(0.5), log(0.5));
        for n in 1..1_000u128 {
            let trace = TraceId::new(n * 0x9e37_79b9_7f4a_7c15);
            assert_eq!(one.wants(StatusCode::OK, QUICK, trace), other.wants(StatusCode::OK, QUICK, trace));
        }
    }
}
