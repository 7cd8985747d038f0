//! A TOML document as a tree that knows where each key and value came from.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Origin, Problem,
    places::{Places, place},
    problem::echo,
};

/// Deepest nesting. The TOML parser has bounds of its own, but they multiply (dotted keys
/// within inline tables), and everything below recurses.
const MAX_DEPTH: usize = 32;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// Where the values came from that this one was laid over, the nearest first.
    pub(crate) over: Vec<Origin>,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    /// An integer that 64 bits do not hold, as it was written.
    Beyond(String),
    Float(f64),
    String(String),
    Datetime(toml::value::Datetime),
    Array(Vec<Node>),
    Table(BTreeMap<String, Entry>),
}

/// A key of a table: where the key itself stands, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Origin,
    pub(crate) node: Node,
}

impl Value {
    /// How a message calls a value of this kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) | Value::Beyond(_) => "an integer",
            Value::Float(_) => "a float",
            Value::String(_) => "a string",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The root of an empty document.
    pub(crate) fn empty() -> Self {
        Node::new(Value::Table(BTreeMap::new()), Origin::Default)
    }

    /// A value that was laid over nothing.
    pub(crate) fn new(value: Value, origin: Origin) -> Self {
        Node { value, origin, over: Vec::new() }
    }

    /// Lays `upper` over this: tables key by key, everything else in its place. Lists are replaced
    /// whole, of tables too, as a merge patch does it (RFC 7396): whoever reads the upper file sees
    /// the list that counts. Recursion ends with the depth that the reader allowed.
    pub(crate) fn lay(&mut self, upper: Node) {
        let Node { value, origin, over } = upper;
        let (below, above) = match (&mut self.value, value) {
            (Value::Table(below), Value::Table(above)) => (below, above),
            (_, value) => return self.replace(Node { value, origin, over }),
        };
        for (key, entry) in above {
            match below.get_mut(&key) {
                Some(known) => known.node.lay(entry.node),
                None => {
                    below.insert(key, entry);
                }
            }
        }
    }

    /// Puts `upper` in the place of this, and remembers what was there.
    pub(crate) fn replace(&mut self, upper: Node) {
        let below = std::mem::replace(self, upper);
        if below.origin != Origin::Default {
            self.over.push(below.origin);
        }
        self.over.extend(below.over);
    }

