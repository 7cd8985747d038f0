//! The admin listener's operations.

use serde_json::{Map, Value, json};

use super::{names::Components, problems};
use crate::admin::Endpoint;

/// What stands beside the head of an operation; `None` for the description itself.
pub(super) fn describe(endpoint: Endpoint, components: &mut Components) -> Option<Map<String, Value>> {
    let (description, body, answer, statuses): (_, _, _, &[u16]) = match endpoint {
        Endpoint::OpenApi => return None,
        Endpoint::Cache => (
            "Counters of every version that keeps its answers, since it was loaded. `answers` counts \
             requests, `rows` and `tiers` rows.",
            None,
            statistics(components),
            &[403],
        ),
        Endpoint::PurgeCache => (
            "Forgets stored answers: of a model, of one version of it, or of all models with a tag. Other \
             replicas on the same Redis follow. With 503, Redis could not be told: purge again.",
            Some(purge()),
            purged(components),
            &[400, 403, 404, 408, 413, 415, 501, 504],
        ),
        Endpoint::ExplainCache => (
            "Reads two bodies as the model's `:predict` does, or the route at `path`, and compares entry by \
             entry what the cache compares. Nothing is computed.",
            Some(explain()),
            explained(components),
            &[400, 403, 404, 408, 413, 415, 422, 503, 504],
        ),
    };
    let mut responses = Map::new();
    responses.insert("200".into(), json_of("Successful Response", answer.clone()));
    problems::add(statuses, &mut responses, components);
    if statuses.contains(&422) {
        // One sentence, not Pydantic's list: it says which of the two bodies it is about.
        responses.insert("422".into(), problems::invalid_body(components));
    }
    if endpoint == Endpoint::PurgeCache {
        let mut partly = json_of("Redis could not be told; this process forgot what it had", answer);
        partly["headers"] = json!({"Retry-After": problems::retry_after(components)});
        responses.insert("503".into(), partly);
    }
    let mut described = Map::from_iter([("description".to_owned(), description.into())]);
    if let Some(schema) = body {
        let body = json!({"content": {"application/json": {"schema": schema}}, "required": true});
        described.insert("requestBody".into(), body);
    }
    described.insert("responses".into(), responses.into());
    Some(described)
}

fn json_of(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// An object of which every property is there.
fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(|p| p.keys()).collect();
    json!({"required": required, "properties": properties, "type": "object"})
}

fn count(text: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": text})
}

fn seconds(text: &str) -> Value {
    json!({"type": "number", "minimum": 0, "description": text})
}

fn statistics(components: &mut Components) -> Value {
    let tier = object(json!({
        "hits": count("Rows that it had"),
        "misses": count("Rows that it had not, or had too long ago"),
        "expired": count("Of the misses, those whose entry was no longer fresh"),
        "corrupt": count("Of the misses, those whose entry was another row's or damaged"),
        "filled": count("Entries written"),
        "dropped": count("Entries that were to be written and were not"),
        "evicted": count("Entries that made room for others; memory alone"),
        "entries": count("Entries there now; memory alone"),
        "bytes": count("Bytes that they take; memory alone"),
        "lookups": count("Look-ups, each of all rows that a request still needs"),
        "lookup_seconds": seconds("What they took in all"),
    }));
    let tier = components.schema(&["CacheTier".into()], tier);
    let answers = object(json!({
        "hit": count("All rows were stored"),
        "partial": count("Some were"),
        "miss": count("None was"),
        "bypassed": count("The cache was not asked"),
    }));
    let rows = object(json!({
        "coalesced": count("Rows that another request was computing already"),
        "stale": count("Rows given after their ttl while they were computed anew"),
    }));
    let text = json!({"type": "string"});
    let model = object(json!({
        "model": text,
        "version": text,
        "answers": answers,
        "rows": rows,
        "model_seconds_saved": seconds("Time of the model that stored and coalesced rows saved"),
        "tiers": object(json!({"memory": tier, "redis": tier})),
    }));
    let model = components.schema(&["ModelCache".into()], model);
    object(json!({"models": {"items": model, "type": "array"}, "redis": redis(components)}))
}

