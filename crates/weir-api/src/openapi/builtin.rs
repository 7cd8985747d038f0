//! The server's own operations.

use serde_json::{Map, Value, json};

use super::{names::Components, problems::retry_after};
use crate::operation::Builtin;

/// Description and responses; `None` for what FastAPI leaves out too, the documentation.
pub(super) fn describe(builtin: Builtin, components: &mut Components) -> Option<Map<String, Value>> {
    let (description, responses) = match builtin {
        Builtin::Health => ("The server's time.", health()),
        Builtin::Live => ("Whether the process answers.", flag("live")),
        Builtin::Startup => ("Whether the first load is done.", flag("started")),
        Builtin::Ready => (
            "Whether every model can answer and the server is not draining. A newer version \
             that failed to load is told here, with 200: the older one serves on.",
            ready(components),
        ),
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

/// An object of which every property is there, but for those in `optional`.
fn object(properties: Value, optional: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(|p| p.keys());
    let required: Vec<_> = names.filter(|name| !optional.contains(&name.as_str())).collect();
    json!({"required": required, "properties": properties, "type": "object"})
}

fn health() -> Value {
    let time = json!({"time": {"type": "string", "format": "date-time", "title": "Time"}});
    json!({"200": success("application/json", object(time, &[]))})
}

fn flag(name: &str) -> Value {
    json!({"200": success("application/json", object(json!({name: {"type": "boolean"}}), &[]))})
}

fn ready(components: &mut Components) -> Value {
    let text = || json!({"type": "string"});
    let failure = object(json!({"model": text(), "version": text(), "reason": text()}), &[]);
    let properties = json!({
        "ready": {"type": "boolean"},
        "draining": {"type": "boolean", "description": "There while the server shuts down"},
        "reload": {"type": "string", "description": "Why the last reload changed nothing"},
        "failures": {"items": failure, "type": "array", "description": "Versions that could not be loaded"},
    });
    let schema =
        components.schema(&["Readiness".into()], object(properties, &["draining", "reload", "failures"]));
    let header = retry_after(components);
    let mut not_ready = success("application/json", schema.clone());
    not_ready["description"] = "Not ready".into();
    not_ready["headers"] = json!({"Retry-After": header});
    json!({"200": success("application/json", schema), "503": not_ready})
}

fn metrics() -> Value {
    let text = json!({"schema": {"type": "string"}});
    // By `Accept`; without one that asks for the first, the second.
    let content = json!({"application/openmetrics-text": text, "text/plain": text});
    json!({"200": {"description": "Successful Response", "content": content}})
}

fn models(components: &mut Components) -> Value {
    let text = || json!({"type": "string"});
    let tensors = |what: &str| json!({"items": text(), "type": "array", "description": format!("{what} tensors: name, type, shape")});
    let version = object(
        json!({
            "version": text(),
            "engine": text(),
            "engine_version": text(),
            "digest": {"type": "string", "description": "SHA-256 of all that goes into an answer"},
            "inputs": tensors("Input"),
            "outputs": tensors("Output"),
        }),
        &[],
    );
    let version = components.schema(&["ModelVersion".into()], version);
    let model = object(json!({"name": text(), "versions": {"items": version, "type": "array"}}), &[]);
    let model = components.schema(&["Model".into()], model);
    let listed = object(
        json!({
            "id": text(),
            "object": {"type": "string", "const": "model"},
            "created": {"type": "integer", "description": "When the artefact was written, seconds since 1970"},
            "owned_by": text(),
        }),
        &[],
    );
    let listed = components.schema(&["ListedModel".into()], listed);
    let models = object(
        json!({
            "object": {"type": "string", "const": "list"},
            "data": {"items": listed, "type": "array", "description": "What /v1/embeddings can be asked for"},
            "models": {"items": model, "type": "array"},
        }),
        &[],
    );
    json!({"200": success("application/json", components.schema(&["Models".into()], models))})
}
