//! Entries on their way to the shared tier, behind the answers that they were made for.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    stats::{Counters, add},
    tier::{Tier, TierEntry},
};

/// Most bytes that wait; what comes then is dropped, and counted.
const MAX_BYTES: usize = 16 << 20;
/// Most entries that are stored in one go.
const MAX_STORED: usize = 256;
/// Most bytes of them, but for one entry that has more by itself: look-ups go over the same
/// connection, and wait behind them.
const MAX_STORED_BYTES: usize = 256 << 10;

/// An entry to store, and whose it is, if it is to be counted.
pub(super) struct Fill {
    pub(super) entry: TierEntry,
    pub(super) owner: Option<Arc<Counters>>,
}

impl Fill {
    fn bytes(&self) -> usize {
        self.entry.key.len() + self.entry.value.len()
    }

    fn count(&self, stored: bool) {
        if let Some(Counters { redis, .. }) = self.owner.as_deref() {
            add(if stored { &redis.filled } else { &redis.dropped }, 1);
        }
    }
}

/// Entries that wait.
#[derive(Default)]
pub(super) struct Fills {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    fills: VecDeque<Fill>,
    bytes: usize,
}

impl Fills {
    /// Lets `fill` wait, if there is room.
    pub(super) fn push(&self, fill: Fill) {
        let mut waiting = self.waiting();
        if waiting.bytes + fill.bytes() > MAX_BYTES {
            drop(waiting);
            return fill.count(false);
        }
        waiting.bytes += fill.bytes();
        waiting.fills.push_back(fill);
        drop(waiting);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<Fill> {
        let mut waiting = self.waiting();
        let (mut n, mut bytes) = (0, 0);
        for fill in waiting.fills.iter().take(MAX_STORED) {
            if n > 0 && bytes + fill.bytes() > MAX_STORED_BYTES {
                break;
            }
            (n, bytes) = (n + 1, bytes + fill.bytes());
        }
        waiting.bytes -= bytes;
        waiting.fills.drain(..n).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores what waits in `fills`, for ever.
pub(super) async fn work(fills: Arc<Fills>, tier: Arc<dyn Tier>) {
    loop {
        let taken = fills.take();
        if taken.is_empty() {
            fills.some.notified().await;
            continue;
        }
        let entries: Vec<TierEntry> = taken.iter().map(|fill| fill.entry.clone()).collect();
        let stored = tier.store_each(&entries).await;
        taken.iter().zip(stored).for_each(|(fill, stored)| fill.count(stored.is_ok()));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn fill(bytes: usize) -> Fill {
        let value = Bytes::from(vec![0; bytes]);
        Fill { entry: TierEntry { key: Vec::new(), value, ttl: None, if_absent: false }, owner: None }
    }

    #[test]
    fn what_is_stored_in_one_go_is_bounded_by_number_and_bytes() {
        let fills = Fills::default();
        let large = [fill(100 << 10), fill(100 << 10), fill(100 << 10), fill(1 << 20)];
        large.into_iter().chain((0..300).map(|_| fill(1))).for_each(|fill| fills.push(fill));
        let taken = || fills.take().len();
        assert_eq!([taken(), taken(), taken(), taken(), taken(), taken()], [2, 1, 1, 256, 44, 0]);
        assert_eq!(fills.waiting().bytes, 0);
    }
}
