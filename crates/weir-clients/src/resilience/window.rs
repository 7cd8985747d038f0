//! Counting over the last while.

use std::time::{Duration, Instant};

/// Slots of a window: what is old falls out a tenth of the span at a time.
const SLOTS: usize = 10;

/// `N` counters over the last `span`. Sums are exact but for the oldest tenth, which falls out
/// as a whole.
#[derive(Debug, Clone)]
pub(super) struct Window<const N: usize> {
    slots: [[u64; N]; SLOTS],
    slot: Duration,
    /// The time of slot 0, and how many slots have begun since.
    epoch: Option<Instant>,
    begun: u64,
}

impl<const N: usize> Window<N> {
    /// A window of `span`, at least a millisecond.
    pub(super) fn new(span: Duration) -> Self {
        let slot = span.max(Duration::from_millis(1)) / SLOTS as u32;
        Self { slots: [[0; N]; SLOTS], slot, epoch: None, begun: 0 }
    }

    /// Counts one event of `kind`.
    pub(super) fn add(&mut self, now: Instant, kind: usize) {
        let slot = self.advance(now);
        if let Some(count) = self.slots[slot].get_mut(kind) {
            *count += 1;
        }
    }

    /// Events of each kind within the span.
    pub(super) fn sums(&mut self, now: Instant) -> [u64; N] {
        self.advance(now);
        let mut sums = [0; N];
        for slot in &self.slots {
            sums.iter_mut().zip(slot).for_each(|(sum, count)| *sum += count);
        }
        sums
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots = [[0; N]; SLOTS];
    }

    /// Empties the slots that have begun since the last call and gives the current one's
    /// index. A clock that goes back changes nothing.
    fn advance(&mut self, now: Instant) -> usize {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch).as_nanos() / self.slot.as_nanos().max(1);
        let begun = u64::try_from(since).unwrap_or(u64::MAX).max(self.begun);
        let stale = (begun - self.begun).min(SLOTS as u64);
        for back in 0..stale {
            self.slots[((begun - back) % SLOTS as u64) as usize] = [0; N];
        }
        self.begun = begun;
        (begun % SLOTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of all events: never more than the span holds, never less than
        /// nine tenths of it do.
        #[test]
        fn sums_are_those_of_the_last_while(gaps in prop::collection::vec((0u64..400, 0usize..2), 1..200)) {
            let (start, span) = (Instant::now(), Duration::from_millis(1_000));
            let mut window = Window::<2>::new(span);
            let mut events: Vec<(Instant, usize)> = Vec::new();
            let mut now = start;
            for (gap, kind) in gaps {
                now += Duration::from_millis(gap);
                window.add(now, kind);
                events.push((now, kind));
                let within = |least: Duration, kind: usize| {
                    events.iter().filter(|(at, k)| *k == kind && now - *at < least).count() as u64
                };
                for (kind, sum) in window.sums(now).into_iter().enumerate() {
                    prop_assert!(sum >= within(span * 9 / 10, kind));
                    prop_assert!(sum <= within(span, kind));
                }
            }
        }
    }
}
