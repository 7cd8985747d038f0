//! The server's own routes.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use weir_types::Version;

use crate::{
    coding::Coding, docs, face::Face, listener::Body, metrics::Format, operation::Builtin, respond,
    server::Shared,
};

/// Answers `builtin`.
pub(crate) fn answer(shared: &Shared, face: &Face, builtin: Builtin, headers: &HeaderMap) -> Response<Body> {
    match builtin {
        Builtin::Health => health(shared),
        Builtin::Live => respond::json(StatusCode::OK, r#"{"live":true}"#),
        Builtin::Startup => respond::json(StatusCode::OK, r#"{"started":true}"#),
        Builtin::Ready => ready(shared, face),
        Builtin::Metrics => metrics(shared, headers),
        Builtin::Models => respond::json(StatusCode::OK, face.models.clone()),
        Builtin::OpenApi => respond::json(StatusCode::OK, face.openapi.clone()),
        Builtin::Docs => asset("/docs", headers),
    }
}

/// A file of the docs page.
pub(crate) fn asset(path: &str, headers: &HeaderMap) -> Response<Body> {
    docs::respond(path, headers).map_or_else(respond::not_found, |response| response.map(Body::new))
}

/// The metrics, as the client reads them best.
pub(crate) fn metrics(shared: &Shared, headers: &HeaderMap) -> Response<Body> {
    let format = Format::wanted(headers);
    let text = shared.metrics.render(format);
    let packed =
        Coding::of_answer(headers).and_then(|coding| Some((coding, coding.pack_body(text.as_bytes())?)));
    let mut response = match packed {
        Some((coding, bytes)) => {
            let mut response = respond::response(StatusCode::OK, format.content_type(), bytes);
            response.headers_mut().insert(header::CONTENT_ENCODING, coding.value());
            response
        }
        None => respond::response(StatusCode::OK, format.content_type(), text),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    response
}

fn health(shared: &Shared) -> Response<Body> {
    let now =
        jiff::Timestamp::try_from(shared.predictor.clock().wall()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    respond::json(StatusCode::OK, format!("{{\"time\":\"{now:.6}\"}}"))
}

fn ready(shared: &Shared, face: &Face) -> Response<Body> {
    let failures: Vec<_> = face
        .snapshot
        .failures()
        .iter()
        .map(|f| {
            let version = f.version.as_ref().map(Version::as_str);
            json!({"model": f.model, "version": version, "reason": f.reason.public()})
        })
        // An archive has the place of the models that are in it, whose names are not known yet.
        .chain(face.snapshot.awaited().map(
            |archive| json!({"model": archive.name, "version": null, "reason": archive.reason.public()}),
        ))
        .collect();
    let draining = shared.is_draining();
    let ready = !draining && face.snapshot.can_answer();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "ready": ready });
    if draining {
        body["draining"] = true.into();
    }
    if let Some(problem) = shared.reload_problem() {
        body["reload"] = problem.into();
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
