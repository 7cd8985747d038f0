//! Answers: JSON bodies, FastAPI's `detail`, RFC 9457 problems. The only place that makes
//! responses, so the headers that leave the server are the ones named here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use weir_codec::write_string;
use weir_features::EventTime;
use weir_serving::{CacheOutcome, CacheVerdict};
use weir_types::{Error, ErrorCode};

use crate::listener::Body;

/// `<model>/<version>` that answered.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-weir-model");
/// How many numbers of the answer were not finite and became `null`.
pub(crate) const NON_FINITE: HeaderName = HeaderName::from_static("x-weir-non-finite");

/// Whether the answer came from the model's cache: `hit`, `partial` or `miss`. Not RFC 9211's
/// `Cache-Status`, which has no word for a part.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// The oldest event time among the features that were looked up, as RFC 3339 has it.
const FEATURE_ASOF: HeaderName = HeaderName::from_static("weir-feature-asof");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A response with `body` of `content_type`.
pub(crate) fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    response(status, JSON, body)
}

/// FastAPI's shape of an error.
pub(crate) fn detail(status: StatusCode, text: &str) -> Response<Body> {
    let mut body = b"{\"detail\":".to_vec();
    write_string(text, &mut body);
    body.push(b'}');
    json(status, body)
}

/// 404 as FastAPI words it.
pub(crate) fn not_found() -> Response<Body> {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// 405 as FastAPI words it, with the methods there are.
pub(crate) fn method_not_allowed(allow: HeaderValue) -> Response<Body> {
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

/// A redirect that keeps method and body.
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => not_found(),
    }
}

/// An error as the typed face tells it: 404 and unreadable bodies as FastAPI does, all
/// others as RFC 9457 problem details with a stable `code`.
pub(crate) fn error(error: &Error, request_id: &HeaderValue) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if matches!(error.code, ErrorCode::NotFound | ErrorCode::InvalidArgument) {
        return detail(status, &error.message);
    }
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": error.message,
        "code": error.code.as_str(),
        "request_id": request_id.to_str().unwrap_or_default(),
    });
    let mut response = response(status, PROBLEM, problem.to_string());
    advise(error, response.headers_mut());
    response
}

/// What an error says in headers, whatever its body's form: when to try again.
pub(crate) fn advise(error: &Error, headers: &mut HeaderMap) {
    if let Some(wait) = wait(error) {
        retry_after(Some(wait), headers);
    }
}

/// After how long to try again, for errors after which that makes sense: a second where nothing
/// is known.
pub(crate) fn wait(error: &Error) -> Option<Duration> {
    let waits =
        matches!(error.code, ErrorCode::QuotaExceeded | ErrorCode::Overloaded | ErrorCode::Unavailable);
    (waits || error.retry_after.is_some()).then(|| error.retry_after.unwrap_or(Duration::from_secs(1)))
}

/// Whole seconds, as RFC 9110 section 10.2.3 has it, rounded up; 1 where nothing is known.
pub(crate) fn retry_after(wait: Option<Duration>, headers: &mut HeaderMap) {
    let seconds = wait.map_or(1, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    headers.insert(header::RETRY_AFTER, seconds.max(1).into());
}

/// What the model's cache did, where it has one: `X-Cache`, and for what was stored `Age` in whole
/// seconds (RFC 9111 section 5.1).
pub(crate) fn cached(outcome: Option<CacheOutcome>, headers: &mut HeaderMap) {
    let Some(outcome) = outcome else { return };
    let word = match outcome.verdict() {
        CacheVerdict::Hit => HeaderValue::from_static("hit"),
        CacheVerdict::Partial => HeaderValue::from_static("partial"),
        CacheVerdict::Miss => HeaderValue::from_static("miss"),
    };
    headers.insert(X_CACHE, word);
    if let Some(age) = outcome.age {
        headers.insert(header::AGE, age.as_secs().into());
    }
}

/// Since when all is so that was looked up, where something was: `Weir-Feature-Asof`.
pub(crate) fn looked_up(asof: Option<EventTime>, headers: &mut HeaderMap) {
    if let Some(asof) = asof.and_then(|time| HeaderValue::from_str(&rfc3339(time)).ok()) {
        headers.insert(FEATURE_ASOF, asof);
    }
}

/// An event time as RFC 3339 has it, in UTC.
pub(crate) fn rfc3339(time: EventTime) -> String {
    // Event times lie within the years that jiff knows.
    jiff::Timestamp::from_microsecond(time.micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The `Allow` header for `methods`.
pub(crate) fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> HeaderValue {
    let mut names: Vec<_> = methods.map(Method::as_str).collect();
    names.sort_unstable();
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_told_in_the_verdicts_own_words() {
        let told = |outcome| {
            let mut headers = HeaderMap::new();
            cached(outcome, &mut headers);
            let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap().to_owned());
            (text(X_CACHE), text(header::AGE))
        };
        assert_eq!(told(None), (None, None), "nothing for a model without one");
        for hits in [0, 1, 2] {
            let age = (hits > 0).then_some(Duration::from_millis(1_999));
            let outcome = CacheOutcome { hits, rows: 2, age };
            let verdict = outcome.verdict().as_str().to_owned();
            assert_eq!(told(Some(outcome)), (Some(verdict), age.map(|_| "1".to_owned())));
        }
    }

    #[test]
    fn every_code_has_a_response_that_says_when_to_try_again() {
        let id = HeaderValue::from_static("id");
        for code in ErrorCode::ALL {
            let response = error(&Error::new(code, "why"), &id);
            assert_eq!(response.status().as_u16(), code.http_status());
            let retry = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(retry, matches!(code.http_status(), 429 | 503), "{code:?}");
        }
        let wait = |ms| {
            let told = Error::new(ErrorCode::Overloaded, "why").retry_after(Duration::from_millis(ms));
            error(&told, &id).headers()[header::RETRY_AFTER].clone()
        };
        assert_eq!(
            (wait(0), wait(1_000), wait(2_001)),
            ("1".parse().unwrap(), "1".parse().unwrap(), "3".parse().unwrap())
        );
    }
}
