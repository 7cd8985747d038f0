//! The walk of a document along its schema.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::{
    ByteSize, HumanDuration, Origin,
    document::{Entry, Node, Value, join},
    problem::{echo, nearest},
    schema::{Key, Schema},
};

/// What is wrong and where, before it becomes a problem of a file.
pub(crate) type Finding = (Origin, String);

/// All that is wrong with `node`, which stands at the key path `path`.
pub(crate) fn check(node: &Node, schema: Schema<'_>, path: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = schema.all_of().flat_map(|part| check(node, part, path)).collect();
    if let Some(words) = schema.words() {
        found.extend(check_word(node, &words, path));
        return found;
    }
    let alternatives = schema.alternatives();
    if !alternatives.is_empty() {
        found.extend(check_alternatives(node, &alternatives, path));
    }
    if !fits_type(&node.value, schema) {
        found.push(wrong_type(node, &[schema], path));
        return found;
    }
    found.extend(check_value(node, schema, path));
    found
}

fn check_value(node: &Node, schema: Schema<'_>, path: &str) -> Vec<Finding> {
    match &node.value {
        Value::Integer(i) => check_number(node, *i as f64, schema, path),
        Value::Float(f) => check_number(node, *f, schema, path),
        Value::String(s) => check_string(node, s, schema, path),
        Value::Array(items) => check_array(node, items, schema, path),
        Value::Table(entries) => check_table(node, entries, schema, path),
        // One that is too large is told of the whole document, also where a key may be anything.
        Value::Boolean(_) | Value::Datetime(_) | Value::Beyond(_) => Vec::new(),
    }
}

fn check_table(
    node: &Node,
    entries: &BTreeMap<String, Entry>,
    schema: Schema<'_>,
    path: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, entry) in entries {
        match schema.key(key) {
            Key::Known(schema) => found.extend(check(&entry.node, schema, &join(path, &echo(key)))),
            Key::Unknown => found.push((entry.key.clone(), unknown_key(key, schema))),
            Key::Free => {}
        }
    }
    for key in schema.required().filter(|k| !entries.contains_key(*k)) {
        let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
        found.push((node.origin.clone(), format!("missing key `{key}`{place}")));
    }
    found
}

fn unknown_key(key: &str, schema: Schema<'_>) -> String {
    let known: Vec<_> = schema.properties().map(|(name, _)| name).collect();
    let unknown = format!("unknown key `{}`", echo(key));
    match nearest(key, known.iter().copied()) {
        Some(meant) => format!("{unknown}, did you mean `{meant}`?"),
        None if known.is_empty() => format!("{unknown}, no keys are valid here"),
        None => format!("{unknown}, valid here: {}", list(&known)),
    }
}

fn check_array(node: &Node, items: &[Node], schema: Schema<'_>, path: &str) -> Vec<Finding> {
    let mut found = check_count(node, items.len(), schema, ["minItems", "maxItems"], "entries", path);
    let fixed = schema.get("prefixItems").and_then(Json::as_array);
    for (i, item) in items.iter().enumerate() {
        let own = fixed.and_then(|f| f.get(i)).map(|s| schema.at(s));
        if let Some(item_schema) = own.or_else(|| schema.sub("items")) {
            found.extend(check(item, item_schema, &format!("{path}[{i}]")));
        }
    }
    found
}

fn check_string(node: &Node, text: &str, schema: Schema<'_>, path: &str) -> Vec<Finding> {
    let parsed = match schema.text("format") {
        Some(HumanDuration::FORMAT) => text.parse::<HumanDuration>().err(),
        Some(ByteSize::FORMAT) => text.parse::<ByteSize>().err(),
        _ => None,
    };
    let mut found =
        check_count(node, text.chars().count(), schema, ["minLength", "maxLength"], "characters", path);
    found.extend(parsed.map(|e| (node.origin.clone(), format!("`{path}`: {e}"))));
    found
}

