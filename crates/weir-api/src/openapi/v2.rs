//! The Open Inference Protocol V2, as far as OpenAPI can say it: that the shape of a tensor and
//! the number of its elements agree, it cannot.

use serde_json::{Map, Value, json};
use weir_artifact::ModelSpec;
use weir_types::{DType, Dim};

use super::{
    names::Components,
    problems::{DEADLINE_EXCEEDED, KEY_IN_USE, retry_after},
    state::idempotency_key,
    v2_schemas as schemas,
};
use crate::operation::Endpoint;

/// Longest example of a tensor, in elements.
const MAX_EXAMPLE: usize = 64;

/// What stands beside the head of the operation `endpoint` at `path`, of a server with `models` that keeps
/// answers by `Idempotency-Key` or not.
pub(super) fn describe(
    (endpoint, path): (Endpoint, &str),
    models: &[&ModelSpec],
    idempotency: bool,
    components: &mut Components,
) -> Map<String, Value> {
    let mut described = Map::new();
    described.insert("description".into(), description(endpoint).into());
    let keyed = idempotency && endpoint == Endpoint::Infer;
    let mut parameters = parameters(endpoint, path, models);
    parameters.extend(keyed.then(idempotency_key));
    if !parameters.is_empty() {
        described.insert("parameters".into(), parameters.into());
    }
    if let Some(body) = body(endpoint, models, components) {
        described.insert("requestBody".into(), body);
    }
    let mut responses = Map::new();
    responses.insert("200".into(), success(endpoint, components));
    let looks_up = models.iter().any(|spec| spec.columns && spec.schema.looks_up());
    let more = [(409, keyed), (422, keyed || (looks_up && endpoint == Endpoint::Infer))];
    let more = more.iter().filter_map(|(status, there)| there.then_some(status));
    for status in statuses(endpoint, path).iter().chain(more) {
        responses.insert(status.to_string(), problem(*status, components));
    }
    if endpoint == Endpoint::Ready {
        let mut not_ready = success(endpoint, components);
        not_ready["description"] = "Not ready".into();
        not_ready["headers"] = json!({"Retry-After": retry_after(components)});
        responses.insert("503".into(), not_ready);
    }
    described.insert("responses".into(), responses.into());
    described
}

fn description(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Server => "Name, version, and what is supported beyond the protocol's core.",
        Endpoint::Live => "Whether the process answers.",
        Endpoint::Ready => "Whether every model can answer and the server is not draining.",
        Endpoint::Model => "Versions, inputs and outputs; -1 is a dimension that the request decides.",
        Endpoint::ModelReady => "Whether the model can answer.",
        Endpoint::Config => "How the model is served, in the terms of Triton's configuration.",
        Endpoint::Statistics => "What the model has done since it was loaded.",
        Endpoint::AllStatistics => "What all models have done since they were loaded.",
        Endpoint::Infer => {
            "Tensors in, tensors out: as JSON, or as JSON with the tensors' bytes behind it, whose length \
             `Inference-Header-Content-Length` tells apart; with 0 the body is the one input, raw."
        }
        Endpoint::Index => "Every version there is, and why one cannot answer.",
        Endpoint::Load => "Reads a model from disk again, where `model_control` is `explicit`.",
        Endpoint::Unload => "Stops serving a model, where `model_control` is `explicit`.",
        Endpoint::Trace => "Which requests are traced, where `model_control` is `explicit`.",
        Endpoint::SetTrace => {
            "Changes which requests are traced, where `model_control` is `explicit`. What is not named stays \
             as it is; `null` clears a setting, of a model back to the global one."
        }
        Endpoint::Log => "What is logged, where `model_control` is `explicit`.",
        Endpoint::SetLog => {
            "Changes what is logged, where `model_control` is `explicit`. What is not named stays as it is."
        }
    }
}

