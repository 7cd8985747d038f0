//! A parsed document as one flat list of nodes over the text: 16 bytes a value, whatever
//! the nesting. (A tree of enums was the alternative; it takes three to five times that,
//! which a hostile body of many small values would turn into memory.)

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

/// What a node is. Objects are followed by key, value, key, value …, lists by their items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    /// Decimal digits, maybe after a minus sign.
    Int,
    /// A number with a fraction or an exponent.
    Float,
    Nan,
    Infinity,
    MinusInfinity,
    /// A string without escapes.
    Plain,
    /// A string with escapes.
    Escaped,
    List,
    Object,
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// A key that an earlier one of its object is equal to.
    pub(super) repeated: bool,
    /// First byte of the text (after the quote, for strings).
    pub(super) start: u32,
    /// Byte after the text's last; number of children for lists and objects.
    pub(super) end: u32,
    /// The node after this one and everything inside it.
    pub(super) next: u32,
}

/// Index of a node.
pub(crate) type NodeId = u32;

/// A document.
#[derive(Debug, Default)]
pub(crate) struct Doc<'t> {
    pub(super) text: &'t str,
    pub(super) nodes: Vec<Node>,
    /// Of keys given more than once: the first one's key → the last one's value.
    replaced: HashMap<NodeId, NodeId>,
}

/// A string's characters. A surrogate without its other half is no character of a Rust
/// string: it reads as U+FFFD, and `lone` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'t> {
    pub(crate) chars: Cow<'t, str>,
    pub(crate) lone: bool,
}

impl<'t> Doc<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, ..Self::default() }
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize]
    }

    pub(crate) fn kind(&self, id: NodeId) -> Kind {
        self.node(id).kind
    }

    /// Number of items of a list, or of keys written in an object.
    pub(crate) fn len(&self, id: NodeId) -> usize {
        self.node(id).end as usize
    }

    /// The text of a number, or what stands between a string's quotes.
    pub(crate) fn raw(&self, id: NodeId) -> &'t str {
        let node = self.node(id);
        self.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    /// A string's characters.
    pub(crate) fn string(&self, id: NodeId) -> Text<'t> {
        match self.kind(id) {
            Kind::Escaped => unescape(self.raw(id)),
            _ => Text { chars: Cow::Borrowed(self.raw(id)), lone: false },
        }
    }

    /// Items of a list.
    pub(crate) fn items(&self, list: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.node(list).next;
        let mut at = list + 1;
        std::iter::from_fn(move || {
            let item = at;
            (item < end).then(|| {
                at = self.node(item).next;
                item
            })
        })
    }

    /// Key and value of an object as a Python dict holds them: keys where they first
    /// appeared, values as they were last given.
    pub(crate) fn entries(&self, object: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let end = self.node(object).next;
        let mut at = object + 1;
        std::iter::from_fn(move || {
            while at < end {
                let key = at;
                at = self.node(key + 1).next;
                if !self.node(key).repeated {
                    return Some((key, self.replaced.get(&key).copied().unwrap_or(key + 1)));
                }
            }
            None
        })
    }

    /// Finds the repeated keys of an object that has just been closed.
    pub(super) fn note_duplicates(&mut self, object: NodeId) {
        let mut first = HashMap::new();
        let mut again = Vec::new();
        // None is marked as repeated yet, so these are all its keys.
        for (key, value) in self.entries(object) {
            match first.entry(self.string(key).chars) {
                Entry::Vacant(slot) => drop(slot.insert(key)),
                Entry::Occupied(slot) => again.push((*slot.get(), key, value)),
            }
        }
        for (first, key, value) in again {
            self.replaced.insert(first, value);
            self.nodes[key as usize].repeated = true;
        }
    }
}

/// Decodes the escapes of a string that the scanner has found to be well formed.
fn unescape(raw: &str) -> Text<'_> {
    let mut out = String::with_capacity(raw.len());
    let mut lone = false;
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        out.push(match c {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (c, after) = unicode_escape(rest);
                rest = after;
                lone |= c.is_none();
                c.unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other,
        });
    }
    out.push_str(rest);
    Text { chars: Cow::Owned(out), lone }
}

/// The character of `XXXX`, or of `XXXX\uXXXX` for a surrogate pair, and what follows;
/// `None` for half a pair.
fn unicode_escape(text: &str) -> (Option<char>, &str) {
    let (high, rest) = hex4(text);
    if (0xd800..0xdc00).contains(&high)
        && let Some(second) = rest.strip_prefix("\\u")
        && let (low @ 0xdc00..0xe000, after) = hex4(second)
    {
        return (char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)), after);
    }
    (char::from_u32(high), rest)
}

fn hex4(text: &str) -> (u32, &str) {
    match text.split_at_checked(4) {
        Some((digits, rest)) => (u32::from_str_radix(digits, 16).unwrap_or(0xfffd), rest),
        None => (0xfffd, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_lone_surrogates_noted() {
        for (raw, chars, lone) in [
            (r"a\n\u0041\/", "a\nA/", false),
            (r"\ud83d\ude00!", "\u{1f600}!", false),
            (r"\ud83d", "\u{fffd}", true),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}", true),
            (r"\ud83d\u0041", "\u{fffd}A", true),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}", true),
        ] {
            assert_eq!(unescape(raw), Text { chars: chars.into(), lone }, "{raw}");
        }
    }
}
