//! `weir config show`: what is in force, and where each value came from.

use std::{collections::BTreeSet, process::ExitCode};

use serde_json::{Value, json};
use weir_config::{Loaded, Origin, Places, Source};

use super::mask;
use crate::{
    args::Sources,
    output::Output,
    settings::{self, Settings},
};

/// A value in force.
struct Row {
    key: String,
    value: Value,
}

pub(super) fn run(sources: &Sources, origin: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let Loaded { value: mut settings, places } = settings::load(sources, Vec::new())?;
    mask::addresses(&mut settings);
    match (origin, output.is_json()) {
        (false, true) => output.json(&serde_json::to_value(&settings)?),
        (false, false) => output.raw(toml::to_string(&settings)?.as_bytes()),
        (true, true) => output.json(&rows(&settings)?.iter().map(|row| document(row, &places)).collect()),
        (true, false) => print(&rows(&settings)?, &places, output),
    }
    Ok(ExitCode::SUCCESS)
}

/// Every key with its value; those that have none too, since that also is a decision.
fn rows(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    flatten("", serde_json::to_value(settings)?, &mut rows);
    let there: BTreeSet<String> = rows.iter().map(|row| row.key.clone()).collect();
    let unset = settings::keys().into_iter().map(|key| key.path);
    // Keys of lists' entries, and of what operators name themselves, are there or they are not.
    let unset = unset.filter(|key| !key.contains("[]") && !there.contains(key));
    rows.extend(unset.map(|key| Row { key, value: Value::Null }));
    Ok(rows)
}

/// Key paths and values, one a scalar or list.
fn flatten(path: &str, value: Value, rows: &mut Vec<Row>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.into_iter().for_each(|(key, value)| flatten(&join(&key), value, rows)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.into_iter().enumerate().for_each(|(i, item)| flatten(&format!("{path}[{i}]"), item, rows));
        }
        Value::Null => {}
        value => rows.push(Row { key: path.to_owned(), value }),
    }
}

fn print(rows: &[Row], places: &Places, output: &Output) {
    let row = |row: &Row| {
        let value = if row.value.is_null() { "–".to_owned() } else { row.value.to_string() };
        let over: Vec<_> = places.over(&row.key).iter().map(Origin::to_string).collect();
        vec![row.key.clone(), value, places.origin(&row.key).to_string(), over.join(", ")]
    };
    output.table(&["key", "value", "origin", "over"], &rows.iter().map(row).collect::<Vec<_>>());
}

fn document(row: &Row, places: &Places) -> Value {
    let over: Vec<Value> = places.over(&row.key).iter().map(origin).collect();
    json!({"key": row.key, "value": row.value, "origin": origin(&places.origin(&row.key)), "over": over})
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::File { file, line, column } => {
            json!({"kind": "file", "file": file.to_string_lossy(), "line": line, "column": column})
        }
        Origin::Override(Source::Variable(name)) => json!({"kind": "environment", "name": name}),
        Origin::Override(Source::Argument(name)) => json!({"kind": "flag", "name": name}),
        Origin::Derived(from) => json!({"kind": "default", "from": from}),
        Origin::Default => json!({"kind": "default"}),
    }
}
