//! What the headers of operations say that may be answered from a cache.

use serde_json::{Map, Value, json};

use super::names::Components;

/// The request header that steers it.
pub(super) fn parameter() -> Value {
    json!({
        "name": "Cache-Control",
        "in": "header",
        "required": false,
        "schema": {"type": "string", "title": "Cache-Control"},
        "description": "`no-cache`: compute anew and store; `no-store`: compute anew and store nothing; \
                        `only-if-cached`: compute nothing, 504 where something is not stored; \
                        `max-age=N`: take stored answers up to N seconds old. Other directives have no \
                        effect. Without any, the model's `[cache] default` counts.",
        "example": "no-cache",
    })
}

/// Adds to `responses` the headers that tell what the cache did.
pub(super) fn describe(responses: &mut Map<String, Value>, components: &mut Components) {
    let verdict = json!({"type": "string", "enum": ["hit", "partial", "miss"]});
    let verdict = json!({"description": "How many of the rows were stored already: all, some, none",
        "schema": verdict});
    let age = json!({"type": "integer", "minimum": 0});
    let age =
        json!({"description": "Seconds since the oldest of the stored rows was computed", "schema": age});
    let headers = json!({
        "X-Cache": components.header("XCache", verdict),
        "Age": components.header("Age", age),
    });
    responses.get_mut("200").into_iter().for_each(|ok| ok["headers"] = headers.clone());
}
