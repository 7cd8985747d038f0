//! A JSON scanner that takes, refuses and words everything as CPython's `json` does
//! (`Modules/_json.c`, 3.11 and 3.12), but holds its own stack: nesting costs no recursion.

use super::doc::{Doc, Kind, Node, NodeId};
use crate::number::MAX_INT_DIGITS;

/// Why a text is no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanError {
    /// Python's `JSONDecodeError`.
    Syntax {
        /// Python's message.
        message: &'static str,
        /// Byte offset.
        at: usize,
    },
    /// Another exception of Python's (recursion, integer digits), or beyond our limits.
    Unparsable,
}

type Result<T, E = ScanError> = std::result::Result<T, E>;

fn syntax<T>(message: &'static str, at: usize) -> Result<T> {
    Err(ScanError::Syntax { message, at })
}

const NO_VALUE: &str = "Expecting value";

/// Reads one document; its root is node 0.
pub(super) fn scan(text: &str, max_depth: usize) -> Result<Doc<'_>> {
    // Offsets are 32 bits wide.
    if u32::try_from(text.len()).is_err() {
        return Err(ScanError::Unparsable);
    }
    let mut scanner =
        Scanner { bytes: text.as_bytes(), at: 0, doc: Doc::new(text), open: Vec::new(), max_depth };
    scanner.document()?;
    Ok(scanner.doc)
}

struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
    doc: Doc<'t>,
    open: Vec<NodeId>,
    max_depth: usize,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<()> {
        self.skip_blank();
        loop {
            self.value()?;
            if !self.after_value()? {
                break;
            }
        }
        self.skip_blank();
        if self.at < self.bytes.len() { syntax("Extra data", self.at) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a scalar, an empty list or object, or the beginning of one up to its first
    /// value.
    fn value(&mut self) -> Result<()> {
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.open(Kind::Object)?;
                    if self.peek() == Some(b'}') {
                        return self.close();
                    }
                    self.key()?;
                }
                Some(b'[') => {
                    self.open(Kind::List)?;
                    if self.peek() == Some(b']') {
                        return self.close();
                    }
                }
                _ => return self.scalar(),
            }
        }
    }

    /// Closes what ends here; `true` if another value has to follow.
    fn after_value(&mut self) -> Result<bool> {
        while let Some(&parent) = self.open.last() {
            self.doc.nodes[parent as usize].end += 1;
            self.skip_blank();
            let object = self.doc.kind(parent) == Kind::Object;
            match self.peek() {
                Some(b'}') if object => self.close()?,
                Some(b']') if !object => self.close()?,
                Some(b',') => {
                    self.at += 1;
                    self.skip_blank();
                    if object {
                        self.key()?;
                    }
                    return Ok(true);
                }
                _ => return syntax("Expecting ',' delimiter", self.at),
            }
        }
        Ok(false)
    }

    fn open(&mut self, kind: Kind) -> Result<()> {
        if self.open.len() >= self.max_depth {
            return Err(ScanError::Unparsable);
        }
        let id = self.push(kind, self.at, 0);
        self.open.push(id);
        self.at += 1;
        self.skip_blank();
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.at += 1;
        let Some(id) = self.open.pop() else { return Err(ScanError::Unparsable) };
        self.doc.nodes[id as usize].next = self.doc.nodes.len() as u32;
        if self.doc.kind(id) == Kind::Object && self.doc.len(id) > 1 {
            self.doc.note_duplicates(id);
        }
        Ok(())
    }

    /// Adds a node that has nothing inside it (yet).
    fn push(&mut self, kind: Kind, start: usize, end: usize) -> NodeId {
        // Every node takes a byte of text, so their number fits too.
        let id = self.doc.nodes.len() as u32;
        self.doc.nodes.push(Node {
            kind,
            repeated: false,
            start: start as u32,
            end: end as u32,
            next: id + 1,
        });
        id
    }

    fn key(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return syntax("Expecting property name enclosed in double quotes", self.at);
        }
        self.string()?;
        self.skip_blank();
        if self.peek() != Some(b':') {
            return syntax("Expecting ':' delimiter", self.at);
        }
        self.at += 1;
        self.skip_blank();
        Ok(())
    }

    fn scalar(&mut self) -> Result<()> {
        const WORDS: [(&[u8], Kind); 6] = [
            (b"null", Kind::Null),
            (b"true", Kind::True),
            (b"false", Kind::False),
            (b"NaN", Kind::Nan),
            (b"Infinity", Kind::Infinity),
            (b"-Infinity", Kind::MinusInfinity),
        ];
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            Some(&(word, kind)) => {
                self.push(kind, self.at, self.at + word.len());
                self.at += word.len();
                Ok(())
            }
            None => self.number(),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    /// `-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?`; what does not belong to it is left.
    fn number(&mut self) -> Result<()> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let count = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                1
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => return syntax(NO_VALUE, start),
        };
        let fraction = self.part(|s| s.peek() == Some(b'.') && s.step());
        let exponent = self.part(|s| {
            matches!(s.peek(), Some(b'e' | b'E'))
                && s.step()
                && (!matches!(s.peek(), Some(b'-' | b'+')) || s.step())
        });
        if fraction || exponent {
            self.push(Kind::Float, start, self.at);
        } else if count > MAX_INT_DIGITS {
            return Err(ScanError::Unparsable);
        } else {
            self.push(Kind::Int, start, self.at);
        }
        Ok(())
    }

    fn step(&mut self) -> bool {
        self.at += 1;
        true
    }

    /// An optional part of a number: what `lead` reads and digits after it, or nothing.
    fn part(&mut self, lead: impl FnOnce(&mut Self) -> bool) -> bool {
        let start = self.at;
        if lead(self) && self.digits() > 0 {
            return true;
        }
        self.at = start;
        false
    }

    fn string(&mut self) -> Result<()> {
        let quote = self.at;
        self.at += 1;
        let start = self.at;
        let mut kind = Kind::Plain;
        loop {
            match self.peek() {
                None => return syntax("Unterminated string starting at", quote),
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape(quote)?;
                }
                Some(0..=0x1f) => return syntax("Invalid control character at", self.at),
                Some(_) => self.at += 1,
            }
        }
        self.push(kind, start, self.at);
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self, quote: usize) -> Result<()> {
        match self.bytes.get(self.at + 1) {
            None => syntax("Unterminated string starting at", quote),
            Some(b'u') => self.unicode_escape(),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(_) => syntax("Invalid \\escape", self.at),
        }
    }

    fn unicode_escape(&mut self) -> Result<()> {
        let digits = self.bytes.get(self.at + 2..self.at + 6);
        // Python wants a character after the digits too, which every closed string has.
        let more = self.at + 6 < self.bytes.len();
        if !more || !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            return syntax("Invalid \\uXXXX escape", self.at + 1);
        }
        self.at += 6;
        Ok(())
    }
}
