//! Turns: how much a connection may be read before others are.
//!
//! tokio's own budget counts reads, and one read can hold a thousand frames.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Frames after which others have their turn. A client can send frames faster than they are
/// dealt with: without an end of its own, its turn takes tens of milliseconds.
pub(super) const TURN_FRAMES: u64 = 64;
/// What is read at once while frames are that small: one read could hold many turns.
const CROWDED_BYTES: usize = 1 << 10;
/// Bytes after which others have their turn.
const TURN_BYTES: usize = 256 << 10;

/// What was read since others had their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    bytes: usize,
    /// Steps of the protocol when it began.
    from: u64,
    /// The one before ended because of its many frames.
    crowded: bool,
}

impl Turn {
    /// Whether others are next; `steps` as [`Watch::steps`](super::watch::Watch::steps) counts.
    pub(super) fn is_over(&self, steps: u64) -> bool {
        self.bytes >= TURN_BYTES || steps - self.from >= TURN_FRAMES
    }

    /// Begins the next turn.
    pub(super) fn restart(&mut self, steps: u64) {
        let crowded = steps - self.from >= TURN_FRAMES;
        *self = Self { bytes: 0, from: steps, crowded };
    }

    /// Takes note of `bytes` read.
    pub(super) fn read_some(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Reads what one turn may read.
    pub(super) fn read<S: AsyncRead>(
        &self,
        inner: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.crowded {
            return inner.poll_read(cx, buf);
        }
        let mut scratch = [0; CROWDED_BYTES];
        let mut part = ReadBuf::new(&mut scratch[..CROWDED_BYTES.min(buf.remaining())]);
        ready!(inner.poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}