/// The statuses besides 200 that have the protocol's error as their body.
fn statuses(endpoint: Endpoint, path: &str) -> &'static [u16] {
    match endpoint {
        Endpoint::Server | Endpoint::Live | Endpoint::Ready | Endpoint::AllStatistics => &[],
        Endpoint::Model | Endpoint::ModelReady | Endpoint::Config | Endpoint::Statistics => &[404, 503],
        Endpoint::Infer => &[400, 404, 408, 413, 415, 500, 503, 504],
        Endpoint::Index => &[400, 408, 413, 415, 503, 504],
        Endpoint::Load | Endpoint::Unload => &[400, 403, 404, 408, 413, 415, 501, 503, 504],
        Endpoint::Trace if path.contains("{model}") => &[403, 404, 503],
        Endpoint::Trace => &[403],
        Endpoint::Log => &[403, 501],
        Endpoint::SetTrace if path.contains("{model}") => &[400, 403, 404, 408, 413, 415, 501, 503, 504],
        Endpoint::SetTrace | Endpoint::SetLog => &[400, 403, 408, 413, 415, 501, 503, 504],
    }
}

/// `{"error": "…"}`, whatever the status.
fn problem(status: u16, components: &mut Components) -> Value {
    let (name, text) = match status {
        400 => ("V2BadRequest", "The request cannot be read, or does not fit the model"),
        403 => ("V2Forbidden", "Clients control nothing here"),
        404 => ("V2NotFound", "There is no such model or version"),
        408 => ("V2RequestTimeout", "The body did not arrive in time"),
        409 => ("V2Conflict", KEY_IN_USE),
        413 => ("V2TooLarge", "The body is larger than the server takes, as sent or unpacked"),
        415 => ("V2UnsupportedMediaType", "The body has a Content-Encoding that is not undone"),
        422 => {
            ("V2Unprocessable", "A feature is not known, or another request has used the `Idempotency-Key`")
        }
        501 => ("V2Unsupported", "The request asks for what is not supported"),
        503 => ("V2Unavailable", "Busy, or the model could not be loaded: try again"),
        504 => ("V2DeadlineExceeded", DEADLINE_EXCEEDED),
        _ => ("V2Internal", "The model failed"),
    };
    components.response(name, |components| {
        let schema = components.schema(&["V2Error".into()], schemas::error());
        let mut response = json!({"description": text});
        if matches!(status, 409 | 503) {
            response["headers"] = json!({"Retry-After": retry_after(components)});
        }
        response["content"] = json!({"application/json": {"schema": schema}});
        response
    })
}

fn parameters(endpoint: Endpoint, path: &str, models: &[&ModelSpec]) -> Vec<Value> {
    let mut found = Vec::new();
    if path.contains("{model}") {
        let mut schema = json!({"type": "string", "title": "Model"});
        let names: Vec<_> = models.iter().map(|spec| spec.name.as_str()).collect();
        if !names.is_empty() {
            schema["enum"] = names.into();
        }
        let mut model = json!({"name": "model", "in": "path", "required": true, "schema": schema});
        if let Some(spec) = example_model(models) {
            model["example"] = spec.name.as_str().into();
        }
        found.push(model);
    }
    if path.contains("{version}") {
        let mut version = json!({
            "name": "version",
            "in": "path",
            "required": true,
            "schema": {"type": "string", "title": "Version"},
        });
        if let Some(spec) = example_model(models) {
            version["example"] = spec.version.as_str().into();
        }
        found.push(version);
    }
    if endpoint == Endpoint::Infer {
        found.push(json!({
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": false,
            "schema": {"type": "integer", "minimum": 0, "title": "JSON Bytes"},
            "description": "Bytes of JSON before the tensors' own; without it the body is JSON alone",
        }));
    }
    found
}

fn body(endpoint: Endpoint, models: &[&ModelSpec], components: &mut Components) -> Option<Value> {
    let mut json_body = |name: &str, schema: Value, required: bool| {
        let schema = components.schema(&[name.to_owned()], schema);
        json!({"content": {"application/json": {"schema": schema}}, "required": required})
    };
    Some(match endpoint {
        Endpoint::Infer => infer_body(models, components),
        Endpoint::Index => json_body("V2IndexRequest", schemas::index_request(), false),
        Endpoint::Load | Endpoint::Unload => json_body("V2Order", schemas::order(), false),
        Endpoint::SetTrace => json_body("V2TraceChanges", schemas::trace_changes(), true),
        Endpoint::SetLog => json_body("V2LogChanges", schemas::log_changes(), true),
        _ => return None,
    })
}

