//! Not asking a server that does not answer.

use std::time::{Duration, Instant};

use super::window::Window;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// Opens after so many failures in a row.
    pub consecutive: u32,
    /// Opens when this share of the last ten seconds' calls failed, of 20 at least.
    pub ratio: f64,
    /// How long it is open the first time; each failed probe doubles it.
    pub open: Duration,
    /// It is never open longer without a probe.
    pub open_max: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        let (open, open_max) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { consecutive: 5, ratio: 0.5, open, open_max }
    }
}

/// Calls below which a share says nothing.
const LEAST_CALLS: u64 = 20;
/// Over which the share is taken.
const SPAN: Duration = Duration::from_secs(10);

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One call, whose outcome decides.
    HalfOpen,
}

/// The right to make one call. Give it back with [`Breaker::settle`].
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    /// The breaker's life in which it was given: an outcome that comes after the breaker
    /// opened and closed again says nothing about the server as it is now.
    life: u64,
    probe: bool,
}

/// What came of a call, as far as the server's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered.
    Alive,
    /// It did not, or not as a server of its kind does.
    Failed,
    /// The caller went away before it could be told.
    Unknown,
}

/// A circuit breaker (Nygard, *Release It!*): closed, open after failures, half open for one
/// probe. Pure: the time is handed in.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    consecutive: u32,
    window: Window<2>,
    /// Open until then, and for how long that was.
    open: Option<(Instant, Duration)>,
    probing: bool,
    life: u64,
    opened: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Self {
        let window = Window::new(SPAN);
        Self { policy, consecutive: 0, window, open: None, probing: false, life: 0, opened: 0 }
    }

    /// Asks to make one call.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn pass(&mut self, now: Instant) -> Result<Pass, Duration> {
        let Some((until, length)) = self.open else { return Ok(Pass { life: self.life, probe: false }) };
        if now < until {
            return Err(until - now);
        }
        if self.probing {
            // Its outcome is not known; the time it has been open is the best guess there is.
            return Err(length);
        }
        self.probing = true;
        Ok(Pass { life: self.life, probe: true })
    }

    /// Asks to make one call that is no probe: for those who leave it to others to find out that
    /// the server is back.
    ///
    /// # Errors
    /// How long to wait before asking again; nothing where that depends on the probe alone.
    pub fn pass_closed(&self, now: Instant) -> Result<Pass, Duration> {
        match self.open {
            None => Ok(Pass { life: self.life, probe: false }),
            Some((until, _)) => Err(until.saturating_duration_since(now)),
        }
    }

    /// Opens it if it is closed: the server is known to be away.
    pub fn open(&mut self, now: Instant) {
        if self.open.is_none() {
            self.trip(now, self.policy.open);
        }
    }

    /// Tells what came of a call.
    pub fn settle(&mut self, pass: Pass, health: Health, now: Instant) {
        if pass.life != self.life {
            return;
        }
        if pass.probe {
            self.probing = false;
        }
        match (health, self.open) {
            (Health::Unknown, _) => {}
            (Health::Alive, Some(_)) => self.close(),
            (Health::Failed, Some((_, length))) => self.trip(now, length * 2),
            (Health::Alive, None) => {
                self.consecutive = 0;
                self.window.add(now, 0);
            }
            (Health::Failed, None) => self.count_failure(now),
        }
    }

    fn count_failure(&mut self, now: Instant) {
        self.consecutive = self.consecutive.saturating_add(1);
        self.window.add(now, 1);
        let [alive, failed] = self.window.sums(now);
        let calls = alive + failed;
        let share = calls >= LEAST_CALLS && failed as f64 >= self.policy.ratio * calls as f64;
        if share || self.consecutive >= self.policy.consecutive {
            self.trip(now, self.policy.open);
        }
    }

    fn trip(&mut self, now: Instant, length: Duration) {
        let length = length.min(self.policy.open_max);
        self.open = Some((now + length, length));
        self.opened += 1;
        self.renew();
    }

    fn close(&mut self) {
        self.open = None;
        self.renew();
    }

    /// Calls that are under way belong to the past.
    fn renew(&mut self) {
        self.life += 1;
        self.probing = false;
        self.consecutive = 0;
        self.window.clear();
    }

    /// What it lets through at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some((until, _)) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How often it has opened, failed probes included.
    pub fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, now: Instant) {
        let pass = breaker.pass(now).unwrap();
        breaker.settle(pass, Health::Failed, now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let (mut breaker, now) = (Breaker::new(BreakerPolicy::default()), Instant::now());
        let early = breaker.pass(now).unwrap();
        (0..5).for_each(|_| fail(&mut breaker, now));
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert_eq!(breaker.pass(now), Err(S));
        breaker.settle(early, Health::Alive, now);
        assert_eq!(breaker.state(now), BreakerState::Open, "an answer from before it opened does not count");
        let probe = breaker.pass(now + S).unwrap();
        assert!(breaker.pass(now + S).is_err(), "one probe at a time");
        breaker.settle(probe, Health::Alive, now + S);
        assert_eq!(breaker.state(now + S), BreakerState::Closed);
        assert!(breaker.pass(now + S).is_ok() && breaker.opened() == 1);
    }

    #[test]
    fn failed_probes_double_the_wait_up_to_its_limit_and_lost_ones_are_repeated() {
        let (mut breaker, mut now) = (Breaker::new(BreakerPolicy::default()), Instant::now());
        (0..5).for_each(|_| fail(&mut breaker, now));
        for seconds in [2, 4, 8, 16, 30, 30] {
            now += breaker.pass(now).unwrap_err();
            let lost = breaker.pass(now).unwrap();
            breaker.settle(lost, Health::Unknown, now);
            fail(&mut breaker, now);
            assert_eq!(breaker.pass(now), Err(S * seconds));
        }
    }

    #[test]
    fn a_share_of_failures_opens_it_too() {
        let (mut breaker, now) = (Breaker::new(BreakerPolicy::default()), Instant::now());
        for i in 0..19 {
            let pass = breaker.pass(now).unwrap();
            let health = if i % 2 == 0 { Health::Failed } else { Health::Alive };
            breaker.settle(pass, health, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed, "too few calls to judge by");
        fail(&mut breaker, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    proptest! {
        /// Whatever happens: while it is open nothing passes, half open one call at most.
        #[test]
        fn it_never_lets_through_more_than_it_should(steps in prop::collection::vec((0u64..3_000, 0u8..5), 0..300)) {
            let mut breaker = Breaker::new(BreakerPolicy::default());
            let mut now = Instant::now();
            let mut under_way: Vec<Pass> = Vec::new();
            for (gap, action) in steps {
                now += Duration::from_millis(gap);
                let state = breaker.state(now);
                prop_assert_eq!(breaker.pass_closed(now).is_ok(), state == BreakerState::Closed);
                match action {
                    0 | 1 => match breaker.pass(now) {
                        Ok(pass) => {
                            prop_assert!(state != BreakerState::Open);
                            let probes = under_way.iter().filter(|p| p.probe && p.life == pass.life).count();
                            prop_assert!(!pass.probe || probes == 0);
                            prop_assert_eq!(pass.probe, state == BreakerState::HalfOpen);
                            under_way.push(pass);
                        }
                        Err(wait) => {
                            prop_assert!(state != BreakerState::Closed);
                            prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30));
                        }
                    },
                    _ if under_way.is_empty() => {}
                    how => {
                        let health = [Health::Alive, Health::Failed, Health::Unknown][how as usize - 2];
                        breaker.settle(under_way.remove(0), health, now);
                    }
                }
            }
        }
    }
}
