//! HTTP/1 heads with two framings.
//!
//! A head with both `Content-Length` and `Transfer-Encoding` is how requests are smuggled
//! past a proxy that believes the other one (RFC 9112 section 11.2). hyper reads such a
//! request by its chunks and takes `Content-Length` out of the headers, as section 6.3
//! allows, so that nobody behind it can refuse the request. The bytes are therefore watched
//! on their way in.
//!
//! Bodies are followed by the framing that their head names, and skipped: looking for lines
//! anywhere would find "heads" in bodies that are text. What cannot be followed is treated as
//! a head with two framings; hyper refuses most of it anyway.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";

/// Bytes of a line that are looked at. A name, blanks, and the twenty digits of the largest
/// length fit.
pub(crate) const LINE_BYTES: usize = 64;

/// Which head of a connection, counted from 1, was the first with two framings; 0 is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct TwoFramings(Arc<AtomicU64>);

impl TwoFramings {
    /// Which one it was.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether the `number`th head has two framings.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.number() == number
    }
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    /// Blank lines, which are ignored, and the request line.
    #[default]
    Start,
    /// Header fields.
    Head,
    /// A body of a known length.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    Trailers,
    /// Cannot be followed: nothing is read any more.
    Lost,
}

/// Reads along.
#[derive(Debug)]
pub(crate) struct Heads {
    part: Part,
    /// What the current line began with.
    line: [u8; LINE_BYTES],
    /// How much of `line` there is.
    length: usize,
    /// Which head this is, or was.
    number: u64,
    content_length: Option<u64>,
    chunked: bool,
    found: TwoFramings,
}

impl Heads {
    /// A watch that reports to `found`.
    pub(crate) fn new(found: TwoFramings) -> Self {
        Self {
            part: Part::Start,
            line: [0; LINE_BYTES],
            length: 0,
            number: 1,
            content_length: None,
            chunked: false,
            found,
        }
    }

    /// Takes note of `bytes`, the next ones of the connection.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Body(left) => self.skip(bytes, left, Part::Body, Part::Start),
                Part::ChunkData(left) => self.skip(bytes, left, Part::ChunkData, Part::ChunkEnd),
                Part::Lost => return,
                _ => self.read_line(bytes),
            };
        }
    }

    fn skip<'b>(&mut self, bytes: &'b [u8], left: u64, same: fn(u64) -> Part, then: Part) -> &'b [u8] {
        let here = left.min(bytes.len() as u64);
        self.part = if here == left { then } else { same(left - here) };
        &bytes[here as usize..]
    }

    /// Reads to the end of the line; returns what is behind it.
    fn read_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.keep(bytes);
            return &[];
        };
        if self.length == 0 {
            // Nearly always a line is there as a whole, and need not be copied.
            self.end_line(&bytes[..end.min(LINE_BYTES)]);
        } else {
            self.keep(&bytes[..end]);
            let (line, length) = (self.line, std::mem::take(&mut self.length));
            self.end_line(&line[..length]);
        }
        &bytes[end + 1..]
    }

    fn keep(&mut self, part: &[u8]) {
        let room = &mut self.line[self.length..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part[..taken]);
        self.length += taken;
    }

    fn end_line(&mut self, line: &[u8]) {
        let blank = matches!(line, b"" | b"\r");
        self.part = match self.part {
            Part::Start if !blank => {
                (self.content_length, self.chunked) = (None, false);
                Part::Head
            }
            Part::Head if blank => self.end_head(),
            Part::Head => self.field(line),
            Part::ChunkSize => match chunk_size(line) {
                Some(0) => Part::Trailers,
                Some(size) => Part::ChunkData(size),
                None => self.lose(),
            },
            Part::ChunkEnd if blank => Part::ChunkSize,
            Part::ChunkEnd => self.lose(),
            Part::Trailers if blank => self.next_head(Part::Start),
            same => same,
        };
    }

    fn field(&mut self, line: &[u8]) -> Part {
        if value(line, CODING).is_some() {
            self.chunked = true;
        }
        let Some(length) = value(line, LENGTH) else { return Part::Head };
        match decimal(length).filter(|_| line.len() < LINE_BYTES) {
            Some(length) => self.content_length = Some(length),
            None => return self.lose(),
        }
        Part::Head
    }

    fn end_head(&mut self) -> Part {
        match (self.content_length, self.chunked) {
            (Some(_), true) => self.lose(),
            (None, true) => Part::ChunkSize,
            (Some(length), false) if length > 0 => self.next_head(Part::Body(length)),
            _ => self.next_head(Part::Start),
        }
    }

    /// The head has one framing; the one behind its body is the next.
    fn next_head(&mut self, part: Part) -> Part {
        self.number += 1;
        part
    }

    fn lose(&mut self) -> Part {
        // In a body it is the next head that nobody could tell.
        let in_head = matches!(self.part, Part::Start | Part::Head);
        self.found.0.store(self.number + u64::from(!in_head), Ordering::Relaxed);
        Part::Lost
    }
}

/// The value of the field `name` (in lower case, with its colon), if `line` is that field.
fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?;
    // Of a longer line only the beginning is here.
    let whole = digits.len() < LINE_BYTES;
    let digits = digits.trim_ascii();
    let all = whole && !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| all)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which head of `text` is reported, however it is cut in two.
    fn reported(text: &str) -> u64 {
        let verdicts: Vec<_> = (0..=text.len())
            .map(|cut| {
                let found = TwoFramings::default();
                let mut heads = Heads::new(found.clone());
                heads.see(&text.as_bytes()[..cut]);
                heads.see(&text.as_bytes()[cut..]);
                found.0.load(Ordering::Relaxed)
            })
            .collect();
        assert!(verdicts.iter().all(|v| *v == verdicts[0]), "{text:?}: {verdicts:?}");
        verdicts[0]
    }

    const SIZED: &str = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nX: trailer\r\n\r\n";
    const BARE: &str = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const DOUBLED: &str = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn both_names_in_one_head_are_reported_in_either_order() {
        assert_eq!(reported(DOUBLED), 1);
        assert_eq!(
            reported("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:5\r\n\r\n"),
            1
        );
        assert_eq!(reported("GET / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n"), 1);
    }

    #[test]
    fn the_head_is_told_by_its_number() {
        let parts = [SIZED, CHUNKED, BARE];
        for first in parts {
            for second in parts {
                assert_eq!(reported(&[first, second].concat()), 0);
                assert_eq!(reported(&[first, second, DOUBLED].concat()), 3);
                assert_eq!(reported(&[first, DOUBLED, second].concat()), 2);
            }
        }
    }

    #[test]
    fn bodies_that_look_like_heads_are_not_heads() {
        let lines = "x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";
        let sized = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{lines}", lines.len());
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n0\r\n\r\n",
            lines.len()
        );
        assert_eq!(reported(&[&sized, &chunked, BARE].concat()), 0);
        assert_eq!(reported(&[&sized, &chunked, DOUBLED].concat()), 3);
        assert_eq!(
            reported("POST / HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            0
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused_at_the_next_head() {
        assert_eq!(reported("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n"), 1);
        assert_eq!(reported("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n"), 2);
        let zeros = "0".repeat(LINE_BYTES);
        let long_size = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{zeros}5\r\nhello");
        assert_eq!(reported(&long_size), 2);
        let blanks = " ".repeat(LINE_BYTES - LENGTH.len() - 1);
        assert_eq!(reported(&format!("POST / HTTP/1.1\r\nContent-Length:{blanks}12\r\n\r\n")), 1);
    }
}
