//! How many calls a server gets at once.

use std::time::{Duration, Instant};

/// Bounds of a [`Limiter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Calls at once before anything is known.
    pub initial: u32,
    /// Never fewer; at least 1.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { initial: 64, min: 2, max: 256 }
    }
}

/// A latency up to this many times the usual one is no sign of a queue.
const TOLERANCE: f64 = 1.5;
/// Weight of a new estimate against the limit so far.
const SMOOTHING: f64 = 0.2;
/// Samples over which the usual latency is taken.
const LONG: f64 = 600.0;
/// Samples in the beginning, over which a plain mean is taken.
const WARM_UP: f64 = 10.0;
/// What the limit becomes of itself when the server says it is overloaded.
const BACK_OFF: f64 = 0.9;

/// An adaptive limit of calls at once, after `Gradient2Limit` of Netflix's concurrency-limits:
/// while calls take as long as usual it grows by the root of itself, when they take longer it
/// shrinks in proportion. Pure: the time is handed in.
///
/// Two differences: an answer of "overloaded" shrinks it too, once in the time that a call
/// takes, and the queue that it allows for grows with the limit (their default is a
/// constant), so that from a low limit it finds a fast server's soon.
#[derive(Debug, Clone)]
pub struct Limiter {
    policy: LimitPolicy,
    limit: f64,
    in_flight: u32,
    long_s: f64,
    samples: f64,
    backed_off: Option<Instant>,
}

/// How a call ended, as far as the limit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Answered after this long.
    Answered(Duration),
    /// The server said that it is overloaded, or did not answer in time.
    Overloaded,
    /// Nothing can be learned.
    Nothing,
}

impl Limiter {
    /// A limit within `policy`.
    pub fn new(policy: LimitPolicy) -> Self {
        let min = policy.min.max(1);
        let policy = LimitPolicy { min, max: policy.max.max(min), ..policy };
        let limit = f64::from(policy.initial.clamp(policy.min, policy.max));
        Self { policy, limit, in_flight: 0, long_s: 0.0, samples: 0.0, backed_off: None }
    }

    /// Takes room for one call, if there is some. Give it back with [`release`](Self::release).
    #[must_use]
    pub fn acquire(&mut self) -> bool {
        let free = self.in_flight < self.limit();
        self.in_flight += u32::from(free);
        free
    }

    /// A call has ended.
    pub fn release(&mut self, sample: Sample, now: Instant) {
        let in_flight = self.in_flight;
        self.in_flight = in_flight.saturating_sub(1);
        match sample {
            Sample::Nothing => {}
            Sample::Answered(took) => self.learn(took.as_secs_f64().max(1e-9), in_flight),
            Sample::Overloaded => self.back_off(now),
        }
    }

    fn learn(&mut self, took_s: f64, in_flight: u32) {
        self.remember(took_s);
        // With half of the room unused, the latency says nothing about the limit.
        if f64::from(in_flight) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.long_s / took_s).clamp(0.5, 1.0);
        let estimate = self.limit * gradient + self.limit.sqrt();
        self.set(self.limit * (1.0 - SMOOTHING) + estimate * SMOOTHING);
    }

    fn remember(&mut self, took_s: f64) {
        self.samples = (self.samples + 1.0).min(LONG);
        let weight = if self.samples <= WARM_UP { 1.0 / self.samples } else { 2.0 / (LONG + 1.0) };
        self.long_s += (took_s - self.long_s) * weight;
        // After a bad time the mean must not stay high for hundreds of calls.
        if self.long_s > 2.0 * took_s {
            self.long_s *= 0.95;
        }
    }

    /// Once in the usual time of a call: the calls that were under way together are told
    /// together.
    fn back_off(&mut self, now: Instant) {
        let pause = Duration::from_secs_f64(self.long_s.clamp(0.001, 10.0));
        if self.backed_off.is_some_and(|last| now < last + pause) {
            return;
        }
        self.backed_off = Some(now);
        self.set(self.limit * BACK_OFF);
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(f64::from(self.policy.min), f64::from(self.policy.max));
    }

    /// How long a call takes usually, once one was answered.
    pub fn usual(&self) -> Option<Duration> {
        (self.samples > 0.0).then(|| Duration::from_secs_f64(self.long_s))
    }

    /// Calls at once, now.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A server that answers `slots` calls at a time in 10 ms each and queues the others,
    /// asked by as many callers as get through.
    fn load(limiter: &mut Limiter, slots: u32, rounds: u32, mut now: Instant) -> Instant {
        for _ in 0..rounds {
            let mut taken = 0;
            while limiter.acquire() {
                taken += 1;
            }
            for n in 0..taken {
                let took = MS * 10 * (n / slots + 1);
                limiter.release(Sample::Answered(took), now + took);
            }
            now += MS * 10;
        }
        now
    }

    #[test]
    fn it_finds_room_where_there_is_some_and_gives_up_what_only_queues() {
        let mut limiter = Limiter::new(LimitPolicy { initial: 4, min: 1, max: 1_000 });
        let now = load(&mut limiter, 1_000, 200, Instant::now());
        assert!(limiter.limit() > 500, "{limiter:?}");
        load(&mut limiter, 20, 200, now);
        assert!(limiter.limit() < 200, "a queue of nine calls a slot is too long: {limiter:?}");
    }

    #[test]
    fn overload_shrinks_it_once_in_a_calls_time() {
        let mut limiter = Limiter::new(LimitPolicy { initial: 100, min: 1, max: 100 });
        let now = Instant::now();
        assert!((0..4).all(|_| limiter.acquire()));
        limiter.release(Sample::Answered(10 * MS), now);
        limiter.release(Sample::Overloaded, now);
        limiter.release(Sample::Overloaded, now + MS);
        assert_eq!(limiter.limit(), 90);
        limiter.release(Sample::Overloaded, now + 10 * MS);
        assert_eq!(limiter.limit(), 81);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_counts_right(steps in prop::collection::vec((0u8..4, 0u64..100_000), 0..500)) {
            let policy = LimitPolicy { initial: 5, min: 2, max: 20 };
            let mut limiter = Limiter::new(policy);
            let (mut now, mut under_way) = (Instant::now(), 0u32);
            for (action, micros) in steps {
                now += Duration::from_micros(micros);
                if action == 0 || under_way == 0 {
                    let before = under_way;
                    if limiter.acquire() {
                        under_way += 1;
                    }
                    prop_assert_eq!(before < limiter.limit(), under_way > before);
                } else {
                    let took = Duration::from_micros(micros);
                    limiter.release([Sample::Answered(took), Sample::Overloaded, Sample::Nothing][action as usize - 1], now);
                    under_way -= 1;
                }
                prop_assert_eq!(limiter.in_flight(), under_way);
                prop_assert!((2..=20).contains(&limiter.limit()));
            }
        }
    }
}
