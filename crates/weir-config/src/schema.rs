//! Reading the JSON Schema that `schemars` writes.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The JSON Schema (draft 2020-12) of `T`.
pub fn json_schema<T: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// A schema and the root it refers into.
#[derive(Clone, Copy)]
pub(crate) struct Schema<'a> {
    root: &'a Value,
    node: &'a Value,
}

impl<'a> Schema<'a> {
    pub(crate) fn root(root: &'a Value) -> Self {
        Self { root, node: root }
    }

    pub(crate) fn at(self, node: &'a Value) -> Self {
        Self { node, ..self }
    }

    /// The keyword's value, here or behind `$ref` (the schema's own comes first).
    pub(crate) fn get(self, keyword: &str) -> Option<&'a Value> {
        let mut node = self.node;
        for _ in 0..16 {
            if let Some(value) = node.get(keyword) {
                return Some(value);
            }
            let target = node.get("$ref")?.as_str()?.strip_prefix('#')?;
            node = self.root.pointer(target)?;
        }
        None
    }

    /// The schema under the keyword.
    pub(crate) fn sub(self, keyword: &str) -> Option<Schema<'a>> {
        self.get(keyword).filter(|v| v.is_object()).map(|v| self.at(v))
    }

    /// The number under the keyword.
    pub(crate) fn number(self, keyword: &str) -> Option<f64> {
        self.get(keyword)?.as_f64()
    }

    /// The text under the keyword.
    pub(crate) fn text(self, keyword: &str) -> Option<&'a str> {
        self.get(keyword)?.as_str()
    }

    /// Names and schemas of a table's keys.
    pub(crate) fn properties(self) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        let map: Option<&Map<_, _>> = self.get("properties").and_then(Value::as_object);
        map.into_iter().flatten().map(move |(k, v)| (k.as_str(), self.at(v)))
    }

    /// The schema of one key of a table; [`Unknown`](Key::Unknown) if there is no such key.
    pub(crate) fn key(self, name: &str) -> Key<'a> {
        if let Some(node) = self.get("properties").and_then(|p| p.get(name)) {
            return Key::Known(self.at(node));
        }
        match self.get("additionalProperties") {
            Some(Value::Bool(false)) => Key::Unknown,
            Some(node) if node.is_object() => Key::Known(self.at(node)),
            _ => Key::Free,
        }
    }

    /// Names of required keys.
    pub(crate) fn required(self) -> impl Iterator<Item = &'a str> {
        self.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The alternatives of `anyOf` or `oneOf` but `null`, which TOML does not have. Empty if
    /// the schema has none.
    pub(crate) fn alternatives(self) -> Vec<Schema<'a>> {
        let list = self.get("anyOf").or_else(|| self.get("oneOf")).and_then(Value::as_array);
        let some = |v: &&Value| v.get("type").and_then(Value::as_str) != Some("null");
        list.into_iter().flatten().filter(some).map(|v| self.at(v)).collect()
    }

    /// All parts that must hold together.
    pub(crate) fn all_of(self) -> impl Iterator<Item = Schema<'a>> {
        self.get("allOf").and_then(Value::as_array).into_iter().flatten().map(move |v| self.at(v))
    }

    /// JSON types allowed, without `null`; empty for "any".
    pub(crate) fn types(self) -> Vec<&'a str> {
        match self.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => {
                many.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect()
            }
            _ if self.get("properties").is_some() => vec!["object"],
            _ => Vec::new(),
        }
    }

    /// The only words allowed, if it is an enumeration of words.
    pub(crate) fn words(self) -> Option<Vec<&'a str>> {
        if let Some(word) = self.text("const") {
            return Some(vec![word]);
        }
        if let Some(words) = self.get("enum").and_then(Value::as_array) {
            let words = words.iter().filter(|w| !w.is_null());
            return words.map(Value::as_str).collect();
        }
        let alternatives = self.alternatives();
        let words: Option<Vec<Vec<_>>> = alternatives.iter().map(|a| a.words()).collect();
        words.filter(|w| !w.is_empty()).map(|w| w.concat())
    }
}

/// What a table says about a key.
pub(crate) enum Key<'a> {
    Known(Schema<'a>),
    Free,
    Unknown,
}
