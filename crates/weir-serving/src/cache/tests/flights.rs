//! Requests for the same rows at the same time.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;
use tokio::runtime::Builder;
use weir_artifact::CacheTable;
use weir_types::{Error, ErrorCode, SystemClock};

use super::double::{LONG, Told, job, settle, values, wrap};
use crate::{Cache, CacheConfig, Done, Executor, PurgeScope};

fn told() -> (Cache, Arc<Told>, Arc<dyn Executor>) {
    let (cache, told) =
        (Cache::new(CacheConfig::default(), Arc::new(SystemClock)), Arc::new(Told::default()));
    let executor = wrap(&cache, CacheTable::default(), told.clone());
    (cache, told, executor)
}

type Asked = tokio::task::JoinHandle<Result<Done, Error>>;

async fn ask(executor: &Arc<dyn Executor>, rows: &'static [f32]) -> Asked {
    let executor = executor.clone();
    let asked = tokio::spawn(async move { executor.execute(job(rows, LONG)).await });
    settle().await;
    asked
}

#[tokio::test]
async fn a_row_that_many_ask_for_is_computed_once() {
    let (_cache, told, executor) = told();
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(ask(&executor, &[1.0]).await);
    }
    all.push(ask(&executor, &[2.0, 1.0]).await);
    assert_eq!(told.waiting(), [vec![1.0], vec![2.0]]);
    told.end(1, Ok(()));
    told.end(0, Ok(()));
    let last = all.pop().unwrap().await.unwrap().unwrap();
    assert_eq!(values(&last.outputs), [3.0, 2.0]);
    let mut took = vec![last.took];
    for asked in all {
        let done = asked.await.unwrap().unwrap();
        assert_eq!(values(&done.outputs), [2.0]);
        took.push(done.took);
    }
    let ran: Vec<_> = took.iter().filter_map(|took| took.model).map(|model| model.ran).collect();
    assert_eq!(ran, [Duration::from_millis(10); 2], "whoever waits for another's rows has asked no model");
    assert!(took.iter().all(|took| took.cache.is_some()), "waiting for them is the cache's part");
    assert_eq!(told.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn requests_that_need_each_others_rows_both_end() {
    let (_cache, told, executor) = told();
    let first = ask(&executor, &[1.0]).await;
    let second = ask(&executor, &[2.0, 1.0]).await;
    let third = ask(&executor, &[1.0, 2.0, 3.0]).await;
    assert_eq!(told.waiting(), [vec![1.0], vec![2.0], vec![3.0]]);
    for index in [2, 1, 0] {
        told.end(index, Ok(()));
    }
    for asked in [first, second, third] {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn when_the_one_who_computes_goes_away_or_is_refused_the_next_takes_over() {
    let (_cache, told, executor) = told();
    let first = ask(&executor, &[1.0]).await;
    let others = [ask(&executor, &[1.0]).await, ask(&executor, &[1.0]).await];
    first.abort();
    settle().await;
    assert_eq!(told.waiting(), [vec![1.0]], "one of the others");
    told.end(0, Err(Error::new(ErrorCode::Overloaded, "too much")));
    settle().await;
    assert_eq!(told.waiting(), [vec![1.0]], "the last one, for itself");
    told.end(0, Ok(()));
    let [a, b] = others;
    let results = [a.await.unwrap(), b.await.unwrap()];
    let refused = results.iter().filter(|r| r.as_ref().is_err_and(|e| e.code == ErrorCode::Overloaded));
    assert_eq!(refused.count(), 1);
    assert_eq!(told.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_rows_own_error_is_shared_and_another_rows_is_not() {
    let (_cache, told, executor) = told();
    let alone = [ask(&executor, &[1.0]).await, ask(&executor, &[1.0]).await];
    told.end(0, Err(Error::invalid("no such number")));
    for asked in alone {
        assert_eq!(asked.await.unwrap().unwrap_err().code, ErrorCode::InvalidArgument);
    }
    assert_eq!(told.asked.load(Ordering::Relaxed), 1);
    let both = ask(&executor, &[2.0, 3.0]).await;
    let waits = ask(&executor, &[3.0]).await;
    told.end(0, Err(Error::invalid("2 is no number")));
    settle().await;
    assert!(both.await.unwrap().is_err());
    assert_eq!(told.waiting(), [vec![3.0]]);
    told.end(0, Ok(()));
    assert_eq!(values(&waits.await.unwrap().unwrap().outputs), [4.0]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_keeps_its_own_deadline() {
    let (_cache, told, executor) = told();
    let _first = ask(&executor, &[1.0]).await;
    let late = executor.execute(job(&[1.0], Duration::from_millis(50))).await;
    assert_eq!(late.unwrap_err().code, ErrorCode::DeadlineExceeded);
    assert_eq!(told.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_purged_while_it_was_computed_is_not_kept() {
    let (cache, told, executor) = told();
    let before = ask(&executor, &[1.0]).await;
    cache.purge(&PurgeScope::Model("m".parse().unwrap())).await;
    let after = ask(&executor, &[1.0]).await;
    told.end(0, Ok(()));
    before.await.unwrap().unwrap();
    settle().await;
    assert_eq!(told.waiting(), [vec![1.0]], "who asked after the purge gets nothing from before it");
    told.end(0, Ok(()));
    after.await.unwrap().unwrap();
    assert_eq!(ask(&executor, &[1.0]).await.await.unwrap().unwrap().cache.unwrap().hits, 1);
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Ask(Vec<u8>),
    Poll(usize),
    Drop(usize),
    /// The model ends a job, well or in one of three ways not.
    End(usize, u8),
    Purge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0u8..5, 1..5).prop_map(Step::Ask),
        8 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Drop),
        5 => (any::<usize>(), 0u8..9).prop_map(|(index, how)| Step::End(index, how)),
        1 => Just(Step::Purge),
    ];
    prop::collection::vec(step, 1..80)
}

type Asking<'a> = (Vec<f32>, Pin<Box<dyn Future<Output = Result<Done, Error>> + Send + 'a>>);

fn poll(asking: &mut Asking<'_>) -> Option<Result<Done, Error>> {
    match asking.1.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Right, or one of the errors that the model was told to make.
fn check(rows: &[f32], result: Result<Done, Error>) -> Result<(), TestCaseError> {
    match result {
        Ok(done) => {
            prop_assert_eq!(values(&done.outputs), rows.iter().map(|row| row + 1.0).collect::<Vec<_>>());
            prop_assert_eq!(done.tokens, Some(rows.iter().map(|row| *row as u32 + 100).collect()));
        }
        Err(error) => prop_assert!(matches!(
            error.code,
            ErrorCode::Overloaded | ErrorCode::DeadlineExceeded | ErrorCode::InvalidArgument
        )),
    }
    Ok(())
}

fn end(how: u8) -> Result<(), Error> {
    match how {
        0 => Err(Error::new(ErrorCode::Overloaded, "too much")),
        1 => Err(Error::new(ErrorCode::DeadlineExceeded, "too late")),
        2 => Err(Error::invalid("no such number")),
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Requests in any interleaving, dropped at any point, with a model that fails: whoever stays
    /// gets its own rows' answer, everybody gets one, and nothing is left behind.
    #[test]
    fn no_answer_is_swapped_and_none_is_lost(steps in steps(), collide: bool) {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let cache = match collide {
            true => Cache::colliding(CacheConfig::default(), Arc::new(SystemClock)),
            false => Cache::new(CacheConfig::default(), Arc::new(SystemClock)),
        };
        let told = Arc::new(Told::default());
        let executor = wrap(&cache, CacheTable::default(), told.clone());
        let mut asking: Vec<Asking<'_>> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(rows) => {
                    let rows: Vec<f32> = rows.into_iter().map(f32::from).collect();
                    let future = executor.execute(job(&rows, LONG));
                    asking.push((rows, future));
                }
                Step::Poll(_) | Step::Drop(_) if asking.is_empty() => {}
                Step::Poll(index) => {
                    let index = index % asking.len();
                    if let Some(result) = poll(&mut asking[index]) {
                        let (rows, _) = asking.swap_remove(index);
                        check(&rows, result)?;
                    }
                }
                Step::Drop(index) => drop(asking.swap_remove(index % asking.len())),
                Step::End(index, how) => {
                    let waiting = told.waiting().len();
                    if waiting > 0 {
                        told.end(index % waiting, end(how));
                    }
                }
                Step::Purge => {
                    runtime.block_on(cache.purge(&PurgeScope::Model("m".parse().unwrap())));
                }
            }
        }
        // From here on the model answers: everybody who still waits is answered.
        for _ in 0..100 {
            while !told.waiting().is_empty() {
                told.end(0, Ok(()));
            }
            let mut left = Vec::new();
            for mut one in asking.drain(..) {
                match poll(&mut one) {
                    Some(result) => check(&one.0, result)?,
                    None => left.push(one),
                }
            }
            asking = left;
        }
        prop_assert_eq!(asking.len(), 0, "somebody waits for ever");
    }
}