/// How calls to Redis went; null without one.
fn redis(components: &mut Components) -> Value {
    let node = object(json!({
        "name": {"type": "string", "description": "Its address, or the master's name"},
        "breaker": {"type": "string", "enum": ["closed", "half open", "open"]},
        "calls": count("Pipelines"),
        "failures": count("Pipelines without a usable answer"),
        "trouble": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "Why it is away, while it is"},
    }));
    let failures = object(json!({
        "unavailable": count("A server was away, or known to be"),
        "timeout": count("There was no answer in time"),
        "refused": count("Redis said no"),
        "garbage": count("The answer could not be used"),
    }));
    let redis = object(json!({
        "calls": count("Calls, each for any number of keys"),
        "seconds": seconds("What they took in all"),
        "failures": failures,
        "nodes": {"items": node, "type": "array"},
    }));
    let redis = components.schema(&["RedisCalls".into()], redis);
    json!({"anyOf": [redis, {"type": "null"}]})
}

fn purge() -> Value {
    let text = |title: &str| json!({"type": "string", "title": title});
    let one = |properties: Value, required: &[&str]| json!({"properties": properties, "type": "object", "required": required, "additionalProperties": false});
    let model = json!({"model": text("Model"), "version": text("Version")});
    json!({
        "anyOf": [one(model, &["model"]), one(json!({"tag": text("Tag")}), &["tag"])],
        "title": "Purge",
        "examples": [{"model": "sentiment"}],
    })
}

fn purged(components: &mut Components) -> Value {
    let memory = object(json!({"entries": count("Entries that left this process's memory")}));
    let redis = json!({
        "anyOf": [
            object(json!({"entries": count("Entries that left Redis")})),
            object(json!({"error": {"type": "string", "description": "Why Redis could not be told"}})),
            {"type": "null"},
        ],
        "description": "null without Redis",
    });
    components.schema(&["Purged".into()], object(json!({"memory": memory, "redis": redis})))
}

fn explain() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let bodies = json!({"items": {}, "type": "array", "minItems": 2, "maxItems": 2});
    let one = |properties: Value, required: &[&str]| json!({"properties": properties, "type": "object", "required": required, "additionalProperties": false});
    let model = json!({
        "model": text("The model whose `:predict` takes the bodies"),
        "version": text("Its version; the latest without it"),
        "bodies": bodies,
    });
    let route = json!({"path": text("The path of a declared route that takes them"), "bodies": bodies});
    json!({
        "anyOf": [one(model, &["model", "bodies"]), one(route, &["path", "bodies"])],
        "title": "Explain",
        "examples": [{"model": "sentiment", "bodies": [{"text": "good"}, {"text": "bad"}]}],
    })
}

fn explained(components: &mut Components) -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let two = |items: Value| json!({"items": items, "type": "array", "minItems": 2, "maxItems": 2});
    let difference = object(json!({
        "row": count("The row of the entry, where it has several"),
        "field": text("The field, or the tensor and its element"),
        "values": two(text("As the model reads them, cut at 256 bytes")),
    }));
    let pair = object(json!({
        "shared": {"type": "boolean", "description": "Whether both have one entry"},
        "identities": two(text("SHA-256 of what is compared")),
        "differences": {"items": difference, "type": "array", "description": "Up to a hundred"},
    }));
    let pair = components.schema(&["ExplainedPair".into()], pair);
    let explained = object(json!({
        "model": {"type": "string"},
        "version": {"type": "string"},
        "digest": text("Model, settings and engine, as they go into every key"),
        "by_row": {"type": "boolean", "description": "Whether rows have entries of their own"},
        "entries": two(count("Entries that the body takes")),
        "pairs": {"items": pair, "type": "array"},
    }));
    components.schema(&["Explained".into()], explained)
}
