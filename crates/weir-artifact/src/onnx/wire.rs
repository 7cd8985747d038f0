//! A first walk over the protobuf wire format, before anything is decoded.
//!
//! Decoding turns two bytes of input into a few hundred bytes of structs (an empty node),
//! so a small file could take a machine's memory. This walk allocates nothing but a stack
//! of known depth, and counts what decoding would build. It knows which fields of ONNX are
//! messages; everything else is skipped over, as the decoder does.

use super::GateLimits;

/// The messages that contain messages or lists of strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Nested,
    Map,
    Shape,
    Leaf,
}

/// What a length-delimited field holds.
enum Content {
    Message(Kind),
    String,
    Skipped,
}

/// What field `number` of `kind` holds (tags of `onnx-ml.proto`).
fn content(kind: Kind, number: u64) -> Content {
    let message = match (kind, number) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::Sparse, 1 | 2) => Kind::Tensor,
        (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::Sparse,
        (Kind::Graph, 11..=13) => Kind::ValueInfo,
        (Kind::ValueInfo, 2) | (Kind::Nested, 1) | (Kind::Map, 2) => Kind::Type,
        (Kind::Type, 1 | 8) => Kind::TensorType,
        (Kind::Type, 4 | 9) => Kind::Nested,
        (Kind::Type, 5) => Kind::Map,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Model, 8 | 20 | 25) | (Kind::Tensor, 3 | 13) | (Kind::Type, 7) | (Kind::Shape, 1) => {
            Kind::Leaf
        }
        (Kind::Node, 1 | 2) | (Kind::Attribute, 9) | (Kind::Tensor, 6) => return Content::String,
        _ => return Content::Skipped,
    };
    Content::Message(message)
}

/// What decoding would build.
#[derive(Debug, Default)]
struct Counts {
    nodes: usize,
    tensors: usize,
    messages: usize,
    strings: usize,
}

impl Counts {
    fn message(&mut self, kind: Kind) {
        self.messages += 1;
        self.nodes += usize::from(kind == Kind::Node);
        self.tensors += usize::from(kind == Kind::Tensor);
    }

    fn check(&self, limits: &GateLimits) -> Result<(), String> {
        let rows = [
            ("nodes", self.nodes, limits.max_nodes),
            ("tensors", self.tensors, limits.max_tensors),
            ("protobuf messages", self.messages, limits.max_messages),
            ("strings", self.strings, limits.max_strings),
        ];
        match rows.into_iter().find(|(_, count, limit)| count > limit) {
            Some((what, _, limit)) => Err(format!("the file holds more than {limit} {what}")),
            None => Ok(()),
        }
    }
}

/// Walks over `bytes` and says whether it may be decoded.
///
/// # Errors
/// Why not: not protobuf, nested too deep, or more parts than `limits` allow.
pub(super) fn scan(bytes: &[u8], limits: &GateLimits) -> Result<(), String> {
    let mut walk = Walk { bytes, at: 0 };
    let mut counts = Counts::default();
    // The end of each message that is open, outermost first.
    let mut open = vec![(Kind::Model, bytes.len())];
    while let Some(&(kind, end)) = open.last() {
        if walk.at == end {
            open.pop();
            continue;
        }
        let Some((number, body)) = walk.field(end)? else { continue };
        match content(kind, number) {
            Content::Skipped => walk.at = body,
            Content::String => {
                counts.strings += 1;
                walk.at = body;
            }
            Content::Message(inner) => {
                counts.message(inner);
                if open.len() > limits.max_depth {
                    return Err(format!("messages are nested deeper than {}", limits.max_depth));
                }
                open.push((inner, body));
            }
        }
        counts.check(limits)?;
    }
    Ok(())
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Reads one field of a message that ends at `end`. For a length-delimited one gives
    /// its number and where its body ends, with `at` at the body; others are skipped.
    fn field(&mut self, end: usize) -> Result<Option<(u64, usize)>, String> {
        let key = self.varint(end)?;
        let number = key >> 3;
        match key & 7 {
            0 => self.varint(end).map(|_| None),
            1 => self.skip(8, end).map(|()| None),
            5 => self.skip(4, end).map(|()| None),
            2 => {
                let length = self.varint(end)?;
                let body = usize::try_from(length).ok().and_then(|n| self.at.checked_add(n));
                match body {
                    Some(body) if body <= end => Ok(Some((number, body))),
                    _ => Err(self.broken("a field is longer than the message it is in")),
                }
            }
            // 3 and 4 were groups, which ONNX never had; 6 and 7 never existed.
            _ => Err(self.broken("a field has an unknown wire type")),
        }
    }

    fn skip(&mut self, count: usize, end: usize) -> Result<(), String> {
        if end - self.at < count {
            return Err(self.broken("a number is cut off"));
        }
        self.at += count;
        Ok(())
    }

    fn varint(&mut self, end: usize) -> Result<u64, String> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes[self.at..end].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.broken("a number is cut off or too long"))
    }

    fn broken(&self, what: &str) -> String {
        format!(
            "not an ONNX file, or cut off: {what} (byte {} of {}); export or download it again",
            self.at,
            self.bytes.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut n = body.len();
        while n >= 0x80 {
            out.push((n & 0x7f | 0x80) as u8);
            n >>= 7;
        }
        out.push(n as u8);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn counts_what_would_be_built_before_it_is_built() {
        let limits = GateLimits { max_nodes: 1000, ..GateLimits::default() };
        let graph = |nodes: usize| field(7, &field(1, &[]).repeat(nodes));
        assert_eq!(scan(&graph(1000), &limits), Ok(()));
        assert_eq!(scan(&graph(1001), &limits), Err("the file holds more than 1000 nodes".into()));
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let mut body = Vec::new();
        for _ in 0..50_000 {
            // graph in attribute in node
            body = field(1, &field(5, &field(6, &body)));
            if body.len() > 1 << 20 {
                break;
            }
        }
        let error = scan(&field(7, &body), &GateLimits::default()).unwrap_err();
        assert_eq!(error, "messages are nested deeper than 64");
    }

    #[test]
    fn says_where_a_file_is_cut_off() {
        let whole = field(7, &field(1, b"\x0a\x01x"));
        let error = scan(&whole[..whole.len() - 1], &GateLimits::default()).unwrap_err();
        assert!(error.contains("cut off") && error.contains("byte 2 of 6"), "{error}");
        assert!(scan(&[0xff; 20], &GateLimits::default()).is_err());
        assert!(scan(&[0x0b], &GateLimits::default()).unwrap_err().contains("wire type"));
    }
}
