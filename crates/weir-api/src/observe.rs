//! What is told of a request once it is answered: to the metrics, and to the access log.

use std::time::Instant;

use http::{HeaderValue, Response, request::Parts};

use crate::{head, listener::Body, metrics::RouteMetrics, respond, routes::Route, server::Shared};

/// Counts a request that began at `start`, and logs it where that is asked for.
pub(crate) fn observe(
    shared: &Shared,
    head: &Parts,
    response: &Response<Body>,
    route: Option<&Route>,
    metrics: &RouteMetrics,
    start: Instant,
) {
    let took = shared.predictor.clock().now() - start;
    metrics.observe(response.status(), took);
    if shared.access_log() {
        let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        tracing::info!(
            target: "weir::access",
            method = head.method.as_str(),
            // The pattern, not the path as sent: paths may hold what should not be logged.
            route = route.map_or("unmatched", |r| &r.path),
            status = response.status().as_u16(),
            duration_ms = took.as_secs_f64() * 1e3,
            request_id = text(head::REQUEST_ID),
            trace_id = head::trace_id(&head.headers),
            model = text(respond::MODEL),
            "request"
        );
    }
}
