//! The server's own routes.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use weir_types::Version;

use crate::{docs, face::Face, listener::Body, operation::Builtin, reason, respond, server::Shared};

const METRICS_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers `builtin`.
pub(crate) fn answer(shared: &Shared, face: &Face, builtin: Builtin, headers: &HeaderMap) -> Response<Body> {
    match builtin {
        Builtin::Health => health(shared),
        Builtin::Live => respond::json(StatusCode::OK, r#"{"live":true}"#),
        Builtin::Startup => respond::json(StatusCode::OK, r#"{"started":true}"#),
        Builtin::Ready => ready(shared, face),
        Builtin::Metrics => metrics(shared),
        Builtin::Models => respond::json(StatusCode::OK, face.models.clone()),
        Builtin::OpenApi => respond::json(StatusCode::OK, face.openapi.clone()),
        Builtin::Docs => asset("/docs", headers),
    }
}

/// A file of the docs page.
pub(crate) fn asset(path: &str, headers: &HeaderMap) -> Response<Body> {
    docs::respond(path, headers).map_or_else(respond::not_found, |response| response.map(Body::new))
}

/// The metrics in the OpenMetrics text format, which Prometheus and its relatives read.
pub(crate) fn metrics(shared: &Shared) -> Response<Body> {
    respond::response(StatusCode::OK, METRICS_TYPE, shared.metrics.render())
}

fn health(shared: &Shared) -> Response<Body> {
    let now =
        jiff::Timestamp::try_from(shared.predictor.clock().wall()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    respond::json(StatusCode::OK, format!("{{\"time\":\"{now:.6}\"}}"))
}

/// Ready means *can answer*: a newer version that failed beside one that serves is told
/// but does not count, or one bad push would take down the fleet.
fn ready(shared: &Shared, face: &Face) -> Response<Body> {
    let failures: Vec<_> = face
        .snapshot
        .failures()
        .iter()
        .map(|f| {
            let version = f.version.as_ref().map(Version::as_str);
            json!({"model": f.model, "version": version, "reason": reason::without_folders(&f.reason)})
        })
        .collect();
    let draining = shared.is_draining();
    let ready = !draining && face.snapshot.unavailable().next().is_none();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "ready": ready });
    if draining {
        body["draining"] = true.into();
    }
    if let Some(problem) = shared.reload_problem() {
        body["reload"] = reason::without_folders(&problem).into();
    }
    if !failures.is_empty() {
        body["failures"] = failures.into();
    }
    let mut response = respond::json(status, body.to_string());
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
