//! HTTP/1.1 requests as bytes.

use bytes::Bytes;

use crate::plan::{Slot, SlotUnit};

/// Bytes of a slot for the time left.
pub(crate) const SLOT: usize = 12;
/// What stands in a slot until it is filled; JSON may have spaces before a number.
pub(crate) const BLANK: &str = "           0";

/// What every request to one path says.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Method, path, Host and the caller's own headers.
    lines: String,
    deadline: bool,
}

/// A body, and where in it the time left goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of JSON before tensors.
    pub(crate) json: Option<usize>,
    pub(crate) slot: Option<usize>,
}

impl Head {
    pub(crate) fn new(
        method: &str,
        path: &str,
        host: &str,
        headers: &[(String, String)],
        deadline: bool,
    ) -> Self {
        let mut lines = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) && method != "GET" {
            lines.push_str("Content-Type: application/json\r\n");
        }
        headers.iter().for_each(|(name, value)| lines.push_str(&format!("{name}: {value}\r\n")));
        Self { lines, deadline }
    }

    /// The request with this body, and its slots.
    pub(crate) fn with(&self, body: Option<&Body>) -> (Bytes, Vec<Slot>) {
        let mut out = self.lines.clone();
        let mut slots = Vec::new();
        if self.deadline {
            out.push_str("Request-Timeout: ");
            slots.push(Slot { at: out.len(), width: SLOT, unit: SlotUnit::Seconds });
            out.push_str("000000000000\r\n");
        }
        if let Some(body) = body {
            out.push_str(&format!("Content-Length: {}\r\n", body.bytes.len()));
            if let Some(json) = body.json {
                out.push_str(&format!("Inference-Header-Content-Length: {json}\r\n"));
            }
        }
        out.push_str("\r\n");
        let mut bytes = out.into_bytes();
        if let Some(body) = body {
            let at = bytes.len();
            slots.extend(body.slot.map(|s| Slot { at: at + s, width: SLOT, unit: SlotUnit::Microseconds }));
            bytes.extend_from_slice(&body.bytes);
        }
        (bytes.into(), slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_point_at_their_digits() {
        let head = Head::new("POST", "/x", "h:1", &[("A".into(), "b".into())], true);
        let body =
            Body { bytes: format!("{{\"timeout\":{BLANK}}}").into_bytes(), json: Some(24), slot: Some(11) };
        let (bytes, slots) = head.with(Some(&body));
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text,
            format!(
                "POST /x HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\nA: b\r\n\
             Request-Timeout: 000000000000\r\nContent-Length: 24\r\nInference-Header-Content-Length: 24\r\n\r\n\
             {{\"timeout\":{BLANK}}}"
            )
        );
        assert_eq!(
            slots.iter().map(|s| &text[s.at..s.at + s.width]).collect::<Vec<_>>(),
            ["000000000000", BLANK]
        );
    }

    #[test]
    fn a_get_has_no_body() {
        let (bytes, slots) = Head::new("GET", "/", "h", &[], false).with(None);
        assert_eq!((&bytes[..], slots.len()), (&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], 0));
    }
}
