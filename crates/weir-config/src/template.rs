//! The commented default file.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use toml::Value;

use crate::{
    check::{choices, describe},
    schema::{Schema, json_schema},
};

/// Longest line of a comment, in characters.
const COMMENT_WIDTH: usize = 90;

/// The default of `T` as a TOML document: each key with its doc comment and default value,
/// keys without a value commented out. Parses back to the default, provided that an absent
/// key means the default (`#[serde(default)]`).
pub fn default_toml<T: Default + Serialize + JsonSchema>() -> String {
    let root = json_schema::<T>();
    // A default that TOML cannot hold is written as if it had no values: comments only.
    let values = Value::try_from(T::default()).ok();
    let mut out = String::new();
    comment(&mut out, "", Schema::root(&root).text("description"));
    write_table(&mut out, Schema::root(&root), values.as_ref(), "");
    out.trim().to_owned() + "\n"
}

fn write_table(out: &mut String, schema: Schema<'_>, values: Option<&Value>, path: &str) {
    let value_of = |key: &str| values.and_then(|v| v.get(key));
    let (tables, plain): (Vec<_>, Vec<_>) = schema.properties().partition(|(_, s)| is_table(*s));
    for (key, schema) in plain {
        out.push('\n');
        comment(out, "", schema.text("description"));
        comment(out, "", words(schema).as_deref());
        write_key(out, "", key, schema, value_of(key));
    }
    for (key, schema) in tables {
        out.push('\n');
        comment(out, "", schema.text("description"));
        let path = crate::document::join(path, key);
        match (table_items(schema), optional_table(schema)) {
            (Some(item), _) => write_list(out, &path, item, value_of(key)),
            (None, Some(table)) if value_of(key).is_none() => write_absent(out, &format!("[{path}]"), table),
            _ => {
                let _ = writeln!(out, "[{path}]");
                write_entries(out, schema, value_of(key));
                write_table(out, schema, value_of(key), &path);
            }
        }
    }
}

/// What may be written, where the comment does not say it.
fn words(schema: Schema<'_>) -> Option<String> {
    choices(schema, schema.text("description").unwrap_or_default())
}

/// Whether the key is written as a table, or several.
fn is_table(schema: Schema<'_>) -> bool {
    schema.get("properties").is_some()
        || schema.sub("additionalProperties").is_some()
        || table_items(schema).is_some()
        || optional_table(schema).is_some()
}

/// The entries of a table whose keys the operator chooses.
fn write_entries(out: &mut String, schema: Schema<'_>, values: Option<&Value>) {
    let free = schema.sub("additionalProperties").is_some();
    let entries = values.and_then(Value::as_table).filter(|_| free);
    for (key, value) in entries.into_iter().flatten() {
        let _ = writeln!(out, "{} = {value}", quoted(key));
    }
}

/// A list of tables: its default entries, or else the keys of one, commented out.
fn write_list(out: &mut String, path: &str, item: Schema<'_>, values: Option<&Value>) {
    let entries = values.and_then(Value::as_array).filter(|list| !list.is_empty());
    for entry in entries.into_iter().flatten() {
        let _ = writeln!(out, "[[{path}]]");
        for (key, value) in entry.as_table().into_iter().flatten() {
            let _ = writeln!(out, "{} = {value}", quoted(key));
        }
    }
    if entries.is_none() {
        write_absent(out, &format!("[[{path}]]"), item);
    }
}

/// The keys of a table that is not there by default, with the values that they have if it is.
fn write_absent(out: &mut String, head: &str, table: Schema<'_>) {
    let _ = writeln!(out, "# {head}");
    for (key, schema) in table.properties() {
        comment(out, "#   ", schema.text("description"));
        comment(out, "#   ", words(schema).as_deref());
        let default = schema.get("default").and_then(|default| Value::try_from(default).ok());
        write_key(out, "# ", key, schema, default.as_ref());
    }
}

fn write_key(out: &mut String, indent: &str, key: &str, schema: Schema<'_>, value: Option<&Value>) {
    let key = quoted(key);
    match value {
        Some(value) => {
            let _ = writeln!(out, "{indent}{key} = {value}");
        }
        None => {
            let hash = if indent.is_empty() { "# " } else { indent };
            let _ = writeln!(out, "{hash}{key} = …  # {}", describe(schema).join(" or "));
        }
    }
}

/// The schema of the entries, if it is a list of tables.
fn table_items(schema: Schema<'_>) -> Option<Schema<'_>> {
    schema.sub("items").filter(|item| item.get("properties").is_some())
}

/// The schema of a table that need not be there.
fn optional_table(schema: Schema<'_>) -> Option<Schema<'_>> {
    match schema.alternatives()[..] {
        [one] if one.get("properties").is_some() => Some(one),
        _ => None,
    }
}

fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        Value::String(key.into()).to_string()
    }
}

/// Writes `text` as comment lines; a single line break in a doc comment is only its width.
fn comment(out: &mut String, indent: &str, text: Option<&str>) {
    let hash = if indent.is_empty() { "# " } else { indent };
    for paragraph in text.into_iter().flat_map(|t| t.split("\n\n")) {
        let mut line = hash.to_owned();
        for word in paragraph.split_whitespace() {
            if line.len() > hash.len() && line.chars().count() + word.chars().count() > COMMENT_WIDTH {
                let _ = writeln!(out, "{}", line.trim_end());
                line = hash.to_owned();
            }
            line.push_str(word);
            line.push(' ');
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
