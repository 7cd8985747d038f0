//! Query and path parameters.

use serde_json::{Map, Value, json};
use weir_artifact::ModelSpec;
use weir_types::DType;

use super::{
    names::title,
    schema::{Limits, json_type},
};
use crate::config::ParameterConfig;

/// Parameters of a templated route: those of the path in its order, then the query's.
pub(super) fn declared(path: &str, typed: &[ParameterConfig], query: &[ParameterConfig]) -> Vec<Value> {
    let in_path = segments(path).map(|name| match typed.iter().find(|p| p.name == name) {
        Some(parameter) => describe(parameter, "path"),
        None => json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": {"type": "string", "title": title(name)},
        }),
    });
    in_path.chain(query.iter().map(|p| describe(p, "query"))).collect()
}

/// Names of the `{x}` in a path.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.trim_start_matches('*')))
}

fn describe(parameter: &ParameterConfig, place: &str) -> Value {
    let required = place == "path" || (parameter.required && parameter.default.is_none());
    let mut described = json!({
        "name": parameter.name,
        "in": place,
        "required": required,
        "schema": schema(parameter, required),
    });
    if let Some(description) = &parameter.description {
        described["description"] = description.as_str().into();
    }
    if let Some(example) = &parameter.example {
        described["example"] = example.clone();
    }
    described
}

fn schema(parameter: &ParameterConfig, required: bool) -> Value {
    let value = value(parameter);
    // FastAPI's form of a parameter that may be absent: its value is None then.
    let mut schema = match required || parameter.default.is_some() {
        true => value,
        false => json!({"anyOf": [value, {"type": "null"}]}),
    };
    if let Some(default) = &parameter.default {
        schema["default"] = default.clone();
    }
    if let Some(description) = &parameter.description {
        schema["description"] = description.as_str().into();
    }
    schema["title"] = title(&parameter.name).into();
    schema
}

fn value(parameter: &ParameterConfig) -> Value {
    // Names are checked when the configuration is read; a wrong one would be a string here.
    let dtype = parameter.dtype.parse().unwrap_or(DType::String);
    let mut schema = Map::new();
    match parameter.one_of.as_deref() {
        Some([only]) => schema.insert("const".into(), only.clone()),
        Some(allowed) => schema.insert("enum".into(), allowed.into()),
        None => None,
    };
    schema.insert("type".into(), json_type(dtype).into());
    match dtype {
        DType::Bool => {}
        DType::String => {
            let lengths = [("minLength", parameter.min_length), ("maxLength", parameter.max_length)];
            schema.extend(lengths.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.into()))));
            schema.extend(parameter.pattern.iter().map(|p| ("pattern".to_owned(), p.as_str().into())));
        }
        dtype => {
            let limits = Limits { ge: parameter.ge, gt: parameter.gt, le: parameter.le, lt: parameter.lt };
            schema.extend(limits.within(dtype));
            // Integers of a query are read as 64 bits with a sign.
            if dtype == DType::Uint64 && limits.le.is_none() && limits.lt.is_none() {
                schema.insert("maximum".into(), i64::MAX.into());
            }
        }
    }
    schema.into()
}

/// `?outputs=` and `?version=` of `:predict`.
pub(super) fn selection(spec: &ModelSpec) -> Vec<Value> {
    let words: Vec<_> = spec.answers.iter().map(|(word, _)| word.as_str()).collect();
    let any: Vec<_> = words.iter().map(|word| literal(word)).collect();
    let any = any.join("|");
    let outputs = json!({
        "type": "string",
        "pattern": format!("^({any})(,({any}))*$"),
        "title": "Outputs",
    });
    vec![
        json!({
            "name": "outputs",
            "in": "query",
            "required": false,
            "schema": outputs,
            "description": format!("What to answer, separated by commas: {}.", words.join(", ")),
        }),
        json!({
            "name": "version",
            "in": "query",
            "required": false,
            "schema": {"type": "string", "title": "Version"},
            "description": "The version to ask; the latest without it.",
        }),
    ]
}

/// The headers of a model that keeps state.
pub(super) fn sequence() -> [Value; 3] {
    let flag = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "header",
            "required": false,
            "schema": {"type": "boolean", "default": false, "title": name},
            "description": description,
        })
    };
    [
        json!({
            "name": "Sequence-Id",
            "in": "header",
            "required": true,
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$", "title": "Sequence-Id"},
            "description": "The sequence that the request goes on with; any text of your choice.",
        }),
        flag("Sequence-Start", "Whether the sequence begins (again) with this request."),
        flag("Sequence-End", "Whether the sequence ends with this request."),
    ]
}

/// `text` as a pattern that matches it alone.
fn literal(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            (!c.is_alphanumeric() && c.is_ascii() && c != '_' && c != ':')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
}
