//! What is due and what is free: the meeting point of the dispatcher and the slots.

use std::{
    cell::RefCell,
    collections::VecDeque,
    task::{Poll, Waker},
};

use super::slot::Job;

/// Most requests that wait for a connection; one more was never sent.
const MOST_WAITING: usize = 1 << 20;

/// Jobs and slots of one thread.
#[derive(Default)]
pub(super) struct Queue(RefCell<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Slots without work. The one freed last is used first: few connections stay warm rather
    /// than many going cold.
    free: Vec<usize>,
    seats: Vec<Seat>,
    closed: bool,
}

#[derive(Default)]
struct Seat {
    job: Option<Job>,
    waker: Option<Waker>,
    /// Whether it is in `free`.
    free: bool,
}

/// Where a job went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed {
    ToSlot,
    Waits,
    Full,
}

impl Queue {
    /// For slots numbered from 0, all of them free.
    pub(super) fn new(slots: usize) -> Self {
        let seats = (0..slots).map(|_| Seat { free: true, ..Seat::default() }).collect();
        Self(RefCell::new(State { seats, free: (0..slots).rev().collect(), ..State::default() }))
    }

    /// Gives `job` to a free slot, or queues it.
    pub(super) fn submit(&self, job: Job) -> Handed {
        let mut state = self.0.borrow_mut();
        if let Some(slot) = state.free.pop()
            && let Some(seat) = state.seats.get_mut(slot)
        {
            (seat.job, seat.free) = (Some(job), false);
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
            return Handed::ToSlot;
        }
        if state.waiting.len() >= MOST_WAITING {
            return Handed::Full;
        }
        state.waiting.push_back(job);
        Handed::Waits
    }

    /// No more jobs come.
    pub(super) fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        state.seats.iter_mut().filter_map(|seat| seat.waker.take()).for_each(Waker::wake);
    }

    /// The next job of slot `number`; `None` once there are no more.
    pub(super) async fn next(&self, number: usize) -> Option<Job> {
        std::future::poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            let state = &mut *state;
            let Some(seat) = state.seats.get_mut(number) else { return Poll::Ready(None) };
            if let Some(job) = seat.job.take() {
                return Poll::Ready(Some(job));
            }
            // A free seat has nothing to fetch: what comes is handed to it.
            if !seat.free {
                if let Some(job) = state.waiting.pop_front() {
                    return Poll::Ready(Some(job));
                }
                seat.free = true;
                state.free.push(number);
            }
            if state.closed {
                return Poll::Ready(None);
            }
            seat.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
