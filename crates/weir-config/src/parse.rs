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
    parse_layers(&[Layer { file, text }], overrides)
}

/// One file of several.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// What problems call it.
    pub file: &'a Path,
    /// What it says.
    pub text: &'a str,
}

/// Lays files over each other, each over those before it: tables key by key, any other value in the place
/// of the one below. A list is replaced whole, of tables (`[[route]]`) too. Then come the overrides.
///
/// # Errors
/// As [`parse`], of all files at once; each problem names its own.
pub fn parse_layers<T>(layers: &[Layer<'_>], overrides: &[Override]) -> Result<Loaded<T>, Vec<Problem>>
where
    T: DeserializeOwned + JsonSchema,
{
    let first = layers.first().map_or(Path::new(""), |layer| layer.file);
    let root = json_schema::<T>();
    let schema = Schema::root(&root);
    let mut node = read_layers(layers).map_err(|problems| tidy(first, problems))?;
    let mut found = overrides::merge(&mut node, schema, overrides);
    found.extend(check(&node, schema, ""));
    found.extend(node.beyond(""));
    if !found.is_empty() {
        let problems = found.into_iter().map(|(origin, message)| place(first, &origin, message));
        return Err(tidy(first, problems.collect()));
    }
    deserialize(first, &node)
}

/// All files as one tree, or what is wrong with those that are no TOML.
fn read_layers(layers: &[Layer<'_>]) -> Result<Node, Vec<Problem>> {
    let (mut whole, mut problems) = (Node::empty(), Vec::new());
    for layer in layers {
        match read_layer(layer) {
            Ok(node) => whole.lay(node),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(whole) } else { Err(problems) }
}

fn read_layer(layer: &Layer<'_>) -> Result<Node, Problem> {
    let Layer { file, text } = *layer;
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
        return Err(Problem::new(file, message));
    }
    document::read(file, text)
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
