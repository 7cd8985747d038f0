//! Features of entities and events of streams.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir_features::{KeyType, MAX_EVENT_ID_BYTES, MAX_ROWS, View};
use weir_types::{DType, EntityKey};

use super::{
    names::{Components, title, type_name},
    problems,
    schema::{Limits, json_type},
};
use crate::state::StateEndpoint;

/// What stands beside the head of the operation.
pub(super) fn describe(
    endpoint: &StateEndpoint,
    idempotency: bool,
    components: &mut Components,
) -> Map<String, Value> {
    let described = match endpoint {
        StateEndpoint::Get(view) => get(view, components),
        StateEndpoint::Put(view) => put(view, components),
        StateEndpoint::PutMany(view) => put_many(view, components),
        StateEndpoint::Delete(view) => delete(view),
        StateEndpoint::Events(_, views) => events(views, components),
    };
    let Described { text, entity, body, answer, mut statuses } = described;
    let mut all = Map::from_iter([("description".to_owned(), text.into())]);
    let mut parameters: Vec<Value> = entity.map(parameter).into_iter().collect();
    if idempotency && matches!(endpoint, StateEndpoint::Events(..)) {
        parameters.push(idempotency_key());
        statuses.push(409);
        statuses.sort_unstable();
    }
    if !parameters.is_empty() {
        all.insert("parameters".into(), parameters.into());
    }
    if let Some(body) = body {
        let content = json!({"application/json": {"schema": body}});
        all.insert("requestBody".into(), json!({"content": content, "required": true}));
    }
    let content = json!({"application/json": {"schema": answer}});
    let success = json!({"description": "Successful Response", "content": content});
    let mut responses = Map::from_iter([("200".to_owned(), success)]);
    problems::add(&statuses, &mut responses, components);
    all.insert("responses".into(), responses.into());
    all
}

/// The header `Idempotency-Key`.
pub(super) fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "schema": {"type": "string", "pattern": "^(\"[!-~]{1,255}\"|[!#-~][!-~]{0,254})$", "title": "Idempotency-Key"},
        "description": "A name for this request, chosen by the client: sent again under it, the request is \
                        answered as it was the first time. Another request under it is refused (422).",
    })
}

struct Described<'a> {
    text: String,
    entity: Option<&'a View>,
    body: Option<Value>,
    answer: Value,
    statuses: Vec<u16>,
}

fn get<'a>(view: &'a View, components: &mut Components) -> Described<'a> {
    let properties = view.features.iter().map(|feature| {
        let known = value(feature.dtype, feature.description.as_deref());
        (feature.name.to_string(), json!({"anyOf": [known, {"type": "null"}]}))
    });
    let values: Map<String, Value> = properties.collect();
    let times = json!({
        "type": "object",
        "additionalProperties": {"type": "string", "format": "date-time"},
        "description": "When each value was so; defaults have no time",
    });
    let answer = json!({
        "properties": {
            "entity": key(view),
            "values": {"properties": values, "type": "object"},
            "event_times": times,
        },
        "type": "object",
        "required": ["entity", "values", "event_times"],
    });
    let answer = components.schema(&[format!("{}Known", type_name(&view.name))], answer);
    let text = told(view, "What is known of an entity: values, or defaults where nothing is known.");
    Described {
        text,
        entity: Some(view),
        body: None,
        answer,
        statuses: vec![400, 404, 408, 413, 415, 422, 500, 503, 504],
    }
}

fn put<'a>(view: &'a View, components: &mut Components) -> Described<'a> {
    let text = told(
        view,
        "Puts some or all of an entity's features. A feature that has a value with a later event time keeps it.",
    );
    let body = components.schema(&[format!("{}Put", type_name(&view.name))], record(view, false));
    let answer = counts(&[("written", "Features that have the new value"), ("outdated", OUTDATED)]);
    Described { text, entity: Some(view), body: Some(body), answer, statuses: WRITE.into() }
}

fn put_many<'a>(view: &'a View, components: &mut Components) -> Described<'a> {
    let text = told(view, "Puts features of many entities: all of them, or none where one is wrong.");
    let row = components.schema(&[format!("{}Row", type_name(&view.name))], record(view, true));
    let rows = json!({"items": row, "type": "array", "maxItems": MAX_ROWS, "title": "Rows"});
    let body = json!({
        "properties": {"rows": rows},
        "additionalProperties": false,
        "type": "object",
        "required": ["rows"],
    });
    let body = components.schema(&[format!("{}Rows", type_name(&view.name))], body);
    let answer = counts(&[
        ("rows", "Rows taken"),
        ("written", "Features that have the new value"),
        ("outdated", OUTDATED),
    ]);
    Described { text, entity: None, body: Some(body), answer, statuses: WRITE.into() }
}

