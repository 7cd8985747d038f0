//! A `model.toml` that says what a folder of another layout says.

use std::{fmt::Write, path::Path};

use serde_json::{Map, Value};
use weir_config::Problem;

use super::{Column, check, fields, head, one_line};
use crate::{
    CacheTable, Candidate, FieldTable, InputTable, Manifest, TextTable,
    digest::difference,
    formats::Foreign,
    load::{chosen, read_artifact},
};

/// Drafts for a model of another layout; fields come from `columns` where the layout has none.
pub(super) fn draft(
    candidate: &Candidate,
    foreign: &Foreign,
    columns: Option<&[Column]>,
    csv_sample: Option<&Path>,
) -> Result<String, Vec<Problem>> {
    let (bytes, graph) = read_artifact(&candidate.artifact)?;
    let (manifest, notes) = chosen(candidate, Manifest::default(), &graph)?;
    let manifest = Manifest { name: Some(candidate.name.to_string()), ..manifest };
    let mut out = String::new();
    head(&mut out, &candidate.artifact, &graph);
    notes.iter().for_each(|note| {
        let _ = writeln!(out, "# {}", one_line(note));
    });
    let refuse = |file: &Path, message: String| vec![Problem::new(file, message)];
    let table = toml::to_string(&table(&manifest)).map_err(|e| refuse(&foreign.file, e.to_string()))?;
    out.push_str(&table);
    if manifest.text.is_none() && manifest.input.field.is_empty() {
        fields(&mut out, &graph.signature.inputs, columns)
            .map_err(|message| refuse(csv_sample.unwrap_or(&candidate.artifact), message))?;
    }
    check(&out, candidate, &bytes, &graph)?;
    Ok(out)
}

/// What differs from the defaults.
fn table(manifest: &Manifest) -> Value {
    let Manifest { input, text, cache, .. } = manifest;
    let fields: Vec<Value> =
        input.field.iter().map(|f| Value::Object(difference(f, &FieldTable::new("")))).collect();
    let input = InputTable { field: Vec::new(), ..input.clone() };
    let plain = Manifest { input, text: None, cache: None, ..manifest.clone() };
    let mut whole = difference(&plain, &Manifest::default());
    let nothing = TextTable { tokenizer: String::new(), ..TextTable::default() };
    whole.extend(text.iter().map(|t| ("text".to_owned(), Value::Object(difference(t, &nothing)))));
    let kept =
        cache.iter().map(|c| ("cache".to_owned(), Value::Object(difference(c, &CacheTable::default()))));
    whole.extend(kept);
    if !fields.is_empty() {
        let input = whole.entry("input").or_insert_with(|| Map::new().into());
        if let Some(input) = input.as_object_mut() {
            input.insert("field".to_owned(), fields.into());
        }
    }
    Value::Object(whole)
}