fn check_count(
    node: &Node,
    n: usize,
    schema: Schema<'_>,
    keys: [&str; 2],
    of: &str,
    path: &str,
) -> Vec<Finding> {
    let bound = |key: &str| schema.get(key).and_then(Json::as_u64);
    let low = bound(keys[0]).filter(|&min| (n as u64) < min).map(|min| format!("at least {min}"));
    let high = bound(keys[1]).filter(|&max| n as u64 > max).map(|max| format!("at most {max}"));
    let say = |bound| (node.origin.clone(), format!("`{path}` takes {bound} {of}, got {n}"));
    low.or(high).map(say).into_iter().collect()
}

fn check_number(node: &Node, n: f64, schema: Schema<'_>, path: &str) -> Vec<Finding> {
    type Holds = fn(f64, f64) -> bool;
    let rules: [(&str, &str, Holds); 4] = [
        ("minimum", "at least", |n, b| n >= b),
        ("exclusiveMinimum", "greater than", |n, b| n > b),
        ("maximum", "at most", |n, b| n <= b),
        ("exclusiveMaximum", "less than", |n, b| n < b),
    ];
    let broken = |(keyword, words, holds): (&str, &str, Holds)| {
        let bound = schema.number(keyword).filter(|&b| !holds(n, b))?;
        Some((node.origin.clone(), format!("`{path}` must be {words} {bound}, got {n}")))
    };
    rules.into_iter().find_map(broken).into_iter().collect() // NaN breaks all: once is enough
}

fn check_word(node: &Node, words: &[&str], path: &str) -> Option<Finding> {
    let allowed = list(words);
    let Value::String(word) = &node.value else {
        let message = format!("`{path}` takes one of {allowed}, got {}", node.value.kind());
        return Some((node.origin.clone(), message));
    };
    if words.contains(&word.as_str()) {
        return None;
    }
    let hint =
        nearest(word, words.iter().copied()).map(|w| format!(", did you mean `{w}`?")).unwrap_or_default();
    Some((node.origin.clone(), format!("`{path}` takes one of {allowed}, got `{}`{hint}", echo(word))))
}

