//! Answers out: what a response body holds, with an example where a sample tells one.

use serde_json::{Map, Value, json};
use weir_artifact::{ModelSpec, Sample, Task};
use weir_types::{Answer, DType, Dim};

use super::{
    Predict,
    names::{Components, title, type_name},
    schema::json_type,
};
use crate::operation::Word;

/// The 200 of a prediction.
pub(super) fn success(
    spec: &ModelSpec,
    predict: &Predict<'_>,
    path: &str,
    components: &mut Components,
) -> Value {
    let template = predict.response;
    let entries = &template.entries;
    let mut properties = Map::new();
    for (key, word) in entries {
        let schema = match predict.selectable {
            true => selected(spec, key, word, components),
            false => entry(spec, key, word, template.many, components),
        };
        properties.insert(key.clone(), schema);
    }
    let required: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
    let schema = json!({"properties": properties, "type": "object", "required": required});
    let plural = if template.many { "Predictions" } else { "Prediction" };
    let names = [type_name(spec.name.as_str()) + plural, type_name(path) + "Response"];
    let mut media = json!({"schema": components.schema(&names, schema)});
    if let Some(example) = example(spec, predict) {
        media["example"] = example;
    }
    let mut success = json!({"description": "Successful Response"});
    if spec.schema.looks_up() {
        let asof = json!({
            "description": "The oldest event time among the features that were looked up; not there where none was",
            "schema": {"type": "string", "format": "date-time"},
        });
        success["headers"] = json!({"Weir-Feature-Asof": components.header("WeirFeatureAsof", asof)});
    }
    success["content"] = json!({"application/json": media});
    success
}

/// A list of the usual answer, or of objects of the words that `?outputs=` names.
fn selected(spec: &ModelSpec, key: &str, word: &Word, components: &mut Components) -> Value {
    let mut words = Map::new();
    for (name, answer) in &spec.answers {
        words.insert(name.clone(), answer_schema(spec, answer, components));
    }
    let words = json!({"properties": words, "type": "object", "title": "Outputs"});
    let items = match word {
        Word::Answer(answer) => json!({"anyOf": [answer_schema(spec, answer, components), words]}),
        Word::Model | Word::Version | Word::FeatureAsof => return entry(spec, key, word, true, components),
    };
    json!({"items": items, "type": "array", "title": title(key)})
}

/// What stands at one key.
fn entry(spec: &ModelSpec, key: &str, word: &Word, many: bool, components: &mut Components) -> Value {
    let mut schema = match word {
        Word::Model => json!({"type": "string", "const": spec.name.as_str()}),
        Word::Version => json!({"type": "string"}),
        Word::FeatureAsof => json!({
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
            "description": "The oldest event time among the features that were looked up",
        }),
        Word::Answer(answer) => {
            let one = answer_schema(spec, answer, components);
            if many { json!({"items": one, "type": "array"}) } else { one }
        }
    };
    // Keywords beside a reference are allowed in 3.1, and Pydantic leaves them out.
    if schema.get("$ref").is_none() {
        schema["title"] = title(key).into();
    }
    schema
}

fn answer_schema(spec: &ModelSpec, answer: &Answer, components: &mut Components) -> Value {
    match answer {
        Answer::Number { output, .. } | Answer::Score { output } => number(spec, *output),
        Answer::ClassScore { scores, .. } => number(spec, *scores),
        Answer::Class { labels, .. } | Answer::Label { labels, .. } => {
            json!({"type": "string", "enum": labels})
        }
        Answer::LabelScores { output, labels } => label_scores(spec, *output, labels, components),
        Answer::ScoreMap { output, labels } => {
            let scores =
                labels.iter().map(|label| (label.clone(), number(spec, *output))).collect::<Map<_, _>>();
            json!({"properties": scores, "type": "object", "required": labels})
        }
        Answer::Entities { names, .. } => entities(spec, names, components),
        Answer::Raw { output } => raw(spec, *output),
        Answer::Record(parts) => {
            let properties: Map<_, _> = parts
                .iter()
                .map(|(key, part)| (key.clone(), answer_schema(spec, part, components)))
                .collect();
            let required: Vec<_> = parts.iter().map(|(key, _)| key).collect();
            json!({"properties": properties, "type": "object", "required": required})
        }
    }
}

fn label_scores(spec: &ModelSpec, output: usize, labels: &[String], components: &mut Components) -> Value {
    let label = json!({"type": "string", "enum": labels, "title": "Label"});
    let mut score = number(spec, output);
    score["title"] = "Score".into();
    let pair = json!({
        "properties": {"label": label, "score": score},
        "type": "object",
        "required": ["label", "score"],
    });
    let model = type_name(spec.name.as_str());
    let versioned = format!("{model}LabelScoreV{}", type_name(spec.version.as_str()));
    let pair = components.schema(&[format!("{model}LabelScore"), versioned], pair);
    json!({"items": pair, "type": "array", "maxItems": labels.len(), "minItems": labels.len()})
}

