//! Reads along with a connection, whichever protocol it speaks.

use super::{
    frames::Frames,
    heads::{Heads, TwoFramings},
};

/// What HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known of a connection from its bytes.
#[derive(Debug)]
pub(crate) enum Watch {
    /// That many bytes of the preface came; what would tell HTTP/1 heads apart waits.
    Sniffing(usize, TwoFramings),
    Http1(Heads),
    Http2(Frames),
}

impl Watch {
    /// A watch that reports HTTP/1 heads with two framings to `found`.
    pub(crate) fn new(found: TwoFramings) -> Self {
        Watch::Sniffing(0, found)
    }

    /// Takes note of `bytes`, the next ones of the connection.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        if let Watch::Sniffing(seen, found) = self {
            let same = PREFACE[*seen..].iter().zip(bytes).take_while(|(a, b)| a == b).count();
            *seen += same;
            bytes = &bytes[same..];
            if *seen == PREFACE.len() {
                *self = Watch::Http2(Frames::new());
            } else if !bytes.is_empty() {
                let mut heads = Heads::new(found.clone());
                heads.see(&PREFACE[..*seen]);
                *self = Watch::Http1(heads);
            }
        }
        match self {
            Watch::Sniffing(..) => {}
            Watch::Http1(heads) => heads.see(bytes),
            Watch::Http2(frames) => frames.see(bytes),
        }
    }

    /// The frames, where there are any.
    pub(crate) fn frames(&mut self) -> Option<&mut Frames> {
        match self {
            Watch::Http2(frames) => Some(frames),
            Watch::Sniffing(..) | Watch::Http1(_) => None,
        }
    }

    /// Steps of the protocol that began so far: when it grows, the client has made progress.
    pub(crate) fn steps(&self) -> u64 {
        match self {
            Watch::Sniffing(..) => 0,
            Watch::Http1(_) => 1,
            Watch::Http2(frames) => 1 + frames.count(),
        }
    }

    /// Whether the client owes bytes that nobody else sets a deadline for: hyper has one for
    /// HTTP/1 heads alone.
    pub(crate) fn is_unfinished(&self) -> bool {
        match self {
            Watch::Sniffing(..) => true,
            Watch::Http1(_) => false,
            Watch::Http2(frames) => frames.is_unfinished(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_protocol_is_known_however_its_first_bytes_come() {
        for cut in 0..PREFACE.len() {
            let mut watch = Watch::new(TwoFramings::default());
            watch.see(&PREFACE[..cut]);
            assert!(matches!(watch, Watch::Sniffing(..)) && watch.is_unfinished());
            watch.see(&PREFACE[cut..]);
            assert!(matches!(watch, Watch::Http2(_)) && watch.is_unfinished(), "SETTINGS are owed");
            let mut watch = Watch::new(TwoFramings::default());
            watch.see(&PREFACE[..cut]);
            watch.see(b"x");
            assert!(matches!(watch, Watch::Http1(_)) && !watch.is_unfinished());
        }
    }

    #[test]
    fn a_head_that_begins_like_the_preface_is_read_from_its_start() {
        let found = TwoFramings::default();
        let mut watch = Watch::new(found.clone());
        watch.see(b"P");
        watch.see(b"OST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(found.has(1));
    }
}
