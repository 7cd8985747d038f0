//! The schemas of the Open Inference Protocol's bodies.

use serde_json::{Value, json};
use weir_types::DType;

use crate::v2::core::datatype;

fn text() -> Value {
    json!({"type": "string"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn list(items: &Value) -> Value {
    json!({"items": items, "type": "array"})
}

/// An object of which every property is there, but for those in `optional`.
fn object(properties: Value, optional: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(|p| p.keys());
    let required: Vec<_> = names.filter(|name| !optional.contains(&name.as_str())).collect();
    json!({"required": required, "properties": properties, "type": "object"})
}

fn datatypes() -> Value {
    json!({"type": "string", "enum": DType::ALL.map(datatype)})
}

pub(super) fn error() -> Value {
    object(json!({"error": text()}), &[])
}

pub(super) fn flag(name: &str) -> Value {
    object(json!({name: {"type": "boolean"}}), &[])
}

pub(super) fn server() -> Value {
    object(json!({"name": text(), "version": text(), "extensions": list(&text())}), &[])
}

pub(super) fn model_ready() -> Value {
    object(json!({"name": text(), "ready": {"type": "boolean"}}), &[])
}

pub(super) fn tensor_metadata() -> Value {
    let shape = json!({"items": {"type": "integer", "minimum": -1}, "type": "array"});
    object(json!({"name": text(), "datatype": datatypes(), "shape": shape}), &[])
}

pub(super) fn model(tensor: &Value) -> Value {
    let properties = json!({
        "name": text(),
        "versions": list(&text()),
        "platform": text(),
        "inputs": list(tensor),
        "outputs": list(tensor),
    });
    object(properties, &[])
}

pub(super) fn config() -> Value {
    let tensor =
        object(json!({"name": text(), "data_type": text(), "dims": list(&json!({"type": "integer"}))}), &[]);
    let policy = json!({"specific": {"type": "object"}});
    let properties = json!({
        "name": text(),
        "platform": text(),
        "backend": text(),
        "max_batch_size": count(),
        "input": list(&tensor),
        "output": list(&tensor),
        "version_policy": object(policy, &[]),
    });
    object(properties, &[])
}

pub(super) fn duration() -> Value {
    object(json!({"count": count(), "ns": count()}), &[])
}

pub(super) fn statistics(duration: &Value) -> Value {
    let times = [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ];
    let times: Value = times.iter().map(|name| ((*name).to_owned(), duration.clone())).collect();
    let one = json!({
        "name": text(),
        "version": text(),
        "last_inference": count(),
        "inference_count": count(),
        "execution_count": count(),
        "inference_stats": object(times, &[]),
        "batch_stats": {"type": "array"},
    });
    object(json!({"model_stats": list(&object(one, &[]))}), &[])
}

/// Parameters: scalars are read, anything else is ignored.
pub(super) fn parameters() -> Value {
    json!({"type": "object", "maxProperties": 64})
}

pub(super) fn input(parameters: &Value) -> Value {
    let data = json!({"type": "array", "description": "Row-major, flat or nested as the shape says"});
    let shape = json!({"items": count(), "type": "array", "maxItems": 32});
    let properties = json!({
        "name": text(),
        "shape": shape,
        "datatype": datatypes(),
        "parameters": parameters,
        "data": data,
    });
    object(properties, &["parameters", "data"])
}

pub(super) fn requested_output(parameters: &Value) -> Value {
    object(json!({"name": text(), "parameters": parameters}), &["parameters"])
}

pub(super) fn infer_request(input: &Value, output: &Value) -> Value {
    let timeout =
        json!({"type": "integer", "minimum": 0, "description": "Microseconds from the request's arrival"});
    let own = json!({"timeout": timeout, "binary_data_output": {"type": "boolean"}});
    let properties = json!({
        "id": {"type": "string", "maxLength": 1024},
        "parameters": {"type": "object", "properties": own, "maxProperties": 64},
        "inputs": list(input),
        "outputs": list(output),
    });
    object(properties, &["id", "parameters", "outputs"])
}

pub(super) fn output() -> Value {
    let properties = json!({
        "name": text(),
        "datatype": datatypes(),
        "shape": list(&count()),
        "parameters": {"type": "object", "properties": {"binary_data_size": count()}},
        "data": {"type": "array", "description": "Flat; NaN and the infinities as text"},
    });
    object(properties, &["parameters", "data"])
}

pub(super) fn infer_response(output: &Value) -> Value {
    let properties =
        json!({"id": text(), "model_name": text(), "model_version": text(), "outputs": list(output)});
    object(properties, &["id"])
}

pub(super) fn index_request() -> Value {
    let ready = json!({"type": "boolean", "description": "Leaves out what does not serve"});
    object(json!({"ready": ready}), &["ready"])
}

pub(super) fn index() -> Value {
    let state = json!({"type": "string", "enum": ["READY", "UNAVAILABLE"]});
    list(&object(json!({"name": text(), "version": text(), "state": state, "reason": text()}), &[]))
}

pub(super) fn order() -> Value {
    object(json!({"parameters": {"type": "object"}}), &["parameters"])
}

pub(super) fn trace() -> Value {
    let level = json!({"items": {"type": "string", "enum": ["OFF", "TIMESTAMPS"]}, "type": "array"});
    let properties = json!({
        "trace_level": level,
        "trace_rate": text(),
        "trace_count": text(),
        "log_frequency": text(),
        "trace_file": text(),
        "trace_mode": text(),
    });
    object(properties, &[])
}

pub(super) fn trace_changes() -> Value {
    let level =
        json!({"items": {"type": "string", "enum": ["OFF", "TIMESTAMPS"]}, "type": ["array", "null"]});
    let number = |least: i64| json!({"type": ["string", "integer", "null"], "minimum": least});
    let properties = json!({
        "trace_level": level,
        "trace_rate": number(1),
        "trace_count": number(-1),
        "log_frequency": number(0),
    });
    json!({"type": "object", "properties": properties})
}

pub(super) fn log() -> Value {
    let flag = || json!({"type": "boolean"});
    let properties = json!({
        "log_info": flag(),
        "log_warning": flag(),
        "log_error": flag(),
        "log_verbose_level": count(),
        "log_file": text(),
        "log_format": text(),
    });
    object(properties, &[])
}

pub(super) fn log_changes() -> Value {
    let flag = || json!({"type": "boolean"});
    let properties = json!({
        "log_info": flag(),
        "log_warning": flag(),
        "log_error": flag(),
        "log_verbose_level": count(),
    });
    json!({"type": "object", "properties": properties})
}
