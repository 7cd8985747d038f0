//! From text to a checked value.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Override, Places, Problem,
    check::check,
    document::{self, Node},
    overrides,
    places::place,
    problem::tidy,
    schema::{Schema, json_schema},
};

/// Largest file read, in bytes: far above what a person writes, far below what hurts.
pub const MAX_BYTES: usize = 4 << 20;

/// A checked value and where each part of it came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The value.
    pub value: T,
    /// Where it came from, by key path.
    pub places: Places,
}

/// Reads the TOML document `text` as a `T`; `file` is what problems call it.
///
/// # Errors
/// All problems in the order of the file: a syntax error (then the only one), unknown
/// keys, wrong types, words and numbers that are not allowed, missing keys, and what
/// `T`'s own `Deserialize` refuses.
pub fn parse<T: DeserializeOwned + JsonSchema>(file: &Path, text: &str) -> Result<T, Vec<Problem>> {
    parse_with(file, text, &[]).map(|loaded| loaded.value)
}

/// The same with overrides laid over the document before it is checked; later ones win.
///
/// # Errors
/// As [`parse`]; a problem of an override names its source instead of the file.
pub fn parse_with<T>(file: &Path, text: &str, overrides: &[Override]) -> Result<Loaded<T>, Vec<Problem>>
where
    T: DeserializeOwned + JsonSchema,
{
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
        return Err(vec![Problem::new(file, message)]);
    }
    let root = json_schema::<T>();
    let schema = Schema::root(&root);
    let mut node = document::read(file, text).map_err(|problem| vec![problem])?;
    let mut found = overrides::merge(&mut node, schema, overrides);
    found.extend(check(&node, schema, ""));
    if !found.is_empty() {
        let problems = found.into_iter().map(|(origin, message)| place(file, &origin, message));
        return Err(tidy(file, problems.collect()));
    }
    deserialize(file, &node)
}

fn deserialize<T: DeserializeOwned>(file: &Path, node: &Node) -> Result<Loaded<T>, Vec<Problem>> {
    let places = node.places(file);
    match serde_path_to_error::deserialize(node.to_toml()) {
        Ok(value) => Ok(Loaded { value, places }),
        Err(error) => {
            let path = error.path().to_string();
            let text = error.inner().message().trim().lines().collect::<Vec<_>>().join(", ");
            let message = if path == "." { text } else { format!("`{path}`: {text}") };
            Err(vec![places.problem(&path, message)])
        }
    }
}
