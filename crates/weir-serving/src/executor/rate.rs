//! How long work takes, learned from how long it took.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use weir_engine::Cost;

/// Powers of two of the cost that are told apart: the last holds all from 2^23 on.
const CLASSES: usize = 24;

/// Measurements after which a new one weighs one in so many; the first ones weigh more.
const MEMORY: u64 = 8;

/// A measurement counts as at most this many times what was expected, be it of its own size or
/// of the nearest: a thread that lost its core for a moment does not make the model look slow
/// for long.
const MOST_GROWTH: f32 = 4.0;

/// A unit of a larger execution is believed to cost at most this many times what it costs in a
/// smaller one. What was measured once, badly, and is refused ever since would otherwise never
/// be measured again.
const MOST_LOSS: f32 = 2.0;

/// Nanoseconds for each unit of cost, by the size of an execution: one row alone costs more
/// than a row among many. An exponentially weighted mean each, so that a machine that slows
/// down is noticed.
#[derive(Debug, Default)]
pub(super) struct Rate {
    classes: [Mean; CLASSES],
    /// How many times longer a turn takes than its execution, because other models hold the
    /// cores.
    stretch: Mean,
    /// Nanoseconds for each unit before anything is known.
    guess: f32,
}

impl Rate {
    /// Before anything is measured, what the engine says.
    pub(super) fn new(cost: Cost) -> Self {
        let guess = match cost {
            Cost::Light => 10e3,
            Cost::Heavy => 5e6,
        };
        Self { guess, ..Self::default() }
    }

    /// Learns that work of `cost` took so long.
    pub(super) fn record(&self, cost: u64, took: Duration) {
        let cost = cost.max(1);
        let sample = took.as_nanos() as f32 / cost as f32;
        let most = self.measured(cost).map_or(f32::MAX, |near| near * MOST_GROWTH);
        self.classes[class(cost)].learn(sample.min(most));
    }

    /// Learns how long a turn took in which the execution took `ran`.
    pub(super) fn record_turn(&self, turn: Duration, ran: Duration) {
        self.stretch.learn((turn.as_secs_f32() / ran.as_secs_f32().max(1e-9)).max(1.0));
    }

    /// About how long work of `cost` takes in one execution.
    pub(super) fn predict(&self, cost: u64) -> Duration {
        let cost = cost.max(1);
        Duration::from_nanos((self.unit_ns(cost) * cost as f32) as u64)
    }

    /// About how long it takes until `cost` has run, in executions of up to `full` on
    /// `instances` workers: what fits into one execution runs in one.
    pub(super) fn drain(&self, cost: u64, full: u64, instances: usize) -> Duration {
        let (one, full) = (cost.min(full.max(1)), full.max(1));
        let rounds = (cost as f64 / full as f64 / instances.max(1) as f64).max(1.0);
        let stretch = self.stretch.get().unwrap_or(1.0);
        self.predict(one).mul_f64(rounds * f64::from(stretch))
    }

    fn unit_ns(&self, cost: u64) -> f32 {
        self.measured(cost).unwrap_or(self.guess)
    }

    /// Of the nearest size that was measured, smaller ones first: those promise too little
    /// rather than too much.
    fn measured(&self, cost: u64) -> Option<f32> {
        let (smaller, larger) = self.classes.split_at(class(cost) + 1);
        let mut least = f32::MAX;
        let mut near = None;
        for unit in smaller.iter().filter_map(Mean::get) {
            near = Some(unit.min(least * MOST_LOSS));
            least = least.min(unit);
        }
        near.or_else(|| larger.iter().find_map(Mean::get))
    }
}

fn class(cost: u64) -> usize {
    (cost.ilog2() as usize).min(CLASSES - 1)
}

/// An exponentially weighted mean: bits of an `f32`, and above them how many measurements
/// went in, up to [`MEMORY`].
#[derive(Debug, Default)]
struct Mean(AtomicU64);

impl Mean {
    fn get(&self) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != 0).then_some(f32::from_bits(bits as u32))
    }

    /// Of two that learn at once one may be lost; the mean does not mind.
    fn learn(&self, sample: f32) {
        let bits = self.0.load(Ordering::Relaxed);
        let (old, count) = (f32::from_bits(bits as u32), bits >> 32);
        let new = match count {
            0 => sample,
            _ => old + (sample.min(old * MOST_GROWTH) - old) / (count + 1).min(MEMORY) as f32,
        };
        let count = (count + 1).min(MEMORY);
        self.0.store(count << 32 | u64::from(new.to_bits()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn sizes_are_learned_apart_and_the_nearest_speaks_for_the_others() {
        let rate = Rate::new(Cost::Heavy);
        assert_eq!(rate.predict(2), Duration::from_millis(10), "the guess");
        rate.record(1, 100 * US);
        assert_eq!(rate.predict(64), 6_400 * US, "the smaller size, rather too much");
        rate.record(64, 640 * US);
        assert_eq!((rate.predict(64), rate.predict(1)), (640 * US, 100 * US));
        assert_eq!(rate.drain(640, 64, 2), 3_200 * US);
        rate.record_turn(300 * US, 100 * US);
        let drain = rate.drain(640, 64, 2);
        assert!(
            drain.abs_diff(9_600 * US) < US,
            "others hold the cores for two thirds of the time: {drain:?}"
        );
    }

    #[test]
    fn a_size_that_was_measured_badly_once_is_not_given_up() {
        let rate = Rate::new(Cost::Heavy);
        (0..8).for_each(|_| rate.record(1, 100 * US));
        rate.record(64, 60_000 * US);
        assert!(rate.predict(64) <= 12_800 * US, "{:?}", rate.predict(64));
    }

    #[test]
    fn one_outlier_changes_little_and_a_new_pace_is_learned() {
        let rate = Rate::new(Cost::Light);
        (0..8).for_each(|_| rate.record(1, 10 * US));
        rate.record(1, 10_000 * US);
        assert!(rate.predict(1) < 14 * US, "{:?}", rate.predict(1));
        (0..60).for_each(|_| rate.record(1, 100 * US));
        assert!(rate.predict(1) > 90 * US, "{:?}", rate.predict(1));
        (0..60).for_each(|_| rate.record(1, 10 * US));
        assert!(rate.predict(1) < 11 * US, "{:?}", rate.predict(1));
    }
}
