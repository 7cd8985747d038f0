//! Errors: FastAPI's bodies where it has one, RFC 9457 problems for the rest.

use serde_json::{Map, Value, json};
use weir_types::ErrorCode;

use super::names::Components;

/// What 504 means on every face.
pub(super) const DEADLINE_EXCEEDED: &str =
    "The deadline passed before there was an answer, or `only-if-cached` asked for one that is not stored";

/// What 409 and 422 mean of an `Idempotency-Key`.
pub(super) const KEY_IN_USE: &str = "The request with this `Idempotency-Key` is being answered";
pub(super) const KEY_REUSED: &str = "Another request has used the `Idempotency-Key`";

/// Adds the responses for `statuses`, in order.
pub(super) fn add(statuses: &[u16], responses: &mut Map<String, Value>, components: &mut Components) {
    for &status in statuses {
        responses.insert(status.to_string(), response(status, components));
    }
}

fn response(status: u16, components: &mut Components) -> Value {
    match status {
        400 => detail("BadRequest", "The request cannot be read; `detail` says why", components),
        403 => detail("Forbidden", "The request is not this machine's own", components),
        404 => detail("NotFound", "There is no such model, version or path", components),
        422 => validation(components),
        408 => problem("RequestTimeout", "The body did not arrive in time", None, components),
        409 => {
            let headers = json!({"Retry-After": retry_after(components)});
            problem("Conflict", KEY_IN_USE, Some(headers), components)
        }
        413 => problem("TooLarge", "The body is larger than the server takes", None, components),
        501 => problem("Unsupported", "The server does not do this as it is set up", None, components),
        415 => problem("UnsupportedMediaType", "The body has a Content-Encoding", None, components),
        503 => {
            let headers = json!({"Retry-After": retry_after(components)});
            problem("Unavailable", "Busy, starting or draining: try again", Some(headers), components)
        }
        504 => problem("DeadlineExceeded", DEADLINE_EXCEEDED, None, components),
        _ => problem("Internal", "The server failed", None, components),
    }
}

/// 422 in one sentence.
pub(super) fn invalid_body(components: &mut Components) -> Value {
    problem("ValidationFailed", "A body is not what the model takes; `detail` says why", None, components)
}

/// A reference to the header that says when to try again.
pub(super) fn retry_after(components: &mut Components) -> Value {
    let seconds = json!({"type": "integer", "minimum": 0});
    components
        .header("RetryAfter", json!({"description": "Seconds after which to try again", "schema": seconds}))
}

/// FastAPI's 422: written out in each operation, as it does.
fn validation(components: &mut Components) -> Value {
    let error = json!({
        "properties": {
            "loc": {
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "type": "array",
                "title": "Location",
            },
            "msg": {"type": "string", "title": "Message"},
            "type": {"type": "string", "title": "Error Type"},
            "input": {"title": "Input"},
            "ctx": {"type": "object", "title": "Context"},
        },
        "type": "object",
        "required": ["loc", "msg", "type"],
    });
    let error = components.schema(&["ValidationError".into()], error);
    let errors = json!({
        "properties": {"detail": {"items": error, "type": "array", "title": "Detail"}},
        "type": "object",
    });
    let errors = components.schema(&["HTTPValidationError".into()], errors);
    json!({"description": "Validation Error", "content": {"application/json": {"schema": errors}}})
}

/// `{"detail": "…"}`, the body of FastAPI's `HTTPException`.
fn detail(name: &str, description: &str, components: &mut Components) -> Value {
    components.response(name, |components| {
        let schema = json!({
            "properties": {"detail": {"type": "string", "title": "Detail"}},
            "type": "object",
            "required": ["detail"],
        });
        let schema = components.schema(&["HTTPError".into()], schema);
        json!({"description": description, "content": {"application/json": {"schema": schema}}})
    })
}

fn problem(name: &str, description: &str, headers: Option<Value>, components: &mut Components) -> Value {
    components.response(name, |components| {
        let schema = components.schema(&["Problem".into()], problem_schema());
        let mut response = json!({"description": description});
        if let Some(headers) = headers {
            response["headers"] = headers;
        }
        response["content"] = json!({"application/problem+json": {"schema": schema}});
        response
    })
}

/// RFC 9457 with two members of our own.
fn problem_schema() -> Value {
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "properties": {
            "type": {"type": "string", "title": "Type", "description": "A URI reference for the kind of problem"},
            "title": {"type": "string", "title": "Title", "description": "What the status means"},
            "status": {"type": "integer", "title": "Status", "description": "The HTTP status"},
            "detail": {"type": "string", "title": "Detail", "description": "What went wrong this time"},
            "code": {"type": "string", "enum": codes, "title": "Code", "description": "Stable name of the error"},
            "request_id": {"type": "string", "title": "Request Id", "description": "As in the header X-Request-Id"},
        },
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
    })
}
