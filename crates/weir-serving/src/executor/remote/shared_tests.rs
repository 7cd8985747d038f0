//! Calls that several callers share, against a server that answers when it is told to.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use tokio::{sync::Semaphore, task::JoinHandle};
use weir_clients::BreakerState;
use weir_types::{Clock, ErrorCode, Principal, SystemClock};

use super::{
    super::{
        Remote,
        double::{Double, Say},
        tests::{LONG, add_one, described, job},
    },
    *,
};
use crate::{Executor, executor::tests::contract};

/// One call at a time.
const NARROW: &str = "[remote.limit]\ninitial = 1\nmin = 1\nmax = 1\n";

fn shared(double: &Double, extra: &str, told: Option<usize>) -> Arc<Remote> {
    shared_by(Arc::new(SystemClock), double, extra, told)
}

fn shared_by(clock: Arc<dyn Clock>, double: &Double, extra: &str, told: Option<usize>) -> Arc<Remote> {
    let mut described = described(&double.url, extra, "", told);
    described.shares = true;
    Arc::new(described.executor(clock, Arc::default(), 1_000).unwrap())
}

/// The system's clock, which panics once when it is armed.
#[derive(Default)]
struct Trap {
    armed: AtomicBool,
}

impl Clock for Trap {
    fn now(&self) -> Instant {
        assert!(!self.armed.swap(false, Ordering::Relaxed), "the trap snaps");
        SystemClock.now()
    }

    fn wall(&self) -> SystemTime {
        SystemClock.wall()
    }
}

/// A server that adds one, each answer held until it is allowed.
async fn held() -> (Double, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    let script = move |asked: &super::super::double::Asked| match add_one(asked) {
        Say::Bytes(bytes) => Say::Allowed(own.clone(), bytes),
        other => other,
    };
    (Double::start(script).await, gate)
}

type Asking = JoinHandle<Result<Vec<f32>, Error>>;

fn ask(remote: &Arc<Remote>, job: Job) -> Asking {
    let remote = remote.clone();
    tokio::spawn(async move {
        let done = remote.execute(job).await?;
        Ok(done.outputs.tensors[0].as_f32().unwrap().to_vec())
    })
}

async fn until(mut reached: impl FnMut() -> bool) {
    while !reached() {
        tokio::task::yield_now().await;
    }
}

/// The rows of each call, in their order.
fn calls(double: &Double) -> Vec<Vec<f32>> {
    let rows = |asked: &super::super::double::Asked| {
        asked.json().1.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    double.asked.lock().unwrap().iter().map(rows).collect()
}

/// Asks for each of these rows, the first of which is under way before the others come.
async fn queue(remote: &Arc<Remote>, double: &Double, rows: &[f32]) -> Vec<Asking> {
    let mut asking = Vec::new();
    for (n, x) in rows.iter().enumerate() {
        asking.push(ask(remote, job(&[*x], LONG)));
        until(|| double.count() == 1 && remote.waiting() == n).await;
    }
    asking
}

#[tokio::test]
async fn calls_that_are_shared_keep_the_contract() {
    let double = Double::start(add_one).await;
    contract(&*shared(&double, "", None), &SystemClock).await;
    assert_eq!(double.count(), 3, "what is late is not asked, and a failure of one is not repeated");
}

#[tokio::test]
async fn what_waits_for_room_goes_together() {
    let (double, gate) = held().await;
    let remote = shared(&double, &format!("{NARROW}[batching]\nmax_rows = 4\n"), None);
    let asking = queue(&remote, &double, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).await;
    gate.add_permits(3);
    for (n, asking) in asking.into_iter().enumerate() {
        assert_eq!(asking.await.unwrap().unwrap(), [n as f32 + 1.0]);
    }
    assert_eq!(calls(&double), [vec![0.0], vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]]);
    let stats = remote.stats();
    assert_eq!((stats.executed.load(Ordering::Relaxed), stats.answered.count()), (3, 7));
    let sizes: Vec<_> = stats.batches.sizes().iter().map(|(rows, n, _)| (*rows, *n)).collect();
    assert_eq!(sizes, [(1, 1), (2, 1), (4, 1)]);
}

