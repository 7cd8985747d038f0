//! Who may compute: as many threads as there are cores, in the order in which they asked.

use std::collections::VecDeque;

use super::sync::{Condvar, Mutex, lock, wait};

/// The compute threads that all models of a process share, so that two of them do not
/// oversubscribe the machine.
#[derive(Debug)]
pub struct Cores {
    total: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, first come first served: a model of many threads is not passed for ever by
    /// models of one.
    waiting: VecDeque<u64>,
    next: u64,
}

impl Cores {
    /// `total` threads, at least one. `std::thread::available_parallelism` honours a
    /// container's limit.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        let state = State { free: total, waiting: VecDeque::new(), next: 0 };
        Self { total, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Waits for `threads` of them, or for all where there are fewer.
    pub(crate) fn take(&self, threads: usize) -> Permit<'_> {
        let threads = threads.clamp(1, self.total);
        let mut state = lock(&self.state);
        let turn = state.next;
        state.next += 1;
        state.waiting.push_back(turn);
        while state.waiting.front() != Some(&turn) || state.free < threads {
            state = wait(&self.changed, state);
        }
        state.waiting.pop_front();
        state.free -= threads;
        // The next in line may fit too.
        let more = state.free > 0 && !state.waiting.is_empty();
        drop(state);
        if more {
            self.changed.notify_all();
        }
        Permit { cores: self, threads }
    }
}

/// The right to compute. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    cores: &'a Cores,
    threads: usize,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.cores.state);
        state.free += self.threads;
        let anybody = !state.waiting.is_empty();
        drop(state);
        if anybody {
            self.cores.changed.notify_all();
        }
    }
}
