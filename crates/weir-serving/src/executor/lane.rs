//! The hand-over: callers push, workers take. One lock, one condition.
//!
//! A channel with a timer task beside it was rejected: what was taken off a channel can neither
//! be ordered, nor withdrawn, nor merged with what comes next.

use std::{sync::PoisonError, time::Duration};

use super::{
    queue::{Entry, Limits, Place, Queue, Taken, Ticket},
    sync::{Condvar, Mutex, lock, wait},
};

/// A queue that several threads share.
pub(super) struct Lane<T> {
    state: Mutex<State<T>>,
    /// Something came, or the lane closed.
    changed: Condvar,
}

/// What is waiting and running at one moment.
pub(super) struct State<T> {
    pub(super) queue: Queue<T>,
    /// Cost of what was taken and is not done.
    pub(super) running: u64,
    /// Workers that wait for work.
    idle: usize,
    /// Workers that wait for a batch to fill.
    filling: usize,
    open: bool,
}

/// What came of a push.
#[derive(Debug)]
pub(super) struct Pushed {
    /// Where the entries wait, in their order.
    pub(super) places: Vec<Place>,
    /// Whether there is more work than workers that wait for some.
    pub(super) short_handed: bool,
}

impl<T> Lane<T> {
    /// A lane of this many priorities.
    pub(super) fn new(levels: usize) -> Self {
        let state = State { queue: Queue::new(levels), running: 0, idle: 0, filling: 0, open: true };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds entries if `admit` agrees to the moment's state.
    ///
    /// # Errors
    /// What `admit` says.
    pub(super) fn push<E>(
        &self,
        entries: Vec<(Ticket, T)>,
        admit: impl FnOnce(&State<T>) -> Result<(), E>,
    ) -> Result<Pushed, E> {
        let mut state = lock(&self.state);
        admit(&state)?;
        let many = entries.len() > 1;
        let places = entries.into_iter().map(|(ticket, item)| state.queue.push(ticket, item)).collect();
        let short_handed = state.queue.len() > state.idle;
        // Whom one notification reaches may be waiting for another kind of work.
        let many = many || state.filling > 0;
        drop(state);
        if many {
            self.changed.notify_all()
        } else {
            self.changed.notify_one()
        }
        Ok(Pushed { places, short_handed })
    }

    /// Asks about the moment's state.
    pub(super) fn look<R>(&self, at: impl FnOnce(&State<T>) -> R) -> R {
        at(&lock(&self.state))
    }

    /// Waits until something waits; `false` when the lane is closed and empty.
    pub(super) fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        while state.queue.is_empty() && state.open {
            state.idle += 1;
            state = wait(&self.changed, state);
            state.idle -= 1;
        }
        !state.queue.is_empty()
    }

    /// Waits for a batch to fill up to its `limits`, for as long as its first entry has `left`.
    pub(super) fn fill(&self, limits: impl Fn(&Ticket) -> Limits, left: impl FnOnce(&T) -> Duration) {
        let mut state = lock(&self.state);
        let Some(left) = state.queue.peek().map(left) else { return };
        let until =
            |state: &mut State<T>| state.open && !state.queue.is_empty() && !state.queue.is_full(&limits);
        state.filling += 1;
        let waited = self.changed.wait_timeout_while(state, left, until);
        waited.unwrap_or_else(PoisonError::into_inner).0.filling -= 1;
    }

    /// Takes what runs next; see [`Queue::take`]. [`done`](Self::done) is owed for its cost.
    pub(super) fn take(&self, limits: impl Fn(&Ticket) -> Limits, dead: impl Fn(&T) -> bool) -> Taken<T> {
        let mut state = lock(&self.state);
        let taken = state.queue.take(limits, dead);
        state.running += cost(&taken.batch);
        // A notification may have reached a worker that was waiting for its batch to fill.
        let more = !state.queue.is_empty() && state.idle > 0;
        drop(state);
        if more {
            self.changed.notify_one();
        }
        taken
    }

    /// Puts entries that were taken back where they were.
    pub(super) fn put_back(&self, entries: Vec<Entry<T>>) {
        let mut state = lock(&self.state);
        state.running -= cost(&entries);
        entries.into_iter().for_each(|entry| state.queue.put_back(entry));
        drop(state);
        self.changed.notify_one();
    }

    /// What was taken for this much cost has run.
    pub(super) fn done(&self, cost: u64) {
        lock(&self.state).running -= cost;
    }

    /// Takes out what still waits of these.
    pub(super) fn withdraw(&self, places: &[Place]) -> Vec<T> {
        let mut state = lock(&self.state);
        // The last first: each is then the last of its caller, and refunded.
        places.iter().rev().filter_map(|place| state.queue.withdraw(*place)).collect()
    }

    /// Workers end when nothing waits any more.
    pub(super) fn close(&self) {
        lock(&self.state).open = false;
        self.changed.notify_all();
    }
}

/// What `entries` cost together.
pub(super) fn cost<T>(entries: &[Entry<T>]) -> u64 {
    entries.iter().map(|entry| entry.ticket.cost).sum()
}

#[cfg(all(test, shuttle))]
mod tests;
