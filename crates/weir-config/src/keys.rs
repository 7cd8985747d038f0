//! Every key that there is, for tables in documents.

use schemars::JsonSchema;
use serde::Serialize;
use toml::Value;

use crate::{
    check::{choices, describe},
    document::join,
    schema::{Schema, json_schema},
};

/// Deepest table that is looked into; types may contain themselves.
const MAX_DEPTH: usize = 8;

/// What an operator may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its path: `server.listen`, and `route[].path` for what each entry of a list has.
    pub path: String,
    /// What it takes, in words.
    pub takes: String,
    /// Its default as TOML; `None` where it has none.
    pub default: Option<String>,
    /// What it means: the first paragraph of its doc comment, on one line, and the words that may be written.
    pub about: String,
}

/// Every key of `T` that is no table, in the order of the type.
pub fn keys<T: Default + Serialize + JsonSchema>() -> Vec<Key> {
    let root = json_schema::<T>();
    let defaults = Value::try_from(T::default()).ok();
    let mut found = Vec::new();
    collect(Schema::root(&root), defaults.as_ref(), "", 0, &mut found);
    found
}

fn collect(table: Schema<'_>, defaults: Option<&Value>, path: &str, depth: usize, found: &mut Vec<Key>) {
    if depth > MAX_DEPTH {
        return;
    }
    for (name, schema) in table.properties() {
        let path = join(path, name);
        let default = defaults.and_then(|defaults| defaults.get(name));
        let entries = schema.sub("items").filter(|item| item.get("properties").is_some());
        let tables: Vec<_> =
            schema.alternatives().into_iter().filter(|a| a.get("properties").is_some()).collect();
        match (entries, schema.get("properties").is_some(), &tables[..]) {
            (Some(entry), _, _) => collect(entry, None, &format!("{path}[]"), depth + 1, found),
            (None, true, _) => collect(schema, default, &path, depth + 1, found),
            (None, false, [table]) => collect(*table, default, &path, depth + 1, found),
            _ => found.push(key(path, schema, default)),
        }
    }
}

fn key(path: String, schema: Schema<'_>, default: Option<&Value>) -> Key {
    let own = || schema.get("default").and_then(|default| Value::try_from(default).ok());
    let about = schema.text("description").unwrap_or_default();
    let about = about.split("\n\n").next().unwrap_or_default();
    let words = choices(schema, about).unwrap_or_default();
    Key {
        path,
        takes: describe(schema).join(" or "),
        default: default.cloned().or_else(own).map(|value| value.to_string()),
        about: about.split_whitespace().chain(words.split_whitespace()).collect::<Vec<_>>().join(" "),
    }
}
