//! The loops against simulated servers, with the clock paused: every moment is exact.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, sleep_until},
};

use super::{Pace, Progress, Share, drive};
use crate::{
    outcome::Outcome,
    plan::{Face, Plan, Request, Shape, Target, Traffic},
    result::Measured,
    schedule::{Spread, Stage},
    transport::{Reply, Transport},
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plan(shape: Shape, connections: usize) -> Plan {
    let request = Request { wire: Bytes::new(), slots: Vec::new(), rows: 2, expected: None };
    Plan {
        target: Target {
            address: ([127, 0, 0, 1], 1).into(),
            host: "simulated".into(),
            path: "/".into(),
            face: Face::Typed,
        },
        traffic: Traffic { pool: vec![Arc::new(request)], repeat: 1.0, fresh: None },
        shape,
        connections,
        threads: 1,
        warmup: Duration::ZERO,
        deadline: None,
        timeout: Duration::from_secs(10),
        retries: 0,
        seed: 1,
    }
}

fn open(seconds: f64, rate: f64) -> Shape {
    Shape::Open { stages: vec![Stage { seconds, from: rate, to: rate }], spread: Spread::Constant }
}

/// What a simulated server does with the request that comes at a moment.
type Behaviour = Rc<dyn Fn(Instant) -> (Duration, Outcome)>;

struct Simulated(Behaviour);

impl Transport for Simulated {
    async fn call(&mut self, _: &Request, _: Option<Duration>, give_up: Instant) -> Reply {
        let now = Instant::now();
        let (takes, mut outcome) = (self.0)(now);
        sleep_until((now + takes).min(give_up)).await;
        if now + takes > give_up {
            outcome = Outcome::Timeout;
        }
        Reply { outcome, status: 200, retry_after: outcome == Outcome::Refused }
    }

    fn answer(&self) -> (&[u8], Option<usize>) {
        (b"", None)
    }

    fn reason(&self) -> &str {
        "simulated"
    }
}

async fn measure(plan: &Plan, behaviour: impl Fn(Instant) -> (Duration, Outcome) + 'static) -> Measured {
    let behaviour: Behaviour = Rc::new(behaviour);
    let connect = |_| Simulated(behaviour.clone());
    let work = drive(plan, 0, 1, Arc::new(Progress::default()), plan.connections, connect, Pace::Coarse);
    let (recorder, took) = LocalSet::new().run_until(work).await;
    Measured::new(plan, vec![Share { recorder, cpu: Duration::ZERO, took }])
}

/// A server that answers in 1 ms, but stands still from second 2 to second 3.
fn stalls(start: Instant) -> impl Fn(Instant) -> (Duration, Outcome) {
    move |now| {
        let (from, to) = (start + ms(2000), start + ms(3000));
        let stalled = if now >= from && now < to { to - now } else { Duration::ZERO };
        (stalled + ms(1), Outcome::Ok)
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_delays_every_request_that_was_due_in_it() {
    let measured = measure(&plan(open(5.0, 100.0), 200), stalls(Instant::now())).await;
    assert_eq!((measured.requests, measured.count(Outcome::Ok)), (500, 500));
    // 100 requests were due in the stall, evenly from 1 s to nothing before its end.
    let slow = |bound: f64| 500.0 - 500.0 * measured.within(bound);
    assert!((97.0..=100.0).contains(&slow(20.0)), "{}", slow(20.0));
    assert!((48.0..=52.0).contains(&slow(500.0)), "{}", slow(500.0));
    assert!((995.0..=1005.0).contains(&measured.latency.max_ms), "{}", measured.latency.max_ms);
    assert!(measured.series[2].latency.p50_ms > 450.0 && measured.series[3].latency.p50_ms < 5.0);
}

#[tokio::test(start_paused = true)]
async fn one_connection_hides_nothing_of_the_stall_either() {
    // Everything queues behind the one request that is stuck; latency counts from due all the same.
    let measured = measure(&plan(open(5.0, 100.0), 1), stalls(Instant::now())).await;
    assert_eq!(measured.requests, 500);
    let slow = 500.0 - 500.0 * measured.within(20.0);
    assert!((97.0..=125.0).contains(&slow), "{slow}");
    assert!(measured.generator.waited >= 99 && measured.generator.bottleneck.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_closed_loop_omits_what_the_open_one_shows() {
    let measured = measure(&plan(Shape::Closed { seconds: 5.0 }, 1), stalls(Instant::now())).await;
    let slow = measured.requests as f64 * (1.0 - measured.within(20.0));
    assert!(slow < 1.5, "{slow} requests of {}", measured.requests);
}

#[tokio::test(start_paused = true)]
async fn goodput_counts_what_kept_the_deadline_and_late_requests_are_never_sent() {
    let mut plan = plan(open(2.0, 100.0), 1);
    plan.deadline = Some(ms(50));
    // 20 ms each for one connection at 100 a second: half of them cannot be answered in time.
    let sent = Rc::new(Cell::new(0));
    let counted = sent.clone();
    let measured = measure(&plan, move |_| {
        counted.set(counted.get() + 1);
        (ms(20), Outcome::Ok)
    })
    .await;
    assert_eq!(measured.requests, 200);
    assert_eq!(sent.get() as u64 + measured.count(Outcome::Unsent), 200);
    assert!((0.4..=0.55).contains(&(sent.get() as f64 / 200.0)), "{}", sent.get());
    assert!(measured.goodput < 0.5 && measured.within(50.0) == measured.goodput);
}

#[tokio::test(start_paused = true)]
async fn refusals_have_their_own_latency_and_naive_callers_send_again() {
    let mut plan = plan(open(1.0, 100.0), 10);
    let refuse = |_| (ms(2), Outcome::Refused);
    let measured = measure(&plan, refuse).await;
    assert_eq!((measured.count(Outcome::Refused), measured.attempts), (100, 100));
    assert_eq!((measured.refused_with_retry_after, measured.latency.count), (100, 0));
    assert!((1.9..=3.1).contains(&measured.refused.p50_ms), "{:?}", measured.refused);
    plan.retries = 3;
    let measured = measure(&plan, refuse).await;
    assert_eq!((measured.count(Outcome::Refused), measured.attempts), (100, 400));
    let nth = Cell::new(0);
    let every_second = move |_| {
        nth.set(nth.get() + 1);
        (ms(2), if nth.get() % 2 == 0 { Outcome::Ok } else { Outcome::Refused })
    };
    plan.connections = 1;
    let measured = measure(&plan, every_second).await;
    assert_eq!((measured.count(Outcome::Ok), measured.attempts), (100, 200));
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_a_timeout_and_the_load_ends() {
    let mut plan = plan(open(1.0, 50.0), 100);
    plan.timeout = ms(300);
    let start = Instant::now();
    let measured = measure(&plan, |_| (Duration::from_secs(3600), Outcome::Ok)).await;
    assert_eq!(measured.count(Outcome::Timeout), 50);
    assert!(start.elapsed() < ms(1400));
}

#[tokio::test(start_paused = true)]
async fn the_warm_up_counts_nowhere() {
    let mut plan = plan(open(3.0, 100.0), 10);
    plan.warmup = ms(1000);
    let start = Instant::now();
    let cold = move |now: Instant| (ms(if now < start + ms(1000) { 400 } else { 1 }), Outcome::Ok);
    let measured = measure(&plan, cold).await;
    assert_eq!((measured.requests, measured.seconds), (200, 2.0));
    assert_eq!(measured.series.len(), 2);
    assert!(measured.offered_per_s == 100.0 && measured.rows_per_s == 200.0);
}

#[tokio::test(start_paused = true)]
async fn a_generator_that_lags_says_so() {
    // A transport that blocks the thread, as a machine without a core for the generator does:
    // with the clock paused it is the dispatcher's timer that is late.
    let plan = plan(open(2.0, 1000.0), 4);
    let connect = |_| Simulated(Rc::new(|_| (ms(0), Outcome::Ok)));
    let progress = Arc::new(Progress::default());
    let work = drive(&plan, 0, 1, progress, plan.connections, connect, Pace::Coarse);
    let hog = async {
        // Moves the clock under everybody else, once.
        sleep(ms(500)).await;
        tokio::time::advance(ms(300)).await;
        std::future::pending::<()>().await
    };
    let (recorder, took) = LocalSet::new()
        .run_until(async {
            tokio::select! {
                done = work => done,
                () = hog => unreachable!(),
            }
        })
        .await;
    let measured = Measured::new(&plan, vec![Share { recorder, cpu: Duration::ZERO, took }]);
    assert_eq!(measured.requests, 2000);
    assert!(measured.generator.lag_max_ms > 250.0, "{:?}", measured.generator);
    assert!(measured.generator.bottleneck.as_ref().unwrap().contains("late"));
}

#[tokio::test(start_paused = true)]
async fn threads_share_the_arrivals_without_a_gap() {
    let plan = plan(open(1.0, 100.0), 10);
    let mut shares = Vec::new();
    for at in 0..2 {
        let connect = |_| Simulated(Rc::new(|_| (ms(1), Outcome::Ok)));
        let work = drive(&plan, at, 2, Arc::new(Progress::default()), 5, connect, Pace::Coarse);
        let (recorder, took) = LocalSet::new().run_until(work).await;
        assert_eq!(recorder.outcomes[0], 50);
        shares.push(Share { recorder, cpu: Duration::ZERO, took });
    }
    let measured = Measured::new(&plan, shares);
    assert_eq!((measured.requests, measured.latency.count), (100, 100));
}
