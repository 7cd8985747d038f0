//! Behaviour of [`Local`], with an engine that runs when it is told to, on a clock that runs
//! when the engine does. The contract holds for small and for large work.

pub(crate) mod double;
mod mixes;
pub(crate) mod traces;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use weir_artifact::BatchingTable;
use weir_types::{Clock, ErrorCode, Principal};

use double::LONG;
pub(crate) use double::{Double, executor, job, local};

use super::*;

fn values(done: Result<Done, Error>) -> Vec<f32> {
    done.unwrap().outputs.tensors[0].as_f32().unwrap().to_vec()
}

fn named(name: &str) -> Caller {
    Caller::Named(Principal::new(name))
}

/// What every executor keeps whose model adds one and panics on a negative number.
pub(crate) async fn contract(executor: &dyn Executor, clock: &dyn Clock) {
    assert_eq!(values(executor.execute(job(clock, &[1.0, 2.0], LONG)).await), [2.0, 3.0]);
    let panicked = executor.execute(job(clock, &[-1.0], LONG)).await.unwrap_err();
    assert_eq!(panicked.code, ErrorCode::Internal);
    assert!(!panicked.message.contains("negative"), "internals leak: {panicked}");
    let late = executor.execute(job(clock, &[1.0], Duration::ZERO)).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::DeadlineExceeded);
    let after = executor.execute(job(clock, &[5.0], LONG)).await.expect("a panic costs nobody else");
    assert_eq!(after.tokens, None, "no text was read");
    let stats = executor.stats();
    assert_eq!(stats.executed.load(Ordering::Relaxed), 3, "the late job never ran");
    assert_eq!(stats.expired.load(Ordering::Relaxed), 1);
    assert_eq!(stats.rows.load(Ordering::Relaxed), 3);
    assert_eq!((stats.answered.count(), stats.failed.count()), (2, 1));
    assert_eq!(stats.answered.ns(), stats.queued.ns() + stats.ran.ns());
    assert!(stats.last_answer_ms.load(Ordering::Relaxed) > 1_600_000_000_000);
    assert_eq!(executor.waiting(), 0);
}

async fn local_contract(double: &Arc<Double>) {
    let executor = local(double, |_| {});
    contract(&executor, double.clock()).await;
    assert_eq!(values(executor.execute(job(double.clock(), &[], LONG)).await), [0.0; 0]);
    let sizes: Vec<_> =
        executor.stats().batches.sizes().iter().map(|(rows, count, _)| (*rows, *count)).collect();
    assert_eq!(sizes, [(1, 1), (2, 1)]);
}

#[tokio::test]
async fn small_work_keeps_the_contract() {
    local_contract(&Double::light()).await;
}

#[tokio::test]
async fn large_work_keeps_the_contract() {
    local_contract(&Double::heavy()).await;
}

#[tokio::test]
async fn what_waits_while_the_model_is_busy_runs_together() {
    let double = Double::held();
    let executor = local(&double, |b| b.max_rows = Some(4));
    let jobs: Vec<_> = (0..7)
        .map(|i| executor.execute(job(double.clock(), &[i as f32], LONG)))
        .inspect(|_| double.entered(1))
        .collect();
    assert_eq!(executor.waiting(), 6);
    double.open();
    for (i, job) in jobs.into_iter().enumerate() {
        assert_eq!(values(job.await), [i as f32 + 1.0]);
    }
    assert_eq!(double.calls(), [vec![0.0], vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]]);
}

#[tokio::test]
async fn a_model_that_mixes_rows_runs_each_job_by_itself_and_whole() {
    let double = Double::held();
    let executor = double::local_with(&double, |o| {
        o.merge = false;
        o.batching.max_rows = Some(2);
    });
    let first = executor.execute(job(double.clock(), &[1.0], LONG));
    double.entered(1);
    let second = executor.execute(job(double.clock(), &[2.0, 3.0, 4.0], LONG));
    let third = executor.execute(job(double.clock(), &[5.0], LONG));
    double.open();
    for job in [first, second, third] {
        job.await.unwrap();
    }
    assert_eq!(double.calls(), [vec![1.0], vec![2.0, 3.0, 4.0], vec![5.0]]);
}

#[tokio::test]
async fn a_large_job_is_cut_and_comes_back_in_order() {
    let double = Double::heavy();
    let executor = local(&double, |b| (b.max_rows, b.instances) = (Some(8), Some(2)));
    let rows: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let answer = values(executor.execute(job(double.clock(), &rows, LONG)).await);
    assert_eq!(answer, (1..=100).map(|i| i as f32).collect::<Vec<_>>());
    assert!(double.calls().iter().all(|rows| rows.len() <= 8));
    let stats = executor.stats();
    assert_eq!((stats.executed.load(Ordering::Relaxed), stats.answered.count()), (13, 1));
}

