//! Answers that an HTTP/2 client asked for and does not take.
//!
//! Over HTTP/1 the socket itself stalls, which [`Guarded`](super::guarded::Guarded) sees.
//! Over HTTP/2 the client grants windows, and with none it can let hundreds of answers pile up
//! in the server while it answers pings (hyper has no deadline for that). So the bytes of
//! answers are counted until the connection lets go of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

/// Bytes in which answers are counted: a client makes progress when it takes one such piece.
const PIECE_BYTES: usize = 64 << 10;
/// Most bytes that one connection may leave untaken.
const MAX_BYTES: usize = 128 << 20;

/// What one connection has not taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Untaken(Arc<State>);

#[derive(Debug, Default)]
struct State {
    bytes: AtomicUsize,
    progress: Mutex<Option<Instant>>,
    some: Notify,
}

/// A piece of an answer; counted until it is dropped.
struct Piece {
    bytes: Bytes,
    untaken: Untaken,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.untaken.0.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.untaken.note_progress();
    }
}

impl Untaken {
    /// Cuts the next piece off `rest` and counts it.
    pub(crate) fn next_piece(&self, rest: &mut Bytes) -> Bytes {
        let bytes = rest.split_to(rest.len().min(PIECE_BYTES));
        if self.0.bytes.fetch_add(bytes.len(), Ordering::Relaxed) == 0 {
            self.note_progress();
            self.0.some.notify_one();
        }
        Bytes::from_owner(Piece { bytes, untaken: self.clone() })
    }

    fn note_progress(&self) {
        *self.0.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Completes when the client took nothing for `timeout` although there was something, or
    /// leaves more than a connection may. While nothing is untaken, no timer runs.
    pub(crate) async fn stalled(&self, timeout: Duration) {
        loop {
            let bytes = self.0.bytes.load(Ordering::Relaxed);
            if bytes == 0 {
                self.0.some.notified().await;
                continue;
            }
            let progress = *self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let deadline = progress.unwrap_or_else(Instant::now) + timeout;
            if bytes > MAX_BYTES || deadline <= Instant::now() {
                return;
            }
            // Woken by time alone: progress moves the deadline, which is seen at the next look.
            tokio::time::sleep_until(deadline.min(Instant::now() + Duration::from_secs(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_takes_pieces_is_not() {
        let untaken = Untaken::default();
        let mut rest = Bytes::from(vec![7; 3 * PIECE_BYTES]);
        let mut pieces: Vec<_> = (0..3).map(|_| untaken.next_piece(&mut rest)).collect();
        assert!(rest.is_empty());
        for _ in 0..2 {
            let early =
                tokio::time::timeout(TIMEOUT - Duration::from_secs(1), untaken.stalled(TIMEOUT)).await;
            assert!(early.is_err(), "it made progress");
            pieces.pop();
        }
        untaken.stalled(TIMEOUT).await;
        pieces.clear();
        let idle = tokio::time::timeout(100 * TIMEOUT, untaken.stalled(TIMEOUT)).await;
        assert!(idle.is_err(), "nothing is untaken");
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_connection_may_leave_is_too_much_at_once() {
        let untaken = Untaken::default();
        let mut rest = Bytes::from(vec![7; MAX_BYTES + 1]);
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            pieces.push(untaken.next_piece(&mut rest));
        }
        tokio::time::timeout(Duration::ZERO, untaken.stalled(TIMEOUT)).await.unwrap();
    }
}