#[tokio::test]
async fn while_there_is_room_nobody_waits() {
    let (double, gate) = held().await;
    let remote = shared(&double, "[batching]\ninstances = 3\n", None);
    let asking: Vec<_> = (0..4).map(|n| ask(&remote, job(&[n as f32], LONG))).collect();
    until(|| double.count() == 3 && remote.waiting() == 1).await;
    gate.add_permits(4);
    for asking in asking {
        asking.await.unwrap().unwrap();
    }
    assert_eq!(double.count(), 4);
}

#[tokio::test]
async fn a_poisonous_item_fails_alone_and_what_the_server_lacks_is_not_asked_for_again() {
    let (double, gate) = held().await;
    let remote = shared(&double, NARROW, None);
    let rows = [0.0, 1.0, 2.0, -3.0, 4.0, 5.0];
    let asking = queue(&remote, &double, &rows).await;
    gate.add_permits(20);
    for (x, asking) in rows.iter().zip(asking) {
        match asking.await.unwrap() {
            Ok(answer) => assert_eq!(answer, [x + 1.0]),
            Err(error) => assert_eq!((error.code, *x), (ErrorCode::Internal, -3.0)),
        }
    }
    assert!(double.count() <= 1 + 2 * 5, "{:?}", calls(&double));
    assert_eq!((remote.stats().failed.count(), remote.stats().answered.count()), (1, 5));
    assert!(remote.stats().retried.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn more_rows_than_a_call_takes_are_cut_and_come_back_in_order() {
    let double = Double::start(add_one).await;
    let remote = shared(&double, "[batching]\nmax_rows = 100\n", Some(2));
    let answer = ask(&remote, job(&[1.0, 2.0, 3.0, 4.0, 5.0], LONG)).await.unwrap().unwrap();
    assert_eq!(answer, [2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut sizes: Vec<_> = calls(&double).iter().map(Vec::len).collect();
    sizes.sort();
    assert_eq!(sizes, [1, 2, 2]);
}

#[tokio::test]
async fn who_goes_away_or_is_late_is_not_asked_for() {
    let (double, gate) = held().await;
    let remote = shared(&double, NARROW, None);
    let first = queue(&remote, &double, &[0.0]).await.remove(0);
    let (gone, last) = (ask(&remote, job(&[1.0], LONG)), ask(&remote, job(&[3.0], LONG)));
    until(|| remote.waiting() == 2).await;
    let late = ask(&remote, job(&[2.0], Duration::from_millis(20)));
    assert_eq!(late.await.unwrap().unwrap_err().code, ErrorCode::DeadlineExceeded);
    gone.abort();
    until(|| remote.waiting() == 1).await;
    gate.add_permits(2);
    assert_eq!((first.await.unwrap().unwrap(), last.await.unwrap().unwrap()), (vec![1.0], vec![4.0]));
    assert_eq!(calls(&double), [[0.0], [3.0]]);
    let stats = remote.stats();
    assert_eq!(stats.abandoned.load(Ordering::Relaxed), 1);
    assert_eq!(stats.expired.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_call_ends_when_the_last_of_its_callers_goes() {
    let (double, gate) = held().await;
    let remote = shared(&double, NARROW, None);
    let mut asking = queue(&remote, &double, &[0.0, 1.0, 2.0]).await;
    gate.add_permits(1);
    until(|| double.count() == 2).await;
    asking.remove(0).await.unwrap().unwrap();
    asking.remove(0).abort();
    until(|| remote.stats().abandoned.load(Ordering::Relaxed) == 1).await;
    assert_eq!(remote.remote().unwrap().in_flight, 1);
    asking.remove(0).abort();
    double.left.notified().await;
    until(|| remote.remote().unwrap().in_flight == 0).await;
    gate.add_permits(1);
    assert_eq!(ask(&remote, job(&[3.0], LONG)).await.unwrap().unwrap(), [4.0], "its room is free again");
}

#[tokio::test]
async fn a_call_that_panics_leaves_its_room_to_what_waits() {
    for delay in ["0s", "1ms"] {
        let (double, gate) = held().await;
        let clock = Arc::new(Trap::default());
        let batching = format!("{NARROW}[batching]\nmax_rows = 1\nmax_delay = \"{delay}\"\n");
        let remote = shared_by(clock.clone(), &double, &batching, None);
        let mut asking = queue(&remote, &double, &[0.0, 1.0, 2.0]).await;
        // The next to look at the clock is the call, when it has its answer.
        clock.armed.store(true, Ordering::Relaxed);
        gate.add_permits(3);
        let cut_off = asking.remove(0).await.unwrap().unwrap_err();
        assert_eq!(cut_off.code, ErrorCode::Internal);
        for (asking, answer) in asking.into_iter().zip([2.0, 3.0]) {
            assert_eq!(asking.await.unwrap().unwrap(), [answer], "what waits is not left to wait");
        }
        assert!(!clock.armed.load(Ordering::Relaxed) && remote.waiting() == 0);
    }
}

#[tokio::test]
async fn who_wants_to_waits_for_a_call_to_fill() {
    let double = Double::start(add_one).await;
    let remote = shared(&double, "[batching]\nmax_rows = 3\nmax_delay = \"1s\"\n", None);
    let asking: Vec<_> = (0..6).map(|n| ask(&remote, job(&[n as f32], LONG))).collect();
    for asking in asking {
        asking.await.unwrap().unwrap();
    }
    assert_eq!(calls(&double).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
}

/// Hedges take room that calls were counted on to have.
#[tokio::test]
async fn room_that_hedges_have_taken_is_waited_for() {
    let (double, gate) = held().await;
    let limit = "hedge_after = \"5ms\"\n[remote.limit]\ninitial = 2\nmin = 2\nmax = 2\n";
    let remote = shared(&double, limit, None);
    let first = ask(&remote, job(&[0.0], LONG));
    until(|| double.count() == 2).await;
    let second = ask(&remote, job(&[1.0], LONG));
    until(|| remote.remote().unwrap().limited > 0 && remote.waiting() == 1).await;
    gate.add_permits(4);
    assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (vec![1.0], vec![2.0]));
    assert_eq!(remote.stats().refused.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_queue_that_is_full_and_a_breaker_that_is_open_refuse_before_the_body() {
    let (double, gate) = held().await;
    let remote = shared(&double, &format!("{NARROW}[batching]\nqueue = 2\n"), None);
    let asking = queue(&remote, &double, &[0.0, 1.0, 2.0]).await;
    let deadline = Deadline::after(Instant::now(), LONG);
    let full = remote.ready(&Caller::Unknown, deadline).unwrap_err();
    assert_eq!(full.code, ErrorCode::Overloaded);
    gate.add_permits(2);
    for asking in asking {
        asking.await.unwrap().unwrap();
    }
    remote.ready(&Caller::Unknown, deadline).unwrap();

    let gone = Double::start(|_| Say::Last(Vec::new())).await;
    let away = shared(&gone, "[remote.retry]\nmost = 0\n", None);
    for _ in 0..5 {
        let error = ask(&away, job(&[1.0], LONG)).await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
    }
    let refused = away.ready(&Caller::Unknown, deadline).unwrap_err();
    assert!(refused.code == ErrorCode::Unavailable && refused.retry_after.is_some(), "{refused:?}");
    assert_eq!((away.remote().unwrap().breaker, gone.count()), (BreakerState::Open, 5));
}

/// What is found out about a model whose rows are independent, and about one that takes the
/// mean of a call.
#[tokio::test(flavor = "multi_thread")]
async fn golden_rows_show_whether_calls_may_be_shared() {
    let mean = |asked: &super::super::double::Asked| {
        let (mut json, blobs) = asked.json();
        let rows: Vec<f32> = blobs.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let mean = rows.iter().sum::<f32>() / rows.len() as f32;
        let output = serde_json::json!({"name": "y", "datatype": "FP32", "shape": [rows.len()],
                                        "data": vec![mean; rows.len()]});
        let body = serde_json::json!({"id": json["id"].take(), "outputs": [output]}).to_string();
        Say::Bytes(super::super::double::answer(200, "", body))
    };
    let (plain, mixing) = (Double::start(add_one).await, Double::start(mean).await);
    let two = "{\"input\": {\"x\": 1.0}}\n{\"input\": {\"x\": 4.0}}\n";
    for (double, extra, samples, told, why) in [
        (&plain, "", two, Some(8), None),
        (&plain, "", two, Some(3), None),
        (&plain, "", "", None, Some("golden rows")),
        (&plain, "[batching]\nmerge = true\n", "", None, None),
        (&plain, "[batching]\nmerge = false\n", two, None, Some("`batching.merge` is false")),
        (&plain, "", two, Some(1), Some("one row in a call")),
        (&mixing, "", two, None, Some("depends on the rows beside it")),
    ] {
        let mut described = described(&double.url, extra, samples, told);
        let note = tokio::task::block_in_place(|| {
            let background = crate::background::Background::default();
            let probe = described.executor(Arc::new(SystemClock), Arc::default(), 1).unwrap();
            described.settle(&probe, &SystemClock, &background)
        });
        match why {
            None => assert_eq!((&note, described.shares), (&None, true)),
            Some(why) => assert!(note.as_ref().is_some_and(|note| note.contains(why)), "{why}: {note:?}"),
        }
        let bound = if described.shares { None } else { told };
        assert_eq!(bound, Some(described.spec.limits.max_rows).filter(|n| *n < 100));
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    Poisonous,
    /// Its caller goes away while it waits.
    Dropped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![7 => Just(Fate::Answered), 1 => Just(Fate::Poisonous), 2 => Just(Fate::Dropped)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// No answer is swapped, lost or doubled, whatever shares a call, is cut, fails or leaves.
    #[test]
    fn everybody_gets_the_own_answer_once(
        jobs in prop::collection::vec((fate(), 1usize..12, 0u64..4, 0u8..3), 1..30),
        max_rows in 1usize..12,
        instances in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(mix(jobs, max_rows, instances));
    }
}

async fn mix(jobs: Vec<(Fate, usize, u64, u8)>, max_rows: usize, instances: usize) {
    let (double, gate) = held().await;
    let extra = format!("[batching]\nmax_rows = {max_rows}\ninstances = {instances}\n");
    let remote = shared(&double, &extra, None);
    let mut asking = Vec::new();
    for (at, (fate, rows, priority, caller)) in jobs.into_iter().enumerate() {
        let mut input: Vec<f32> = (0..rows).map(|row| (at * 100 + row) as f32).collect();
        if fate == Fate::Poisonous {
            input.push(-1.0);
        }
        let caller = Caller::Named(Principal::new(caller.to_string()));
        let asked = ask(&remote, Job { priority, caller, ..job(&input, LONG) });
        asking.push((fate, input, asked));
    }
    let total = asking.len() as u64;
    tokio::task::yield_now().await;
    asking.iter().filter(|(fate, ..)| *fate == Fate::Dropped).for_each(|(.., asked)| asked.abort());
    gate.add_permits(10_000);
    for (fate, input, asked) in asking {
        match (fate, asked.await) {
            (Fate::Answered, answer) => {
                let expected: Vec<f32> = input.iter().map(|x| x + 1.0).collect();
                assert_eq!(answer.unwrap().unwrap(), expected);
            }
            (Fate::Poisonous, answer) => assert_eq!(answer.unwrap().unwrap_err().code, ErrorCode::Internal),
            (Fate::Dropped, answer) => assert!(answer.unwrap_err().is_cancelled()),
        }
    }
    let stats = remote.stats();
    let counted = stats.answered.count() + stats.failed.count() + stats.abandoned.load(Ordering::Relaxed);
    assert_eq!(counted, total);
    assert_eq!(remote.waiting(), 0);
}