#[tokio::test]
async fn the_step_of_a_sequence_is_never_cut() {
    let double = Double::heavy();
    let executor = local(&double, |b| b.max_rows = Some(2));
    let step = Some(weir_engine::Step::default());
    let moments = Job { step, ..job(double.clock(), &[1.0, 2.0, 3.0, 4.0, 5.0], LONG) };
    assert_eq!(values(executor.execute(moments).await), [2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(double.calls(), [[1.0, 2.0, 3.0, 4.0, 5.0]], "each part would have begun at the same state");
}

#[tokio::test]
async fn a_piece_that_fails_fails_its_job_and_the_other_pieces_do_not_run() {
    let double = Double::held();
    let executor = local(&double, |b| b.max_rows = Some(1));
    let bad = executor.execute(job(double.clock(), &[-1.0, 2.0, 3.0], LONG));
    double.entered(1);
    double.open();
    assert_eq!(bad.await.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(values(executor.execute(job(double.clock(), &[4.0], LONG)).await), [5.0]);
    assert_eq!(double.calls(), [[-1.0], [4.0]]);
    assert_eq!(executor.stats().failed.count(), 1);
}

#[tokio::test]
async fn a_poisonous_item_fails_alone() {
    let double = Double::held();
    let executor = local(&double, |_| {});
    let rows = [0.0, 1.0, 2.0, -3.0, 4.0, 5.0];
    let jobs: Vec<_> = rows
        .iter()
        .map(|&x| executor.execute(job(double.clock(), &[x], LONG)))
        .inspect(|_| double.entered(1))
        .collect();
    double.open();
    for (x, job) in rows.iter().zip(jobs) {
        let result = job.await;
        match *x {
            bad if bad < 0.0 => assert_eq!(result.unwrap_err().code, ErrorCode::Internal),
            good => assert_eq!(values(result), [good + 1.0]),
        }
    }
    let stats = executor.stats();
    assert!(stats.retried.load(Ordering::Relaxed) > 0);
    assert!(stats.executed.load(Ordering::Relaxed) <= 1 + 2 * 5);
}

#[tokio::test]
async fn bad_input_is_told_to_its_caller_alone() {
    let double = Double::held();
    let executor = local(&double, |_| {});
    let first = executor.execute(job(double.clock(), &[1.0], LONG));
    double.entered(1);
    let bad = executor.execute(double::wrong(double.clock()));
    let good = executor.execute(job(double.clock(), &[2.0], LONG));
    double.open();
    assert_eq!(bad.await.unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!((values(first.await), values(good.await)), (vec![2.0], vec![3.0]));
    assert_eq!(executor.stats().retried.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_goes_away_costs_no_execution_and_makes_room() {
    let double = Double::held();
    let executor = local(&double, |b| b.queue = Some(1_000));
    let first = executor.execute(job(double.clock(), &[0.0], LONG));
    double.entered(1);
    let gone: Vec<_> = (0..1_000).map(|_| executor.execute(job(double.clock(), &[9.0], LONG))).collect();
    let refused = executor.execute(job(double.clock(), &[9.0], LONG)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    drop(gone);
    assert_eq!(executor.waiting(), 0);
    let last = executor.execute(job(double.clock(), &[1.0], LONG));
    double.open();
    assert_eq!((values(first.await), values(last.await)), (vec![1.0], vec![2.0]));
    assert_eq!(double.calls(), [[0.0], [1.0]]);
    let stats = executor.stats();
    assert_eq!(stats.abandoned.load(Ordering::Relaxed), 1_000);
    assert_eq!(stats.refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_runs_for_several_is_cancelled_when_the_last_of_them_goes() {
    let double = Double::held();
    let executor = local(&double, |_| {});
    let first = executor.execute(job(double.clock(), &[0.0], LONG));
    double.entered(1);
    let (one, two) = (job(double.clock(), &[1.0], LONG), job(double.clock(), &[2.0], LONG));
    let (one, two) = (executor.execute(one), executor.execute(two));
    double.allow(1);
    double.entered(2);
    drop(one);
    assert!(!double.is_cancelled());
    drop(two);
    assert!(double.is_cancelled());
    double.open();
    first.await.unwrap();
}

#[tokio::test]
async fn expired_work_is_not_computed() {
    let double = Double::held();
    let executor = local(&double, |_| {});
    let first = executor.execute(job(double.clock(), &[0.0], LONG));
    double.entered(1);
    let late = executor.execute(job(double.clock(), &[1.0], LONG / 2));
    let last = executor.execute(job(double.clock(), &[2.0], 2 * LONG));
    double.clock().advance(LONG / 2);
    double.open();
    assert_eq!(late.await.unwrap_err().code, ErrorCode::DeadlineExceeded);
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(double.calls(), [[0.0], [2.0]]);
    assert_eq!(executor.stats().expired.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn priorities_go_first_and_unknown_ones_are_the_default() {
    let double = Double::held();
    let executor = local(&double, |b| b.max_rows = Some(1));
    let mut jobs = vec![executor.execute(job(double.clock(), &[0.0], LONG))];
    double.entered(1);
    for (value, priority) in [(1.0, 9), (2.0, 0), (3.0, 1), (4.0, 77), (5.0, 2), (6.0, 5)] {
        let job = Job { priority, ..job(double.clock(), &[value], LONG) };
        jobs.push(executor.execute(job));
    }
    double.open();
    for job in jobs {
        job.await.unwrap();
    }
    let order: Vec<f32> = double.calls().concat();
    assert_eq!(order, [0.0, 3.0, 5.0, 2.0, 4.0, 6.0, 1.0]);
}

#[tokio::test]
async fn a_caller_of_little_does_not_wait_for_a_caller_of_much() {
    let double = Double::held();
    let executor = local(&double, |b| b.max_rows = Some(2));
    let ask = |caller, values: &[f32]| {
        executor.execute(Job { caller: named(caller), ..job(double.clock(), values, LONG) })
    };
    let bulk = ask("bulk", &[1.0; 20]);
    double.entered(1);
    let interactive: Vec<_> = (0..3).map(|_| ask("interactive", &[2.0])).collect();
    double.open();
    for job in interactive {
        job.await.unwrap();
    }
    bulk.await.unwrap();
    let order = double.calls();
    let place = order.iter().rposition(|rows| rows.contains(&2.0)).unwrap();
    assert!(place <= 3, "{order:?}");
}

#[tokio::test]
async fn more_than_can_be_answered_in_time_is_refused_at_once_and_says_when() {
    let double = Double::held();
    let executor = local(&double, |b| b.max_rows = Some(1));
    let ask = |timeout| executor.execute(job(double.clock(), &[1.0], timeout));
    // One row takes 10 ms by the double's clock: what is admitted may take 0.4 of 1 s.
    double.allow(1);
    ask(LONG).await.unwrap();
    let second = Duration::from_secs(60);
    let mut admitted = vec![ask(second)];
    double.entered(2);
    while let Ok(()) = executor.ready(&Caller::Unknown, Deadline::after(double.clock().now(), second)) {
        admitted.push(ask(second));
        assert!(admitted.len() < 3_000, "nothing was refused");
    }
    assert!((2_300..2_500).contains(&admitted.len()), "{}", admitted.len());
    let refused = ask(second).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::ZERO && wait < second));
    let patient = ask(3 * second);
    drop((admitted, patient));
    double.open();
    assert_eq!(values(ask(LONG).await), [2.0], "an idle model refuses nothing");
}

#[tokio::test]
async fn who_wants_to_waits_for_a_batch_to_fill() {
    let double = Double::heavy();
    let second = Duration::from_secs(1);
    let executor =
        local(&double, |b| (b.max_rows, b.max_delay) = (Some(3), weir_config::HumanDuration(second)));
    let jobs: Vec<_> = (0..3).map(|i| executor.execute(job(double.clock(), &[i as f32], LONG))).collect();
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(double.calls(), [[0.0, 1.0, 2.0]]);
}

#[tokio::test]
async fn two_models_share_the_cores() {
    let cores = Arc::new(Cores::new(1));
    let doubles = [Double::held(), Double::held()];
    let models = doubles.each_ref().map(|double| double::local_with(double, |o| o.cores = cores.clone()));
    let ask = |at: usize, value: f32| models[at].execute(job(doubles[at].clock(), &[value], LONG));
    let first = ask(0, 1.0);
    doubles[0].entered(1);
    let second = ask(1, 2.0);
    assert_eq!(doubles[1].calls().len(), 0, "the only core is taken");
    doubles[0].open();
    doubles[1].entered(1);
    doubles[1].open();
    assert_eq!((values(first.await), values(second.await)), (vec![2.0], vec![3.0]));
}

#[test]
fn the_default_is_in_the_middle() {
    assert_eq!(BatchingTable::default().default_priority(), 5);
    let two = BatchingTable { priority_levels: 2, ..BatchingTable::default() };
    assert_eq!(two.default_priority(), 1);
}
