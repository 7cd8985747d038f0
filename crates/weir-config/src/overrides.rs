//! Values that are laid over a file: environment variables, command-line flags.

use std::collections::BTreeMap;

use crate::{
    Origin, Source,
    check::Finding,
    document::{self, Entry, Node, Value},
    keys::Key as Described,
    problem::{echo, nearest},
    schema::{Key, Schema},
};

/// One value laid over a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    source: Source,
    path: Vec<String>,
    value: String,
}

impl Override {
    /// Sets the key `path` (`server.listen`) to `value`; `source` is what problems call it.
    pub fn new(source: Source, path: &str, value: impl Into<String>) -> Self {
        Self { source, path: path.split('.').map(str::to_owned).collect(), value: value.into() }
    }
}

/// The overrides among environment variables: `WEIR_SERVER__LISTEN` sets `server.listen`
/// when `prefix` is `WEIR_`. A name without a double underscore is no override, so that
/// variables for other purposes (`WEIR_ONNXRUNTIME`) can share the prefix. Sorted by name,
/// so that the order of the environment does not matter.
pub fn environment(prefix: &str, variables: impl IntoIterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<Override> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(prefix).filter(|rest| rest.contains("__"))?.to_lowercase();
            let path = path.split("__").map(str::to_owned).collect();
            Some(Override { source: Source::Variable(name), path, value })
        })
        .collect();
    found.sort_by(|a, b| a.source.cmp(&b.source));
    found
}

/// Variables that nobody reads and that were probably meant for one of `keys`, each with the name that is read:
/// `WEIR_SERVER_LISTEN`, where one underscore stands for two. The beginning of a key counts too
/// (`WEIR_REDIS_PASSWORD`, for `password_file`); what else begins with a table's name, as the variables do in
/// which Kubernetes names services (`WEIR_SERVER_PORT`), is left alone.
pub fn misspelt<'a>(
    prefix: &str,
    names: impl IntoIterator<Item = &'a str>,
    keys: &[Described],
) -> Vec<(&'a str, String)> {
    let meant = |name: &'a str| {
        let rest = name.strip_prefix(prefix).filter(|rest| !rest.contains("__"))?.to_ascii_lowercase();
        let of_table = |path: &str| {
            let (table, key) = path.split_once('.')?;
            let said = rest.strip_prefix(table)?.strip_prefix('_')?;
            let key = key.replace('.', "_");
            let begins = key.strip_prefix(said)?;
            (!said.is_empty() && (begins.is_empty() || begins.starts_with('_'))).then_some(())
        };
        let key = keys.iter().find(|key| !key.path.contains('[') && of_table(&key.path).is_some())?;
        Some((name, format!("{prefix}{}", key.path.to_ascii_uppercase().replace('.', "__"))))
    };
    let mut found: Vec<_> = names.into_iter().filter_map(meant).collect();
    found.sort_unstable();
    found
}

/// Lays `overrides` over the document and returns what cannot be laid.
pub(crate) fn merge(root: &mut Node, schema: Schema<'_>, overrides: &[Override]) -> Vec<Finding> {
    overrides.iter().filter_map(|one| set(root, schema, one).err()).collect()
}

fn set(root: &mut Node, schema: Schema<'_>, one: &Override) -> Result<(), Finding> {
    let origin = Origin::Override(one.source.clone());
    let target = resolve(schema, &one.path).map_err(|message| (origin.clone(), message))?;
    let value = read_value(&one.value, target, &origin);
    let Some((last, tables)) = one.path.split_last() else { return Ok(()) };
    let mut here = root;
    for key in tables {
        let below = entries(here, &origin)?.entry(key.clone());
        here = &mut below
            .or_insert_with(|| Entry {
                key: origin.clone(),
                node: Node { origin: origin.clone(), ..Node::empty() },
            })
            .node;
    }
    let node = Node::new(value, origin.clone());
    let entries = entries(here, &origin)?;
    match entries.get_mut(last) {
        Some(entry) => {
            entry.key = origin;
            entry.node.replace(node);
        }
        None => {
            entries.insert(last.clone(), Entry { key: origin, node });
        }
    }
    Ok(())
}

fn entries<'a>(node: &'a mut Node, origin: &Origin) -> Result<&'a mut BTreeMap<String, Entry>, Finding> {
    match &mut node.value {
        Value::Table(entries) => Ok(entries),
        other => Err((origin.clone(), format!("cannot set a key inside {}", other.kind()))),
    }
}

/// The schema of the key, or what is wrong with the path.
fn resolve<'a>(schema: Schema<'a>, path: &[String]) -> Result<Schema<'a>, String> {
    let mut here = schema;
    let whole = echo(&path.join("."));
    for key in path {
        here = match table_of(here).key(key) {
            Key::Known(schema) => schema,
            Key::Free => return Err(format!("`{whole}` is no key that can be set this way")),
            Key::Unknown => {
                let meant = nearest(key, table_of(here).properties().map(|(name, _)| name));
                let hint = meant.map(|m| format!(", did you mean `{m}`?")).unwrap_or_default();
                return Err(format!("unknown key `{whole}`{hint}"));
            }
        };
    }
    Ok(here)
}

/// The table among the alternatives of an optional table.
fn table_of(schema: Schema<'_>) -> Schema<'_> {
    let tables = schema.alternatives().into_iter().find(|a| a.types().contains(&"object"));
    if schema.get("properties").is_some() { schema } else { tables.unwrap_or(schema) }
}

/// Reads the text as what the key takes: strings as they are, so that nobody has to quote
/// quotes for a shell; lists of strings also as `a,b,c`; everything else as TOML.
fn read_value(text: &str, target: Schema<'_>, origin: &Origin) -> Value {
    let types: Vec<_> =
        std::iter::once(target).chain(target.alternatives()).flat_map(Schema::types).collect();
    let string = || Value::String(text.to_owned());
    if target.words().is_some() || types == ["string"] {
        return string();
    }
    if types.contains(&"array") && !text.trim_start().starts_with('[') {
        let item = |s: &str| Node::new(Value::String(s.trim().to_owned()), origin.clone());
        return Value::Array(text.split(',').filter(|s| !s.trim().is_empty()).map(item).collect());
    }
    read_toml(text, origin).unwrap_or_else(string)
}

fn read_toml(text: &str, origin: &Origin) -> Option<Value> {
    if text.contains(['\n', '\r']) {
        return None; // one value, not the start of another key
    }
    let node = document::read("".as_ref(), &format!("value = {text}")).ok()?;
    let Value::Table(mut entries) = node.value else { return None };
    let mut node = entries.remove("value")?.node;
    replace_origins(&mut node, origin);
    entries.is_empty().then_some(node.value)
}

fn replace_origins(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::Array(items) => items.iter_mut().for_each(|n| replace_origins(n, origin)),
        Value::Table(entries) => entries.values_mut().for_each(|e| {
            e.key = origin.clone();
            replace_origins(&mut e.node, origin);
        }),
        _ => {}
    }
}
