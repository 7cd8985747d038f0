//! Heads with two framings.
//!
//! A head with both `Content-Length` and `Transfer-Encoding` is how requests are smuggled
//! past a proxy that believes the other one (RFC 9112 section 11.2). hyper reads such a
//! request by its chunks and takes `Content-Length` out of the headers, as section 6.3
//! allows, so that nobody behind it can refuse the request. The bytes are therefore watched
//! on their way in.
//!
//! Where heads begin is hyper's knowledge; here, lines are: two lines that begin with the
//! two names and have no blank line between them are such a head. Bodies that are JSON hold
//! no such lines, since their keys are in quotes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";

/// Set when a head with both framings came in, cleared by who refuses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct BothFramings(Arc<AtomicBool>);

impl BothFramings {
    /// Whether such a head came since the last call.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Reads along, line by line.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What the current line began with, as far as it matters, in lower case.
    start: [u8; CODING.len()],
    /// Bytes of the current line, counted to the length of `start`.
    length: usize,
    has_length: bool,
    has_coding: bool,
    found: BothFramings,
}

impl Watch {
    /// A watch that reports to `found`.
    pub(crate) fn new(found: BothFramings) -> Self {
        Self { found, ..Self::default() }
    }

    /// Takes note of `bytes`, the next ones of the connection.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.take(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.take(bytes);
    }

    fn take(&mut self, part: &[u8]) {
        let room = &mut self.start[self.length..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part[..taken]);
        room[..taken].make_ascii_lowercase();
        self.length += taken;
    }

    fn end_line(&mut self) {
        let line = &self.start[..self.length];
        if matches!(line, b"" | b"\r") {
            (self.has_length, self.has_coding) = (false, false);
        }
        self.has_length |= line.starts_with(LENGTH);
        self.has_coding |= line.starts_with(CODING);
        if self.has_length && self.has_coding {
            self.found.0.store(true, Ordering::Relaxed);
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `text` is reported, however it is cut in two.
    fn reported(text: &str) -> bool {
        let verdicts: Vec<_> = (0..=text.len())
            .map(|cut| {
                let found = BothFramings::default();
                let mut watch = Watch::new(found.clone());
                watch.see(&text.as_bytes()[..cut]);
                watch.see(&text.as_bytes()[cut..]);
                found.take()
            })
            .collect();
        assert!(verdicts.iter().all(|v| *v == verdicts[0]), "{text:?}: {verdicts:?}");
        verdicts[0]
    }

    #[test]
    fn both_names_in_one_head_are_reported_in_either_order() {
        assert!(reported("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(reported("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:5\r\n\r\n"));
        assert!(reported("GET / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n"));
    }

    #[test]
    fn one_each_in_two_requests_is_not() {
        let (length, chunks) = (
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        );
        for text in [[length, chunks], [chunks, length], [length, length], [chunks, chunks]] {
            assert!(!reported(&text.concat()), "{text:?}");
        }
    }

    #[test]
    fn bodies_and_other_names_are_not() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 1\r\n\r\n";
        assert!(!reported(head));
        assert!(!reported(&format!(
            "{head}30\r\n{{\r\n  \"content-length:\": 1,\r\n \"transfer-encoding:\": 2}}\r\n0\r\n\r\n"
        )));
    }

    #[test]
    fn a_report_is_taken_once() {
        let found = BothFramings::default();
        Watch::new(found.clone()).see(b"content-length: 1\r\ntransfer-encoding: x\r\n");
        assert!(found.take() && !found.take());
    }
}
