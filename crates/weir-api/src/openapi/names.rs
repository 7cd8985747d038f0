//! Ids, titles and component names, as FastAPI and Pydantic form them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The document's components: written once, referred to by name, listed in order of name.
#[derive(Default)]
pub(super) struct Components {
    schemas: BTreeMap<String, Value>,
    responses: BTreeMap<String, Value>,
    headers: BTreeMap<String, Value>,
}

impl Components {
    /// Adds `schema` under the first of `names` that is free or holds the same, and returns
    /// a reference to it. Two versions of one model may have different rows, and two routes
    /// may lay out answers differently; what is the same is written once.
    pub(super) fn schema(&mut self, names: &[String], schema: Value) -> Value {
        let free = |name: &&String| self.schemas.get(*name).is_none_or(|known| same(known, &schema));
        let name = match names.iter().find(free) {
            Some(name) => name.clone(),
            None => self.numbered(names.last().map_or("Schema", String::as_str), &schema),
        };
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        self.schemas.entry(name.clone()).or_insert_with(|| titled(schema, &name));
        reference
    }

    /// `name2`, `name3`, …: ends, because there are finitely many schemas.
    fn numbered(&self, name: &str, schema: &Value) -> String {
        (2..)
            .map(|n| format!("{name}{n}"))
            .find(|candidate| self.schemas.get(candidate).is_none_or(|known| same(known, schema)))
            .unwrap_or_default()
    }

    /// Adds the response called `name`, unless it is there, and returns a reference to it.
    pub(super) fn response(&mut self, name: &str, response: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.responses.contains_key(name) {
            let response = response(self);
            self.responses.insert(name.to_owned(), response);
        }
        json!({"$ref": format!("#/components/responses/{name}")})
    }

    /// Adds the header called `name` and returns a reference to it.
    pub(super) fn header(&mut self, name: &str, header: Value) -> Value {
        self.headers.insert(name.to_owned(), header);
        json!({"$ref": format!("#/components/headers/{name}")})
    }

    /// The `components` object, without the sections that are empty.
    pub(super) fn finish(self) -> Value {
        let sections = [("schemas", self.schemas), ("responses", self.responses), ("headers", self.headers)];
        sections
            .into_iter()
            .filter(|(_, s)| !s.is_empty())
            .map(|(name, s)| (name.to_owned(), json!(s)))
            .collect()
    }
}

/// Whether `known` is `schema` but for the title that [`titled`] gave it.
fn same(known: &Value, schema: &Value) -> bool {
    match (known.as_object(), schema.as_object()) {
        (Some(known), Some(schema)) => {
            let rest = |key: &&String| key.as_str() != "title" || schema.contains_key("title");
            known.keys().filter(rest).count() == schema.len()
                && schema.iter().all(|(k, v)| known.get(k) == Some(v))
        }
        _ => known == schema,
    }
}

/// Pydantic titles a model with its own name, last but for examples.
fn titled(mut schema: Value, name: &str) -> Value {
    if let Some(object) = schema.as_object_mut().filter(|o| !o.contains_key("title")) {
        let examples = object.shift_remove("examples");
        object.insert("title".into(), name.into());
        if let Some(examples) = examples {
            object.insert("examples".into(), examples);
        }
    }
    schema
}

/// The title of a field: Python's `name.title()` with spaces for underscores, so `MedInc`
/// becomes `Medinc`.
pub(super) fn title(name: &str) -> String {
    let mut title = String::with_capacity(name.len());
    let mut inside_word = false;
    for c in name.chars() {
        match (c.is_alphabetic(), inside_word) {
            (true, true) => title.extend(c.to_lowercase()),
            (true, false) => title.extend(c.to_uppercase()),
            (false, _) => title.push(if c == '_' { ' ' } else { c }),
        }
        inside_word = c.is_alphabetic();
    }
    title.trim().to_owned()
}

/// A name for generated code: `bulk-predict` and `bulk_predict` become `BulkPredict`.
pub(super) fn type_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

/// The id of the operation at `path`: `lab_bulk_predict_post`.
pub(super) fn operation_id(path: &str, method: &str) -> String {
    let mut id: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    id = id.trim_matches('_').to_owned();
    if id.is_empty() {
        id.push_str("root");
    }
    format!("{id}_{method}")
}

/// The summary of an operation that has none: its last fixed segment as words.
pub(super) fn summary(path: &str) -> String {
    let segment = path.rsplit('/').find(|s| !s.is_empty() && !s.contains('{')).unwrap_or("root");
    let words = title(&segment.replace(['-', '.', ':', '_'], " "));
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_pythons() {
        for (name, expected) in [
            ("MedInc", "Medinc"),
            ("al_ias", "Al Ias"),
            ("x1y", "X1Y"),
            ("they're", "They'Re"),
            ("élan_VITAL", "Élan Vital"),
            ("_private", "Private"),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn ids_and_summaries_come_from_the_path() {
        assert_eq!(operation_id("/lab/bulk-predict", "post"), "lab_bulk_predict_post");
        assert_eq!(operation_id("/v1/models/{model}:predict", "post"), "v1_models__model__predict_post");
        assert_eq!(operation_id("/", "get"), "root_get");
        assert_eq!(summary("/lab/bulk-predict"), "Bulk Predict");
        assert_eq!(summary("/hello/{name}"), "Hello");
        assert_eq!(summary("/"), "Root");
    }

    #[test]
    fn a_component_is_written_once_and_another_of_its_name_beside_it() {
        let mut components = Components::default();
        let names = ["Row".to_owned(), "RowV2".to_owned()];
        let mut add = |schema: Value| {
            let reference = components.schema(&names, schema);
            reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
        };
        assert_eq!(add(json!({"type": "object"})), "Row");
        assert_eq!(add(json!({"type": "object"})), "Row");
        assert_eq!(add(json!({"type": "string"})), "RowV2");
        assert_eq!(add(json!({"type": "number"})), "RowV22");
        assert_eq!(add(json!({"type": "number"})), "RowV22");
        assert_eq!(components.finish()["schemas"]["RowV2"], json!({"type": "string", "title": "RowV2"}));
    }
}
