//! With the clock paused: nothing here waits, and every wait can be told exactly.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn policy() -> Policy {
    Policy {
        timeout: LONG,
        repeatable: true,
        retry: RetryPolicy::default(),
        breaker: BreakerPolicy::default(),
        limit: LimitPolicy::default(),
        hedge_after: None,
    }
}

fn refused() -> Result<u32, CallError> {
    Err(CallError::Connection("refused".into()))
}

/// Calls through `guard`; the attempts come to `script` in turn, each after its wait.
async fn call(
    guard: &Guard,
    timeout: Duration,
    script: Vec<(u64, Result<u32, CallError>)>,
) -> (Result<u32, CallError>, usize) {
    let script = RefCell::new(VecDeque::from(script));
    let made = Cell::new(0);
    let attempt = |_| {
        made.set(made.get() + 1);
        let next = script.borrow_mut().pop_front();
        async move {
            let (ms, result) = next.expect("no more calls than scripted");
            sleep(Duration::from_millis(ms)).await;
            result
        }
    };
    let result = guard.call(Instant::now() + timeout, attempt).await;
    (result, made.get())
}

#[tokio::test(start_paused = true)]
async fn connection_failures_are_repeated_and_other_errors_are_not() {
    let guard = Guard::new(policy());
    let overloaded = |after: u64| {
        let retry_after = Some(Duration::from_secs(after));
        Err(CallError::Overloaded { status: 503, retry_after, text: String::new() })
    };
    assert_eq!(call(&guard, LONG, vec![(1, refused()), (1, refused()), (1, Ok(7))]).await, (Ok(7), 3));
    assert_eq!(call(&guard, LONG, vec![(1, refused()); 3]).await, (refused(), 3));
    let start = Instant::now();
    assert_eq!(call(&guard, LONG, vec![(1, overloaded(5)), (1, Ok(1))]).await, (Ok(1), 2));
    assert!(start.elapsed() >= Duration::from_secs(5), "it came back no sooner than it was told");
    assert_eq!(call(&guard, LONG, vec![(1, overloaded(90))]).await, (overloaded(90), 1));
    for error in [CallError::Status { status: 500, text: String::new() }, CallError::Broken(String::new())] {
        assert_eq!(call(&guard, LONG, vec![(1, Err(error.clone()))]).await, (Err(error), 1));
    }
    let once = Guard::new(Policy { repeatable: false, ..policy() });
    assert_eq!(call(&once, LONG, vec![(1, refused())]).await, (refused(), 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_the_budget_and_not_a_storm() {
    let wide = BreakerPolicy { consecutive: u32::MAX, ratio: 2.0, ..BreakerPolicy::default() };
    let guard = Guard::new(Policy { breaker: wide, ..policy() });
    let mut made = 0;
    for _ in 0..100 {
        made += call(&guard, Duration::from_secs(1), vec![(0, refused()); 3]).await.1;
    }
    assert!(made <= 100 + 10 + 10, "{made} attempts for 100 calls");
    assert!(guard.stats().over_budget > 0);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_answers_at_once_and_a_probe_closes_it() {
    let guard = Guard::new(Policy { repeatable: false, ..policy() });
    for _ in 0..5 {
        assert_eq!(call(&guard, LONG, vec![(0, refused())]).await.1, 1);
    }
    assert_eq!(call(&guard, LONG, vec![]).await, (Err(CallError::BreakerOpen(Duration::from_secs(1))), 0));
    assert_eq!(guard.stats().breaker, BreakerState::Open);
    tokio::time::advance(Duration::from_secs(1)).await;
    let unsendable = || Err(CallError::Unsendable("NaN".into()));
    assert_eq!(call(&guard, LONG, vec![(0, unsendable())]).await, (unsendable(), 1));
    assert_eq!(guard.stats().breaker, BreakerState::HalfOpen, "what was never sent is no probe");
    assert_eq!(call(&guard, LONG, vec![(0, Ok(1))]).await, (Ok(1), 1));
    let stats = guard.stats();
    assert_eq!((stats.breaker, stats.opened, stats.broken), (BreakerState::Closed, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hung_server_opens_the_breaker_and_hurried_callers_do_not() {
    let guard = Guard::new(Policy { repeatable: false, ..policy() });
    assert_eq!(call(&guard, LONG, vec![(5, Ok(1))]).await.0, Ok(1));
    let hang = || vec![(3_600_000, Ok(1))];
    for _ in 0..20 {
        assert_eq!(call(&guard, Duration::from_millis(2), hang()).await.0, Err(CallError::TimedOut));
    }
    assert_eq!(guard.stats().breaker, BreakerState::Closed);
    for _ in 0..5 {
        assert_eq!(call(&guard, Duration::from_millis(100), hang()).await.0, Err(CallError::TimedOut));
    }
    assert_eq!(guard.stats().breaker, BreakerState::Open);
    assert_eq!(guard.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn one_call_too_many_is_refused_at_once_and_a_dropped_one_gives_its_room_back() {
    let limit = LimitPolicy { initial: 1, min: 1, max: 1 };
    let guard = Guard::new(Policy { limit, ..policy() });
    let hang = call(&guard, LONG, vec![(3_600_000, Ok(1))]);
    tokio::select! {
        biased;
        _ = hang => panic!("it hangs"),
        second = call(&guard, LONG, vec![]) => assert_eq!(second, (Err(CallError::Limited(1)), 0)),
    }
    assert_eq!(call(&guard, LONG, vec![(1, Ok(2))]).await, (Ok(2), 1));
    assert_eq!(guard.stats().limited, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_overtakes_a_slow_call_within_the_budget() {
    let hedging = || Policy { hedge_after: Some(Duration::from_millis(50)), ..policy() };
    let guard = Guard::new(hedging());
    let start = Instant::now();
    assert_eq!(call(&guard, LONG, vec![(3_000, Ok(1)), (10, Ok(2))]).await, (Ok(2), 2));
    assert_eq!(start.elapsed(), Duration::from_millis(60));
    assert_eq!(call(&guard, LONG, vec![(49, Ok(1))]).await, (Ok(1), 1), "a fast call has no hedge");
    assert_eq!(call(&guard, LONG, vec![(100, Ok(1)), (10, refused())]).await, (Ok(1), 2));
    assert_eq!((guard.stats().hedges, guard.stats().in_flight), (2, 0));
    let retry = RetryPolicy { min_per_second: 0, ..RetryPolicy::default() };
    let poor = Guard::new(Policy { retry, ..hedging() });
    assert_eq!(call(&poor, LONG, vec![(3_000, Ok(1))]).await, (Ok(1), 1));
    let stateful = Guard::new(Policy { repeatable: false, ..hedging() });
    assert_eq!(call(&stateful, LONG, vec![(3_000, Ok(1))]).await, (Ok(1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_kept_guard_spends_no_call_on_finding_out_that_the_server_is_back() {
    let guard = Guard::kept(Policy { repeatable: false, ..policy() });
    assert_eq!(call(&guard, LONG, vec![(1, Ok(1))]).await, (Ok(1), 1));
    guard.open();
    guard.open();
    assert_eq!(guard.stats().opened, 1, "once, however often it is said");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(guard.stats().breaker, BreakerState::HalfOpen);
    let refused = Err(CallError::BreakerOpen(Duration::ZERO));
    assert_eq!(call(&guard, LONG, vec![]).await, (refused, 0), "another's probe is waited for");
    let soon = || Instant::now() + Duration::from_secs(1);
    let hang: Result<u32, _> = guard.probe(soon(), std::future::pending()).await;
    assert_eq!(hang, Err(CallError::TimedOut));
    let early: Result<u32, _> = guard.probe(soon(), async { Ok(1) }).await;
    assert_eq!(early, Err(CallError::BreakerOpen(Duration::from_secs(2))), "the wait has doubled");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(guard.probe(soon(), async { Ok(2) }).await, Ok(2));
    assert_eq!(call(&guard, LONG, vec![(1, Ok(3))]).await, (Ok(3), 1));
}
