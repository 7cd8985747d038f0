//! How often and when a call is repeated.

use std::time::{Duration, Instant};

use super::window::Window;

/// How long successes and repeats are remembered.
const MEMORY: Duration = Duration::from_secs(10);

/// When calls are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Most times that one call is repeated; 0 never.
    pub most: u32,
    /// Repeats allowed for each success, for example 0.1.
    pub ratio: f64,
    /// Repeats a second that are allowed whatever succeeded.
    pub min_per_second: u32,
    /// The wait before the first repeat is up to this, before each further one up to double.
    pub base: Duration,
    /// The wait is never longer.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            most: 2,
            ratio: 0.1,
            min_per_second: 1,
            base: Duration::from_millis(20),
            max: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// The wait before repeat number `repeat` (from 0): any length up to the limit with the
    /// same likelihood ("full jitter", Brooker, AWS Architecture Blog 2015: of the forms
    /// compared there the one with the fewest calls). `random` is uniform over all of `u64`.
    pub fn wait(&self, repeat: u32, random: u64) -> Duration {
        let factor = 1u32.checked_shl(repeat.min(31)).unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(factor).min(self.max);
        most.mul_f64(random as f64 / u64::MAX as f64)
    }
}

/// Bounds repeats by what succeeds, as Finagle's `RetryBudget` does: a server that fails
/// every call then gets `ratio` more of them and not three times as many, which would keep it
/// down.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    ratio: f64,
    reserve: f64,
    /// Successes and repeats.
    window: Window<2>,
}

impl RetryBudget {
    /// A budget as `policy` has it.
    pub fn new(policy: &RetryPolicy) -> Self {
        let reserve = f64::from(policy.min_per_second) * MEMORY.as_secs_f64();
        Self { ratio: policy.ratio.max(0.0), reserve, window: Window::new(MEMORY) }
    }

    /// A call succeeded.
    pub fn deposit(&mut self, now: Instant) {
        self.window.add(now, 0);
    }

    /// Takes one repeat, if one is left.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let enough = self.balance(now) >= 1.0;
        if enough {
            self.window.add(now, 1);
        }
        enough
    }

    /// Repeats that are left.
    pub fn balance(&mut self, now: Instant) -> f64 {
        let [successes, repeats] = self.window.sums(now);
        self.reserve + successes as f64 * self.ratio - repeats as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repeats_are_a_share_of_what_succeeds() {
        let policy = RetryPolicy { ratio: 0.2, min_per_second: 0, ..RetryPolicy::default() };
        let (mut budget, now) = (RetryBudget::new(&policy), Instant::now());
        assert!(!budget.withdraw(now));
        (0..10).for_each(|_| budget.deposit(now));
        assert!(budget.withdraw(now) && budget.withdraw(now) && !budget.withdraw(now));
        (0..5).for_each(|_| budget.deposit(now));
        assert!(!budget.withdraw(now + MEMORY * 2), "what succeeded long ago pays for nothing");
    }

    #[test]
    fn a_reserve_is_there_without_any_success_and_comes_back() {
        let policy = RetryPolicy { ratio: 0.0, min_per_second: 2, ..RetryPolicy::default() };
        let (mut budget, now) = (RetryBudget::new(&policy), Instant::now());
        assert_eq!((0..100).filter(|_| budget.withdraw(now)).count(), 20);
        assert_eq!((0..100).filter(|_| budget.withdraw(now + MEMORY)).count(), 20);
    }

    proptest! {
        #[test]
        fn no_history_lets_more_through_than_the_rule(calls in prop::collection::vec((0u64..500, any::<bool>()), 0..300)) {
            let policy = RetryPolicy { ratio: 0.3, min_per_second: 1, ..RetryPolicy::default() };
            let mut budget = RetryBudget::new(&policy);
            let mut now = Instant::now();
            let (mut successes, mut repeats) = (0u32, Vec::new());
            for (gap, success) in calls {
                now += Duration::from_millis(gap);
                if success {
                    budget.deposit(now);
                    successes += 1;
                } else if budget.withdraw(now) {
                    repeats.push(now);
                }
            }
            let recent = repeats.iter().filter(|at| now - **at < MEMORY * 9 / 10).count() as f64;
            prop_assert!(recent <= 10.0 + 0.3 * f64::from(successes));
        }

        #[test]
        fn waits_stay_below_their_doubling_limit(repeat in 0u32..80, random in any::<u64>()) {
            let policy = RetryPolicy::default();
            let wait = policy.wait(repeat, random);
            prop_assert!(wait <= policy.max);
            prop_assert!(wait <= policy.base.saturating_mul(1 << repeat.min(20)));
            prop_assert_eq!(policy.wait(repeat, 0), Duration::ZERO);
        }
    }
}