/// Judges the value by the alternative that it was probably meant to be: the only one of
/// its kind, or else the one with the fewest problems.
fn check_alternatives(node: &Node, alternatives: &[Schema<'_>], path: &str) -> Vec<Finding> {
    let same_kind = alternatives.iter().filter(|a| fits_kind(&node.value, **a));
    let tagged: Vec<_> = same_kind.clone().filter(|a| fits_tags(&node.value, **a)).collect();
    if tagged.is_empty()
        && let Some(wrong) = wrong_tag(node, &same_kind.clone().copied().collect::<Vec<_>>(), path)
    {
        return vec![wrong];
    }
    let candidates = if tagged.is_empty() { same_kind.collect() } else { tagged };
    if candidates.is_empty() {
        return vec![wrong_type(node, alternatives, path)];
    }
    candidates.iter().map(|a| check(node, **a, path)).min_by_key(Vec::len).unwrap_or_default()
}

/// Whether the value could be meant as this schema at all.
fn fits_kind(value: &Value, schema: Schema<'_>) -> bool {
    let alternatives = schema.alternatives();
    let by_type = fits_type(value, schema) && (schema.words().is_none() || matches!(value, Value::String(_)));
    by_type && (alternatives.is_empty() || alternatives.iter().any(|a| fits_kind(value, *a)))
}

/// Whether the tags of an internally tagged enum (`kind = "file"`) are this variant's.
fn fits_tags(value: &Value, schema: Schema<'_>) -> bool {
    let Value::Table(entries) = value else { return true };
    schema.properties().filter_map(|(key, s)| Some((key, s.text("const")?))).all(|(key, tag)| {
        entries.get(key).is_some_and(|e| matches!(&e.node.value, Value::String(s) if s == tag))
    })
}

/// What is wrong with the tag, where all variants are told apart by the same one.
fn wrong_tag(node: &Node, variants: &[Schema<'_>], path: &str) -> Option<Finding> {
    let tag = |s: &Schema<'_>| {
        s.properties().find_map(|(key, s)| Some((key.to_owned(), s.text("const")?.to_owned())))
    };
    let tags: Vec<(String, String)> = variants.iter().map(tag).collect::<Option<_>>()?;
    let (key, _) = tags.first().filter(|first| tags.iter().all(|t| t.0 == first.0))?;
    let Value::Table(entries) = &node.value else { return None };
    let words: Vec<&str> = tags.iter().map(|(_, word)| word.as_str()).collect();
    let entry = entries.get(key);
    let missing =
        || Some((node.origin.clone(), format!("missing key `{key}` in `{path}`: one of {}", list(&words))));
    entry.map_or_else(missing, |e| check_word(&e.node, &words, &join(path, key)))
}

fn fits_type(value: &Value, schema: Schema<'_>) -> bool {
    let types = schema.types();
    let fits = |t: &&str| match value {
        Value::Boolean(_) => *t == "boolean",
        Value::Integer(_) | Value::Beyond(_) => matches!(*t, "integer" | "number"),
        Value::Float(_) => *t == "number",
        Value::String(_) => *t == "string",
        Value::Datetime(_) => false,
        Value::Array(_) => *t == "array",
        Value::Table(_) => *t == "object",
    };
    types.is_empty() || types.iter().any(fits)
}

fn wrong_type(node: &Node, schemas: &[Schema<'_>], path: &str) -> Finding {
    let mut takes: Vec<String> = schemas.iter().flat_map(|s| describe(*s)).collect();
    takes.dedup();
    let takes = if takes.is_empty() { "another value".to_owned() } else { takes.join(" or ") };
    (node.origin.clone(), format!("`{path}` takes {takes}, got {}", node.value.kind()))
}

/// What may be written, where a schema takes one of a few words and `about` does not name them all.
pub(crate) fn choices(schema: Schema<'_>, about: &str) -> Option<String> {
    let alternatives = schema.alternatives();
    let mut all = std::iter::once(&schema).chain(&alternatives).filter_map(|schema| schema.words());
    let words = all.find(|words| words.len() > 1)?;
    let told = words.iter().all(|word| about.contains(&format!("`{word}`")));
    (!told).then(|| format!("One of {}.", list(&words)))
}

/// What a schema takes, in words; several for a choice.
pub(crate) fn describe(schema: Schema<'_>) -> Vec<String> {
    if let Some(words) = schema.words() {
        return vec![format!("one of {}", list(&words))];
    }
    match schema.text("format") {
        Some(HumanDuration::FORMAT) => return vec!["a duration such as \"10s\"".into()],
        Some(ByteSize::FORMAT) => return vec!["a size such as \"16MiB\"".into()],
        _ => {}
    }
    let alternatives = schema.alternatives();
    if !alternatives.is_empty() {
        let mut all: Vec<String> = Vec::new();
        for one in alternatives.into_iter().flat_map(describe) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        return all;
    }
    schema.types().into_iter().map(|t| kind(t, schema)).collect()
}

fn kind(json_type: &str, schema: Schema<'_>) -> String {
    match json_type {
        "boolean" => "true or false".into(),
        "integer" => "an integer".into(),
        "number" => "a number".into(),
        "string" => "a string".into(),
        "object" => "a table".into(),
        "array" => match schema.sub("items").map(describe).as_deref() {
            Some([one]) => format!("a list of {}", plural(one)),
            _ => "a list".into(),
        },
        other => other.into(),
    }
}

fn plural(one: &str) -> String {
    match one {
        "an integer" => "integers".into(),
        "a number" => "numbers".into(),
        "a string" => "strings".into(),
        "a table" => "tables".into(),
        "true or false" => "booleans".into(),
        other => format!("({other})"),
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}
