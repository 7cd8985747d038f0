//! The server's own operations.

use serde_json::{Map, Value, json};

use super::names::Components;
use crate::operation::Builtin;

/// Description and responses; `None` for what FastAPI leaves out too, the documentation.
pub(super) fn describe(builtin: Builtin, components: &mut Components) -> Option<Map<String, Value>> {
    let (description, responses) = match builtin {
        Builtin::Health => ("The server's time.", health()),
        Builtin::Live => ("Whether the process answers.", probe(components, false)),
        Builtin::Ready => (
            "Whether every model can answer and the server is not draining. A newer version \
             that failed to load is told here, with 200: the older one serves on.",
            probe(components, true),
        ),
        Builtin::Startup => ("Whether the first load is done.", probe(components, true)),
        Builtin::Metrics => ("Counts and latencies as Prometheus reads them.", metrics()),
        Builtin::Models => ("Models and versions that are served.", models(components)),
        Builtin::OpenApi | Builtin::Docs => return None,
    };
    Some(Map::from_iter([
        ("description".to_owned(), description.into()),
        ("responses".to_owned(), responses),
    ]))
}

fn success(content_type: &str, schema: Value) -> Value {
    json!({"description": "Successful Response", "content": {content_type: {"schema": schema}}})
}

fn health() -> Value {
    let schema = json!({
        "properties": {"time": {"type": "string", "format": "date-time", "title": "Time"}},
        "type": "object",
        "required": ["time"],
    });
    json!({"200": success("application/json", schema)})
}

fn probe(components: &mut Components, can_fail: bool) -> Value {
    let schema = json!({
        "properties": {"status": {"type": "string", "title": "Status"}},
        "type": "object",
        "required": ["status"],
    });
    let schema = components.schema(&["Probe".into()], schema);
    let mut responses = json!({"200": success("application/json", schema.clone())});
    if can_fail {
        responses["503"] =
            json!({"description": "Not now", "content": {"application/json": {"schema": schema}}});
    }
    responses
}

fn metrics() -> Value {
    json!({"200": success("text/plain", json!({"type": "string"}))})
}

fn models(components: &mut Components) -> Value {
    let schema = json!({
        "properties": {"models": {"items": {"type": "object"}, "type": "array", "title": "Models"}},
        "type": "object",
        "required": ["models"],
    });
    json!({"200": success("application/json", components.schema(&["Models".into()], schema))})
}
