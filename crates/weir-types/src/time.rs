//! Time is handed in, so that tests can pause it.

use std::time::{Duration, Instant, SystemTime};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Monotonic time, for durations and deadlines.
    fn now(&self) -> Instant;

    /// Calendar time, for what people and logs read.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock. The only place that reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[allow(clippy::disallowed_methods)] // this is the clock that the ban points to
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// When an answer stops being of use to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `timeout` after `now`; a timeout beyond what the clock can hold means "a day".
    pub fn after(now: Instant, timeout: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self(now + timeout.min(DAY))
    }

    /// The instant at which it passes.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Whether it has passed at `now`.
    pub fn is_past(self, now: Instant) -> bool {
        now >= self.0
    }

    /// Time left at `now`, zero if none.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_deadline_is_the_earlier_one() {
        let now = Instant::now();
        let (short, long) =
            (Deadline::after(now, Duration::from_secs(1)), Deadline::after(now, Duration::MAX));
        assert_eq!(short.min(long), short);
        assert!(!short.is_past(now) && short.is_past(now + Duration::from_secs(1)));
    }
}
