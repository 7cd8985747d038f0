//! Several futures of one task, and which of them is done first.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A future of one step.
pub(super) type Step<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Futures that run at the same time. A graph has a few dozen at most, so each wake-up looks
/// at all of them: cheaper than a waker and an allocation for each. Dropping it drops them.
pub(super) struct Running<'a, T> {
    open: Vec<Step<'a, T>>,
    done: VecDeque<T>,
}

impl<'a, T> Running<'a, T> {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), done: VecDeque::new() }
    }

    pub(super) fn push(&mut self, step: Step<'a, T>) {
        self.open.push(step);
    }

    /// The next one that is done; `None` where none is left.
    pub(super) async fn next(&mut self) -> Option<T> {
        poll_fn(|context| {
            // All are looked at, also where an earlier one is done: those that only start
            // when they are polled must not wait for it.
            let done = &mut self.done;
            self.open.retain_mut(|step| match step.as_mut().poll(context) {
                Poll::Ready(value) => {
                    done.push_back(value);
                    false
                }
                Poll::Pending => true,
            });
            match self.done.pop_front() {
                Some(value) => Poll::Ready(Some(value)),
                None if self.open.is_empty() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }
}