fn delete(view: &View) -> Described<'_> {
    let text = told(view, "Forgets an entity, its event times included.");
    let answer = json!({
        "properties": {"deleted": {"type": "boolean", "description": "Whether there was anything to forget"}},
        "type": "object",
        "required": ["deleted"],
    });
    Described { text, entity: Some(view), body: None, answer, statuses: WRITE.into() }
}

fn events<'a>(views: &'a [Arc<View>], components: &mut Components) -> Described<'a> {
    let names: Vec<_> = views.iter().map(|view| format!("`{}`", view.name)).collect();
    let text = format!(
        "One event, or many. They feed {}: in any order, none later than the lateness allows, they give the \
         same values. An event that is sent again under its `id` is not counted again.",
        names.join(", ")
    );
    let stream = views.first().and_then(|v| v.stream.as_ref()).map_or("", |stream| &stream.name);
    let event = components.schema(&[format!("{}Event", type_name(stream))], event(views));
    let events = json!({"items": event, "type": "array", "maxItems": MAX_ROWS, "title": "Events"});
    let many = json!({
        "properties": {"events": events},
        "additionalProperties": false,
        "type": "object",
        "required": ["events"],
    });
    let many = components.schema(&[format!("{}Events", type_name(stream))], many);
    let answer = counts(&[
        ("accepted", "Events counted"),
        ("late", "Events older than the lateness allows, not counted"),
        ("duplicates", "Events whose id was counted before"),
    ]);
    let body = json!({"anyOf": [event, many], "title": "Body"});
    Described { text, entity: None, body: Some(body), answer, statuses: WRITE.into() }
}

const OUTDATED: &str = "Features that kept a value with a later event time";
const WRITE: [u16; 8] = [400, 408, 413, 415, 422, 500, 503, 504];

fn told(view: &View, text: &str) -> String {
    match view.description.as_deref() {
        Some(about) => format!("{text}\n\nThe view: {about}"),
        None => text.to_owned(),
    }
}

fn counts(parts: &[(&str, &str)]) -> Value {
    let count = |text: &str| json!({"type": "integer", "minimum": 0, "description": text});
    let properties: Map<_, _> = parts.iter().map(|(name, text)| ((*name).to_owned(), count(text))).collect();
    let names: Vec<_> = parts.iter().map(|(name, _)| name).collect();
    json!({"properties": properties, "type": "object", "required": names})
}

/// The key of an entity.
fn key(view: &View) -> Value {
    let mut schema = match view.key {
        KeyType::Int64 => value(DType::Int64, None),
        KeyType::String => json!({"type": "string", "minLength": 1, "maxLength": EntityKey::MAX_CHARS}),
    };
    schema["title"] = title(&view.entity).into();
    schema
}

fn parameter(view: &View) -> Value {
    let name = format!("The `{}`", view.entity);
    json!({"name": "entity", "in": "path", "required": true, "schema": key(view), "description": name})
}

fn record(view: &View, names_entity: bool) -> Value {
    let features = view.features.iter();
    let values: Map<String, Value> =
        features.map(|f| (f.name.to_string(), value(f.dtype, f.description.as_deref()))).collect();
    let values = json!({
        "properties": values,
        "additionalProperties": false,
        "type": "object",
        "minProperties": 1,
        "title": "Values",
    });
    let mut properties = Map::new();
    if names_entity {
        properties.insert("entity".into(), key(view));
    }
    properties.insert("values".into(), values);
    properties.insert("event_time".into(), event_time());
    let required: &[&str] = if names_entity { &["entity", "values"] } else { &["values"] };
    json!({"properties": properties, "additionalProperties": false, "type": "object", "required": required})
}

fn event(views: &[Arc<View>]) -> Value {
    let features = views.iter().flat_map(|view| &view.features);
    let of = features.filter_map(|f| f.aggregate.as_ref()?.of.as_deref());
    let values: Map<String, Value> =
        of.map(|name| (name.to_owned(), json!({"type": ["number", "string", "boolean"]}))).collect();
    let id = json!({"type": "string", "minLength": 1, "maxLength": MAX_EVENT_ID_BYTES / 4, "title": "Id"});
    json!({
        "properties": {
            "entity": views.first().map_or(json!({}), |view| key(view)),
            "event_time": event_time(),
            "id": id,
            "values": {"properties": values, "additionalProperties": false, "type": "object"},
        },
        "additionalProperties": false,
        "type": "object",
        "required": ["entity"],
    })
}

fn event_time() -> Value {
    json!({
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
        "title": "Event Time",
        "description": "When it was so: RFC 3339 with an offset, or seconds since 1970. Default: now",
    })
}

fn value(dtype: DType, description: Option<&str>) -> Value {
    let mut schema = Map::from_iter([("type".to_owned(), json_type(dtype).into())]);
    if !matches!(dtype, DType::Bool | DType::String) {
        schema.extend(Limits::default().within(dtype));
    }
    schema.extend(description.map(|text| ("description".to_owned(), text.into())));
    schema.into()
}
