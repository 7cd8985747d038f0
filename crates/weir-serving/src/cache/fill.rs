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

/// An entry to store, and whose it is.
pub(super) struct Fill {
    pub(super) entry: TierEntry,
    pub(super) owner: Arc<Counters>,
}

impl Fill {
    fn bytes(&self) -> usize {
        self.entry.key.len() + self.entry.value.len()
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
            return add(&fill.owner.redis.dropped, 1);
        }
        waiting.bytes += fill.bytes();
        waiting.fills.push_back(fill);
        drop(waiting);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<Fill> {
        let mut waiting = self.waiting();
        let n = waiting.fills.len().min(MAX_STORED);
        let taken: Vec<Fill> = waiting.fills.drain(..n).collect();
        waiting.bytes -= taken.iter().map(Fill::bytes).sum::<usize>();
        taken
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
        let (entries, owners): (Vec<_>, Vec<_>) = taken.into_iter().map(|f| (f.entry, f.owner)).unzip();
        let stored = tier.set_many(&entries).await.is_ok();
        for owner in owners {
            add(if stored { &owner.redis.filled } else { &owner.redis.dropped }, 1);
        }
    }
}
