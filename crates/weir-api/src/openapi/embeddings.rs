//! `/v1/embeddings`: OpenAI's request and answer, as far as they are served.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir_artifact::ModelSpec;
use weir_types::Dim;

use super::{
    names::Components,
    problems::{DEADLINE_EXCEEDED, KEY_IN_USE, KEY_REUSED, retry_after},
    state::idempotency_key,
};
use crate::openai::{FORMATS, TYPES};

/// What stands beside the head of the operation.
pub(super) fn describe(
    models: &[Arc<ModelSpec>],
    idempotency: bool,
    components: &mut Components,
) -> Map<String, Value> {
    let body = components.schema(&["EmbeddingsRequest".into()], request(models));
    let answer = answer(components);
    let answer = components.schema(&["EmbeddingsResponse".into()], answer);
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({"description": "Successful Response", "content": {"application/json": {"schema": answer}}}),
    );
    for (status, text) in ERRORS {
        responses.insert(status.into(), error(status, text, components));
    }
    for (status, text) in KEYED.into_iter().filter(|_| idempotency) {
        responses.insert(status.into(), error(status, text, components));
    }
    let text = "One vector a text, in the texts' order. `usage` counts the tokens that the model read: special \
                tokens included, cut at the model's limit. The client libraries of OpenAI speak this with \
                `base_url` set to this server's `/v1`.";
    let parameters = idempotency.then(|| ("parameters".to_owned(), json!([idempotency_key()])));
    let described = [
        ("description".to_owned(), text.into()),
        (
            "requestBody".to_owned(),
            json!({"content": {"application/json": {"schema": body}}, "required": true}),
        ),
        ("responses".to_owned(), responses.into()),
    ];
    described.into_iter().chain(parameters).collect()
}

fn request(models: &[Arc<ModelSpec>]) -> Value {
    let names: Vec<_> = models.iter().map(|spec| spec.name.as_str()).collect();
    let most = models.iter().map(|spec| spec.limits.max_rows).max().unwrap_or(1);
    let mut sizes: Vec<_> = models
        .iter()
        .filter_map(|spec| spec.signature.outputs.first()?.shape.get(1).and_then(Dim::fixed))
        .map(Value::from)
        .collect();
    sizes.push(Value::Null);
    let text = text(models);
    let texts = json!({"items": text, "type": "array", "minItems": 1, "maxItems": most});
    json!({
        "properties": {
            "model": {"type": "string", "enum": names, "title": "Model"},
            "input": {"anyOf": [text, texts], "title": "Input", "description": "Token ids are not taken"},
            "encoding_format": {
                "anyOf": [{"type": "string", "enum": FORMATS}, {"type": "null"}],
                "default": FORMATS[0],
                "title": "Encoding Format",
                "description": "`base64` holds little-endian float32",
            },
            "dimensions": {
                "enum": sizes,
                "title": "Dimensions",
                "description": "The size of the model's own vectors, which are not cut",
            },
            "user": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "User", "description": "Has no effect"},
        },
        "additionalProperties": false,
        "type": "object",
        "required": ["model", "input"],
        "examples": [{"model": names.first(), "input": ["a text", "another"]}],
    })
}

/// A text that each of the models takes.
fn text(models: &[Arc<ModelSpec>]) -> Value {
    let fields = || models.iter().filter_map(|spec| spec.schema.fields.first());
    let mut text = json!({"type": "string"});
    if let Some(n) = fields().filter_map(|field| field.rules.min_length).max() {
        text["minLength"] = n.into();
    }
    if let Some(n) = fields().filter_map(|field| field.rules.max_length).min() {
        text["maxLength"] = n.into();
    }
    text
}

fn answer(components: &mut Components) -> Value {
    let numbers = json!({"items": {"anyOf": [{"type": "number"}, {"type": "null"}]}, "type": "array"});
    let embedding = json!({
        "properties": {
            "object": {"type": "string", "const": "embedding"},
            "index": {"type": "integer", "minimum": 0},
            "embedding": {"anyOf": [numbers, {"type": "string", "format": "byte"}]},
        },
        "type": "object",
        "required": ["object", "index", "embedding"],
    });
    let embedding = components.schema(&["Embedding".into()], embedding);
    let count = json!({"type": "integer", "minimum": 0});
    let usage = json!({
        "properties": {"prompt_tokens": count, "total_tokens": count},
        "type": "object",
        "required": ["prompt_tokens", "total_tokens"],
    });
    json!({
        "properties": {
            "object": {"type": "string", "const": "list"},
            "data": {"items": embedding, "type": "array"},
            "model": {"type": "string"},
            "usage": usage,
        },
        "type": "object",
        "required": ["object", "data", "model", "usage"],
    })
}

const ERRORS: [(&str, &str); 8] = [
    ("400", "The body is no such request, or the model does not embed; `param` says which part"),
    ("404", "There is no such model"),
    ("408", "The body did not arrive in time"),
    ("413", "The body is larger than the server takes"),
    ("415", "The body is not JSON, or has a Content-Encoding"),
    ("500", "The server failed"),
    ("503", "Busy, starting or draining: try again"),
    ("504", DEADLINE_EXCEEDED),
];

/// Of a server that keeps answers by `Idempotency-Key`.
const KEYED: [(&str, &str); 2] = [("409", KEY_IN_USE), ("422", KEY_REUSED)];

fn error(status: &str, description: &str, components: &mut Components) -> Value {
    let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    let error = json!({
        "properties": {
            "message": {"type": "string"},
            "type": {"type": "string", "enum": TYPES},
            "param": optional,
            "code": {"type": "string"},
        },
        "type": "object",
        "required": ["message", "type", "param", "code"],
    });
    let error = json!({"properties": {"error": error}, "type": "object", "required": ["error"]});
    let schema = components.schema(&["EmbeddingsError".into()], error);
    let mut response =
        json!({"description": description, "content": {"application/json": {"schema": schema}}});
    if status == "503" {
        response["headers"] = json!({"Retry-After": retry_after(components)});
    }
    response
}
