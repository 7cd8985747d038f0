//! Calls with a deadline, repeats, a breaker, a limit and a hedge.

use std::{
    collections::hash_map::RandomState,
    future::Future,
    hash::BuildHasher,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Breaker, BreakerPolicy, BreakerState, CallError, Health, LimitPolicy, Limiter, Pass, RetryBudget,
    RetryPolicy, Sample,
    counts::{Counts, GuardStats, count},
};

/// How a server is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Longest that one attempt may take.
    pub timeout: Duration,
    /// Whether asking twice is as good as asking once.
    pub repeatable: bool,
    /// When a call is repeated; nothing is that is not `repeatable`.
    pub retry: RetryPolicy,
    /// When the server is not asked at all.
    pub breaker: BreakerPolicy,
    /// How many calls are under way at once.
    pub limit: LimitPolicy,
    /// A second call is made when the first has not answered by then (Dean and Barroso, "The
    /// Tail at Scale"), out of the budget of repeats.
    pub hedge_after: Option<Duration>,
}

/// Without a known latency, a wait this long is a sign that the server is not well.
const SLOW: Duration = Duration::from_secs(1);
/// With one, a wait of so many times the usual, and of this long at least.
const SLOW_TIMES: f64 = 10.0;
const SLOW_LEAST: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct State {
    breaker: Breaker,
    limiter: Limiter,
    budget: RetryBudget,
}

/// Makes the calls to one server for one purpose. Time is tokio's, so that tests pause it.
#[derive(Debug)]
pub struct Guard {
    policy: Policy,
    /// Whether calls leave it to [`Guard::probe`] to find out that the server is back.
    kept: bool,
    /// Held for a few additions, never across a wait.
    state: Mutex<State>,
    counts: Counts,
    random: AtomicU64,
}

/// One call that may be made: room in the limit and the breaker's pass. Dropped without an
/// outcome, it gives both back and teaches nothing.
struct Ticket<'a> {
    guard: &'a Guard,
    pass: Option<Pass>,
    started: Instant,
}

impl Guard {
    /// Calls by `policy`.
    pub fn new(policy: Policy) -> Self {
        let state = State {
            breaker: Breaker::new(policy.breaker.clone()),
            limiter: Limiter::new(policy.limit.clone()),
            budget: RetryBudget::new(&policy.retry),
        };
        let random = AtomicU64::new(RandomState::new().hash_one(0u8));
        Self { policy, kept: false, state: Mutex::new(state), counts: Counts::default(), random }
    }

    /// Calls by `policy` that are never spent on a server that may still be away: once the breaker
    /// has opened, somebody has to [`probe`](Self::probe) until it closes.
    pub fn kept(policy: Policy) -> Self {
        Self { kept: true, ..Self::new(policy) }
    }

    /// Makes one attempt, until `deadline`, also as the probe of an open breaker.
    ///
    /// # Errors
    /// The attempt's; [`CallError::BreakerOpen`] with the time to wait.
    pub async fn probe<T>(
        &self,
        deadline: Instant,
        attempt: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let ticket = self.ticket(true)?;
        self.run_until(ticket, deadline, attempt).await
    }

    /// Opens a closed breaker: the server is known to be away, without a call having failed.
    pub fn open(&self) {
        self.lock().breaker.open(Instant::now().into_std());
    }