    /// The same without places, for serde.
    pub(crate) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Boolean(b) => toml::Value::Boolean(*b),
            Value::Integer(i) => toml::Value::Integer(*i),
            // Never asked for: a document that has one is refused.
            Value::Beyond(text) => toml::Value::String(text.clone()),
            Value::Float(f) => toml::Value::Float(*f),
            Value::String(s) => toml::Value::String(s.clone()),
            Value::Datetime(d) => toml::Value::Datetime(*d),
            Value::Array(nodes) => toml::Value::Array(nodes.iter().map(Node::to_toml).collect()),
            Value::Table(entries) => {
                toml::Value::Table(entries.iter().map(|(k, e)| (k.clone(), e.node.to_toml())).collect())
            }
        }
    }

    /// Every integer in it that 64 bits do not hold; this node stands at the key path `path`.
    pub(crate) fn beyond(&self, path: &str) -> Vec<(Origin, String)> {
        match &self.value {
            Value::Beyond(text) => {
                let (text, most) = (echo(text), i64::MAX);
                vec![(self.origin.clone(), format!("`{path}` is {text}; an integer is at most {most}"))]
            }
            Value::Array(nodes) => {
                nodes.iter().enumerate().flat_map(|(i, node)| node.beyond(&format!("{path}[{i}]"))).collect()
            }
            Value::Table(entries) => {
                entries.iter().flat_map(|(key, entry)| entry.node.beyond(&join(path, &echo(key)))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Origin by key path, of this node and everything below it.
    pub(crate) fn places(&self, file: &Path) -> Places {
        let mut places = Places::new(file, BTreeMap::new());
        self.collect("", &mut places);
        places
    }

    fn collect(&self, path: &str, into: &mut Places) {
        if !path.is_empty() {
            into.add(path, self.origin.clone(), self.over.clone());
        }
        match &self.value {
            Value::Array(nodes) => {
                nodes.iter().enumerate().for_each(|(i, n)| n.collect(&format!("{path}[{i}]"), into));
            }
            Value::Table(entries) => entries.iter().for_each(|(k, e)| e.node.collect(&join(path, k), into)),
            _ => {}
        }
    }
}

/// The key path of `key` in the table at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Reads TOML into a tree. A syntax error is the only problem then: what follows one is
/// mostly noise.
pub(crate) fn read(file: &Path, text: &str) -> Result<Node, Problem> {
    let lines = Lines::new(file, text);
    let document = DeTable::parse(text).map_err(|e| {
        let origin = e.span().map_or(Origin::Default, |s| lines.origin(s.start));
        let message = e.message().lines().collect::<Vec<_>>().join(", ");
        place(file, &origin, message)
    })?;
    let mut reader = Reader { file, lines };
    Ok(Node::new(reader.table(document.get_ref(), 0)?, Origin::Default))
}

struct Reader<'a> {
    file: &'a Path,
    lines: Lines<'a>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Result<Value, Problem> {
        let mut entries = BTreeMap::new();
        for (key, value) in table.iter() {
            let origin = self.lines.origin(key.span().start);
            let node = self.node(value, depth + 1)?;
            entries.insert(key.get_ref().to_string(), Entry { key: origin, node });
        }
        Ok(Value::Table(entries))
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Problem> {
        let origin = self.lines.origin(value.span().start);
        if depth > MAX_DEPTH {
            return Err(place(self.file, &origin, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let value = match value.get_ref() {
            DeValue::Boolean(b) => Value::Boolean(*b),
            DeValue::String(s) => Value::String(s.to_string()),
            DeValue::Datetime(d) => Value::Datetime(*d),
            DeValue::Integer(i) => {
                let number = i64::from_str_radix(i.as_str(), i.radix());
                number.map_or_else(|_| Value::Beyond(i.to_string()), Value::Integer)
            }
            DeValue::Float(f) => {
                let large = |_| place(self.file, &origin, format!("{} is no number", f.as_str()));
                Value::Float(f.as_str().parse().map_err(large)?)
            }
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|v| self.node(v, depth + 1)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => self.table(table, depth)?,
        };
        Ok(Node::new(value, origin))
    }
}

/// Turns byte offsets into lines and columns.
struct Lines<'a> {
    file: Arc<Path>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: &Path, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, starts }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Origin::File { file: self.file.clone(), line, column: before.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "a = 1\nb = { \"é\" = \"ü\", c = [1, 2] }\n[t]\nx = 1\n[[l]]\ny = 2\n";
        let places = read(Path::new("f"), text).unwrap().places(Path::new("f"));
        let at = |path| match places.origin(path) {
            Origin::File { line, column, .. } => (line, column),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(at("a"), (1, 5));
        assert_eq!(at("b.é"), (2, 13));
        assert_eq!(at("b.c[1]"), (2, 26));
        assert_eq!(at("t"), (3, 1));
        assert_eq!(at("l[0]"), (5, 1));
        assert_eq!(at("l[0].y"), (6, 5));
        assert_eq!(places.problem("l[0].z.q", "no").at, Some((5, 1)));
        assert_eq!(places.origin("nowhere"), Origin::Default);
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let dotted = vec!["a"; 60].join(".") + " = 1";
        let inline = "a = ".to_owned() + &"{ a.b.c.d = ".repeat(70) + "1" + &" }".repeat(70);
        let brackets = "a = ".to_owned() + &"[".repeat(1_000_000);
        let header = format!("[{}]", vec!["a"; 100_000].join("."));
        for text in [dotted, inline, brackets, header] {
            assert!(read(Path::new("f"), &text).is_err(), "{}", &text[..60]);
        }
    }

    #[test]
    fn numbers_out_of_range_have_a_place() {
        let node =
            read(Path::new("f"), "x = [1, 0xFFFFFFFFFFFFFFFF]\n[y]\nz = -9223372036854775809").unwrap();
        let found = node.beyond("");
        let told: Vec<_> = found.iter().map(|(origin, text)| format!("{origin} {text}")).collect();
        let most = "an integer is at most 9223372036854775807";
        assert_eq!(told[1..], [format!("f:3:5 `y.z` is -9223372036854775809; {most}")]);
        assert!(told[0].starts_with("f:1:9 `x[1]` is ") && told[0].ends_with(most), "{told:?}");
    }
}