fn entities(spec: &ModelSpec, names: &[String], components: &mut Components) -> Value {
    let place = |title: &str, description: &str| json!({"type": "integer", "minimum": 0, "title": title, "description": description});
    let entity = json!({
        "properties": {
            "entity": {"type": "string", "enum": names, "title": "Entity"},
            "score": {"type": "number", "title": "Score"},
            "start": place("Start", "First character, in Unicode scalar values"),
            "end": place("End", "The character behind the last"),
            "word": {"type": "string", "title": "Word", "description": "The text between"},
        },
        "type": "object",
        "required": ["entity", "score", "start", "end", "word"],
    });
    let model = type_name(spec.name.as_str());
    let versioned = format!("{model}EntityV{}", type_name(spec.version.as_str()));
    let entity = components.schema(&[format!("{model}Entity"), versioned], entity);
    json!({"items": entity, "type": "array"})
}

/// One element of an output. JSON has no NaN and no infinity, so that a number can be
/// `null`; a classifier's scores are finite whatever it is asked.
fn number(spec: &ModelSpec, output: usize) -> Value {
    let dtype = spec.signature.outputs.get(output).map_or(DType::Float32, |o| o.dtype);
    let finite = !dtype.is_float() || matches!(spec.task, Task::Classification | Task::TextClassification);
    let value = json!({"type": json_type(dtype)});
    if finite { value } else { json!({"anyOf": [value, {"type": "null"}]}) }
}

/// The row of an output: a number for one element, else nested lists.
fn raw(spec: &ModelSpec, output: usize) -> Value {
    let element = number(spec, output);
    let dims = spec.signature.outputs.get(output).map_or(&[][..], |o| o.shape.get(1..).unwrap_or_default());
    if let [] | [Dim::Fixed(1)] = dims {
        return element;
    }
    dims.iter().rev().fold(element, |items, dim| match dim {
        Dim::Fixed(n) => json!({"items": items, "type": "array", "maxItems": n, "minItems": n}),
        Dim::Any(_) => json!({"items": items, "type": "array"}),
    })
}

/// An answer that the model's own samples tell, to rows that the request's example shows;
/// none unless every key can be told.
fn example(spec: &ModelSpec, predict: &Predict<'_>) -> Option<Value> {
    let template = predict.response;
    let rows: Vec<&Sample> = spec.samples.iter().take(if template.many { 2 } else { 1 }).collect();
    let body = template.entries.iter().map(|(key, word)| {
        let value = match word {
            Word::Model => json!(spec.name.as_str()),
            Word::Version => json!(spec.version.as_str()),
            Word::FeatureAsof => Value::Null,
            Word::Answer(answer) if spec.answer("prediction") == Some(answer) => {
                let told: Option<Vec<_>> = rows.iter().map(|sample| sample.prediction.clone()).collect();
                let told = told.filter(|told| !told.is_empty())?;
                if template.many { Value::Array(told) } else { told.into_iter().next()? }
            }
            Word::Answer(_) => return None,
        };
        Some((key.clone(), value))
    });
    body.collect::<Option<Map<_, _>>>().map(Value::Object)
}

/// The 200 of a templated answer.
pub(super) fn template(response: &Value) -> Value {
    let mut media = json!({"schema": shape_of(response)});
    if !mentions_parameter(response) {
        media["example"] = response.clone();
    }
    json!({"description": "Successful Response", "content": {"application/json": media}})
}

/// The schema of a value, level by level; its depth is that of the operator's file, which
/// the TOML reader bounds.
fn shape_of(value: &Value) -> Value {
    match value {
        Value::Null => json!({"type": "null"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(n) if n.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        // A string that is one parameter may be answered in the parameter's own type.
        Value::String(text) if text.starts_with('{') && text.ends_with('}') => json!({}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(_) => json!({"type": "array"}),
        Value::Object(entries) => {
            let properties: Map<_, _> = entries.iter().map(|(k, v)| (k.clone(), shape_of(v))).collect();
            let required: Vec<_> = entries.keys().collect();
            match required.is_empty() {
                true => json!({"type": "object"}),
                false => json!({"properties": properties, "type": "object", "required": required}),
            }
        }
    }
}

fn mentions_parameter(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('{'),
        Value::Array(items) => items.iter().any(mentions_parameter),
        Value::Object(entries) => entries.values().any(mentions_parameter),
        _ => false,
    }
}