    /// Makes the call until it is answered, or may not be repeated, or `deadline` is near.
    /// `attempt` is given the instant at which its answer stops being of use. Dropping the
    /// future drops the attempt.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn call<T, F>(&self, deadline: Instant, attempt: impl Fn(Instant) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut repeats = 0;
        loop {
            let error = match self.attempt(deadline, &attempt).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(wait) = self.repeat(&error, repeats, deadline) else { return Err(error) };
            repeats += 1;
            sleep(wait).await;
            count(&self.counts.retries);
        }
    }

    /// One attempt, and its hedge where there is one.
    async fn attempt<T, F>(&self, deadline: Instant, attempt: &impl Fn(Instant) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let ticket = self.ticket(!self.kept)?;
        let mut first = pin!(self.run(ticket, deadline, attempt));
        let Some(after) = self.policy.hedge_after.filter(|_| self.policy.repeatable) else {
            return first.await;
        };
        tokio::select! {
            biased;
            answer = &mut first => return answer,
            () = sleep(after) => {}
        }
        let Some(ticket) = self.hedge() else { return first.await };
        let mut second = pin!(self.run(ticket, deadline, attempt));
        // The first that is good; where one fails, the other's.
        tokio::select! {
            answer = &mut first => if answer.is_ok() { answer } else { second.await },
            answer = &mut second => if answer.is_ok() { answer } else { first.await },
        }
    }

    async fn run<T, F>(
        &self,
        ticket: Ticket<'_>,
        deadline: Instant,
        attempt: &impl Fn(Instant) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let until = deadline.min(ticket.started + self.policy.timeout);
        self.run_until(ticket, until, attempt(until)).await
    }

    async fn run_until<T>(
        &self,
        ticket: Ticket<'_>,
        until: Instant,
        attempt: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        count(&self.counts.attempts);
        let result = timeout_at(until, attempt).await.unwrap_or(Err(CallError::TimedOut));
        if result.is_err() {
            count(&self.counts.failed);
        }
        ticket.settle(&result);
        result
    }

    fn ticket(&self, may_probe: bool) -> Result<Ticket<'_>, CallError> {
        let now = Instant::now();
        let mut state = self.lock();
        let pass = match may_probe {
            true => state.breaker.pass(now.into_std()),
            false => state.breaker.pass_closed(now.into_std()),
        };
        let pass = pass.map_err(|wait| {
            count(&self.counts.broken);
            CallError::BreakerOpen(wait)
        })?;
        if !state.limiter.acquire() {
            state.breaker.settle(pass, Health::Unknown, now.into_std());
            count(&self.counts.limited);
            return Err(CallError::Limited(state.limiter.in_flight()));
        }
        Ok(Ticket { guard: self, pass: Some(pass), started: now })
    }

    /// A second call beside the first, where budget, breaker and limit allow it.
    fn hedge(&self) -> Option<Ticket<'_>> {
        let closed = self.lock().breaker.state(Instant::now().into_std()) == BreakerState::Closed;
        if !closed || !self.withdraw() {
            return None;
        }
        let ticket = self.ticket(false).ok()?;
        count(&self.counts.hedges);
        Some(ticket)
    }

    fn withdraw(&self) -> bool {
        let enough = self.lock().budget.withdraw(Instant::now().into_std());
        if !enough {
            count(&self.counts.over_budget);
        }
        enough
    }

    /// How long to wait before the call is repeated; `None` if it is not.
    fn repeat(&self, error: &CallError, repeats: u32, deadline: Instant) -> Option<Duration> {
        let asked = match error {
            CallError::Connection(_) => Duration::ZERO,
            CallError::Overloaded { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => return None,
        };
        let retry = &self.policy.retry;
        let wait = retry.wait(repeats, self.random()).max(asked);
        let in_time = Instant::now().checked_add(wait).is_some_and(|then| then < deadline);
        (self.policy.repeatable && repeats < retry.most && in_time && self.withdraw()).then_some(wait)
    }

    /// The next of a series that is good enough to spread repeats (SplitMix64: Steele, Lea,
    /// Flood 2014); a library for it would be one more to keep.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What its breaker lets through now.
    pub fn breaker(&self) -> BreakerState {
        self.lock().breaker.state(Instant::now().into_std())
    }

    /// Whether the breaker lets calls through now; says and counts it where it does not.
    ///
    /// # Errors
    /// `BreakerOpen`.
    pub fn closed(&self) -> Result<(), CallError> {
        let Some(wait) = self.lock().breaker.open_for(Instant::now().into_std()) else { return Ok(()) };
        count(&self.counts.broken);
        Err(CallError::BreakerOpen(wait))
    }

    /// Whether there is room for a call now; says and counts it where there is none.
    ///
    /// # Errors
    /// `Limited`.
    pub fn room(&self) -> Result<(), CallError> {
        let (in_flight, limit) = {
            let state = self.lock();
            (state.limiter.in_flight(), state.limiter.limit())
        };
        if in_flight < limit {
            return Ok(());
        }
        count(&self.counts.limited);
        Err(CallError::Limited(in_flight))
    }

    /// Calls that may be under way at once, now.
    pub fn limit(&self) -> u32 {
        self.lock().limiter.limit()
    }

    /// What happened so far.
    pub fn stats(&self) -> GuardStats {
        let state = self.lock();
        self.counts.stats(&state.breaker, &state.limiter)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is guarded stays whole when a holder panics: plain numbers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    fn settle<T>(mut self, result: &Result<T, CallError>) {
        let now = Instant::now();
        let took = now - self.started;
        let mut state = self.guard.lock();
        let (health, sample) = judge(result, took, self.guard.policy.timeout, &state.limiter);
        if let Some(pass) = self.pass.take() {
            state.breaker.settle(pass, health, now.into_std());
            state.limiter.release(sample, now.into_std());
        }
        if result.is_ok() {
            state.budget.deposit(now.into_std());
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            let (mut state, now) = (self.guard.lock(), Instant::now().into_std());
            state.breaker.settle(pass, Health::Unknown, now);
            state.limiter.release(Sample::Nothing, now);
        }
    }
}

/// What an outcome says about the server.
fn judge<T>(
    result: &Result<T, CallError>,
    took: Duration,
    timeout: Duration,
    limiter: &Limiter,
) -> (Health, Sample) {
    match result {
        Ok(_) => (Health::Alive, Sample::Answered(took)),
        // It is alive and says what it can take: less, but not nothing.
        Err(CallError::Overloaded { .. }) => (Health::Alive, Sample::Overloaded),
        Err(CallError::TimedOut) => {
            let usual = limiter.usual().map(|usual| usual.mul_f64(SLOW_TIMES).max(SLOW_LEAST));
            // A caller in a hurry says nothing about the server.
            match took >= usual.unwrap_or(SLOW).min(timeout) {
                true => (Health::Failed, Sample::Overloaded),
                false => (Health::Unknown, Sample::Nothing),
            }
        }
        // A gateway in between that gets no answer. Other errors are answers: Triton says 500
        // to a caller's mistake.
        Err(CallError::Status { status: 502 | 504, .. }) => (Health::Failed, Sample::Nothing),
        Err(CallError::Status { .. }) => (Health::Alive, Sample::Nothing),
        // The server knows nothing of it.
        Err(CallError::Unsendable(_)) => (Health::Unknown, Sample::Nothing),
        Err(_) => (Health::Failed, Sample::Nothing),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