fn infer_body(models: &[&ModelSpec], components: &mut Components) -> Value {
    let parameters = components.schema(&["V2Parameters".into()], schemas::parameters());
    let input = components.schema(&["V2Input".into()], schemas::input(&parameters));
    let output = components.schema(&["V2RequestedOutput".into()], schemas::requested_output(&parameters));
    let schema = schemas::infer_request(&input, &output);
    let schema = components.schema(&["V2InferRequest".into()], schema);
    let mut media = json!({"schema": schema});
    if let Some(example) = example_model(models).map(example) {
        media["example"] = example;
    }
    // JSON with bytes behind it has no schema.
    // Not required: with a header of 0, no body is no rows.
    json!({"content": {"application/json": media, "application/octet-stream": {}}, "required": false})
}

fn success(endpoint: Endpoint, components: &mut Components) -> Value {
    let (name, schema) = match endpoint {
        Endpoint::Server => ("V2Server", schemas::server()),
        Endpoint::Live => ("V2Live", schemas::flag("live")),
        Endpoint::Ready => ("V2Ready", schemas::flag("ready")),
        Endpoint::Model => {
            let tensor = components.schema(&["V2TensorMetadata".into()], schemas::tensor_metadata());
            ("V2Model", schemas::model(&tensor))
        }
        Endpoint::ModelReady => ("V2ModelReady", schemas::model_ready()),
        Endpoint::Config => ("V2ModelConfig", schemas::config()),
        Endpoint::Statistics | Endpoint::AllStatistics => {
            let duration = components.schema(&["V2Duration".into()], schemas::duration());
            ("V2Statistics", schemas::statistics(&duration))
        }
        Endpoint::Infer => {
            let output = components.schema(&["V2Output".into()], schemas::output());
            ("V2InferResponse", schemas::infer_response(&output))
        }
        Endpoint::Index => ("V2Index", schemas::index()),
        Endpoint::Load | Endpoint::Unload => ("V2Done", json!({"type": "object"})),
        Endpoint::Trace | Endpoint::SetTrace => ("V2TraceSettings", schemas::trace()),
        Endpoint::Log | Endpoint::SetLog => ("V2LogSettings", schemas::log()),
    };
    let schema = components.schema(&[name.to_owned()], schema);
    let mut content = json!({"application/json": {"schema": schema}});
    if endpoint == Endpoint::Infer {
        content["application/octet-stream"] = json!({});
    }
    json!({"description": "Successful Response", "content": content})
}

/// A model for which an example can be written down: no dimension open but the rows.
fn example_model<'m>(models: &[&'m ModelSpec]) -> Option<&'m ModelSpec> {
    let size = |spec: &ModelSpec| {
        let inputs = spec.signature.inputs.iter();
        inputs
            .map(|i| i.shape.get(1..)?.iter().map(Dim::fixed).product::<Option<usize>>())
            .sum::<Option<usize>>()
    };
    let small = |spec: &&&ModelSpec| {
        let some = !spec.signature.inputs.is_empty() && !spec.columns;
        some && size(spec).is_some_and(|n| n <= MAX_EXAMPLE)
    };
    models.iter().find(small).copied()
}

/// One row of zeros, or of empty texts.
fn example(spec: &ModelSpec) -> Value {
    let input = |input: &weir_types::TensorSpec| {
        let shape: Vec<usize> = input.shape.iter().map(|d| d.fixed().unwrap_or(1)).collect();
        let element = match input.dtype {
            DType::String => json!(""),
            DType::Bool => json!(false),
            _ => json!(0),
        };
        let data = vec![element; shape.iter().product()];
        let datatype = crate::v2::core::datatype(input.dtype);
        json!({"name": input.name, "shape": shape, "datatype": datatype, "data": data})
    };
    json!({"id": "1", "inputs": spec.signature.inputs.iter().map(input).collect::<Vec<_>>()})
}
