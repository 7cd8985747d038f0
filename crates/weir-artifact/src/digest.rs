//! The identity of a model: what its answers depend on.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    BatchingTable, FieldTable, InputTable, KeyTable, LimitsTable, Manifest, RemoteTable, SequenceTable,
    TextSpec, TextTable,
};

/// SHA-256, lower-case hex, over the artefact, tokenizer, head, and of `model.toml` what
/// goes into an answer. Names of files and models, prose, examples, samples and the row
/// limit do not: changing them changes no answer. Each part is preceded by its length, so
/// that bytes cannot move from one into the next.
pub(crate) fn digest(manifest: &Manifest, artifact: &[u8], text: Option<&TextSpec>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"weir model 1");
    part(artifact);
    part(canonical(manifest).to_string().as_bytes());
    part(text.map_or(&[], |t| &t.tokenizer));
    part(text.and_then(|t| t.head.as_deref()).unwrap_or(&[]));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same for a graph: of the digests of its models, in the order in which it asks them.
pub(crate) fn of_graph(manifest: &Manifest, members: &[&str]) -> String {
    digest(manifest, members.join(" ").as_bytes(), None)
}

/// What differs from the defaults, keys sorted: so that a key which a later release adds
/// does not change the digest of a model that does not use it.
fn canonical(manifest: &Manifest) -> Value {
    let Manifest { input, text, limits, .. } = manifest;
    let plain_key = |key: &KeyTable| KeyTable { description: None, example: None, ..key.clone() };
    let keys = input.key.iter().map(plain_key).collect();
    let plain = Manifest {
        name: None,
        artifact: None,
        description: None,
        samples: None,
        input: InputTable { field: Vec::new(), key: keys, ..input.clone() },
        // Where and when a row runs is no part of its answer.
        batching: BatchingTable::default(),
        cache: None,
        limits: LimitsTable { max_rows: LimitsTable::default().max_rows, ..limits.clone() },
        text: None,
        remote: None,
        sequence: None,
        ..manifest.clone()
    };
    let mut whole = difference(&plain, &Manifest::default());
    let fields: Vec<Value> = input.field.iter().map(field).collect();
    whole.insert("fields".to_owned(), fields.into());
    whole.extend(text.as_ref().map(|t| ("text".to_owned(), text_table(t))));
    // All of it: a new timeout is a new executor, which a reload must notice.
    let remote = manifest.remote.as_ref().map(|r| difference(r, &RemoteTable::new("")));
    whole.extend(remote.map(|remote| ("remote".to_owned(), Value::Object(remote))));
    let sequence = manifest.sequence.as_ref().map(sequence);
    whole.extend(sequence.map(|sequence| ("sequence".to_owned(), sequence)));
    sorted(Value::Object(whole))
}

/// How long and where states are kept is no part of an answer.
fn sequence(table: &SequenceTable) -> Value {
    let SequenceTable { state, control, constant, .. } = table.clone();
    let plain = SequenceTable { state, control, constant, ..SequenceTable::default() };
    Value::Object(difference(&plain, &SequenceTable::default()))
}

fn field(field: &FieldTable) -> Value {
    let plain = FieldTable { description: None, example: None, ..field.clone() };
    Value::Object(difference(&plain, &FieldTable::new("")))
}

fn text_table(table: &TextTable) -> Value {
    // The files' contents are parts of their own.
    let default = TextTable { tokenizer: String::new(), ..TextTable::default() };
    let plain = TextTable { tokenizer: String::new(), head: None, ..table.clone() };
    Value::Object(difference(&plain, &default))
}

/// The entries of `value` that are not those of `default`, tables within included.
pub(crate) fn difference<T: Serialize>(value: &T, default: &T) -> Map<String, Value> {
    let object = |v: &T| match serde_json::to_value(v) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    differing(object(value), &object(default))
}

fn differing(value: Map<String, Value>, default: &Map<String, Value>) -> Map<String, Value> {
    let keep = |(key, value): (String, Value)| match (value, default.get(&key)) {
        (value, Some(default)) if value == *default => None,
        (Value::Object(map), Some(Value::Object(default))) => {
            Some((key, Value::Object(differing(map, default))))
        }
        (value, _) => Some((key, value)),
    };
    value.into_iter().filter_map(keep).collect()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = Manifest::default();
        manifest.input.field = vec![FieldTable::new("a")];
        change(&mut manifest);
        manifest
    }

    #[test]
    fn prose_does_not_count_and_rules_do() {
        let of = |manifest: &Manifest| digest(manifest, b"x", None);
        let base = of(&with(|_| ()));
        for same in [
            with(|m| m.name = Some("n".into())),
            with(|m| m.limits.max_rows = 7),
            with(|m| m.input.field[0].description = Some("d".into())),
        ] {
            assert_eq!(of(&same), base);
        }
        let different = [
            with(|m| m.labels = Some(vec!["a".into()])),
            with(|m| m.deterministic = false),
            with(|m| m.limits.max_tokens = 7),
            with(|m| m.input.field[0].nullable = true),
            with(|m| m.input.field[0].le = Some(0.0)),
            with(|m| m.input.field.clear()),
        ];
        let mut seen: Vec<String> = different.iter().map(of).chain([base]).collect();
        seen.push(digest(&with(|_| ()), b"y", None));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), different.len() + 2);
    }

    #[test]
    fn only_what_is_written_counts() {
        assert_eq!(
            canonical(&with(|m| m.stateful = true)).to_string(),
            r#"{"fields":[{"name":"a"}],"stateful":true}"#
        );
    }
}
