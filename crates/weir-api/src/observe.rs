//! What is told of a request once it is answered: to the metrics, and to the access log.

use std::time::Instant;

use http::{HeaderValue, Response, request::Parts};

use crate::{
    head, listener::Body, metrics::RouteMetrics, respond, routes::Route, server::Shared, trace::Trace,
};

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
    metrics.observe(response.status(), took);
    if shared.access_log {
        let (trace_id, span_id) = trace.ids();
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
