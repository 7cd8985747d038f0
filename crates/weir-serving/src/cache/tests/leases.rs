//! One replica computes for all, and none waits in vain.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use weir_types::{Error, ErrorCode, SystemClock};

use super::{
    double::{LONG, Shelf, TIMEOUT, job, settle, values},
    replicas::{Replica, redis_only},
};
use crate::{Cache, CacheConfig};

impl Replica {
    /// Nothing goes on in its background any more, as in one that was killed.
    fn kill(&mut self) {
        self.cache = Cache::new(CacheConfig::default(), Arc::new(SystemClock));
    }

    /// How long it is until the model is asked.
    async fn until_asked(&self) -> Duration {
        let start = Instant::now();
        while self.told.waiting().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "the model is never asked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    }
}

/// Between two looks of who waits longest.
const A_LOOK: Duration = Duration::from_millis(55);

#[tokio::test(start_paused = true)]
async fn another_replica_computes_a_row_for_both() {
    let shelf = Arc::new(Shelf::default());
    let [one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
    let first = one.ask(&[1.0]);
    settle().await;
    let second = two.ask(&[1.0, 2.0]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((one.told.waiting(), two.told.waiting()), (vec![vec![1.0]], vec![vec![2.0]]));
    two.told.end(0, Ok(()));
    one.told.end(0, Ok(()));
    assert_eq!(values(&second.await.unwrap().outputs), [2.0, 3.0]);
    first.await.unwrap();
    assert_eq!((one.asked(), two.asked()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_is_waited_for_once_and_one_that_is_gone_never() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    shelf.hangs.store(true, Ordering::Relaxed);
    let asked = replica.ask(&[1.0]);
    let waited = replica.until_asked().await;
    assert!(waited >= TIMEOUT && waited <= TIMEOUT + Duration::from_millis(3), "{waited:?}");
    replica.told.end(0, Ok(()));
    asked.await.unwrap();
    shelf.hangs.store(false, Ordering::Relaxed);
    shelf.away.store(true, Ordering::Relaxed);
    let asked = replica.ask(&[1.0]);
    let waited = replica.until_asked().await;
    assert!(waited <= Duration::from_millis(3), "{waited:?}");
    replica.told.end(0, Ok(()));
    asked.await.unwrap();
    let redis = replica.stats().redis;
    assert_eq!((redis.lookups, redis.misses), (0, 0), "nothing was looked up");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_replica_computes_when_the_tier_goes_away() {
    for hangs in [false, true] {
        let shelf = Arc::new(Shelf::default());
        let [one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
        let _first = one.ask(&[1.0]);
        settle().await;
        let _second = two.ask(&[1.0]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(two.told.waiting().is_empty());
        let misses = two.stats().redis.misses;
        assert_eq!(misses, 1, "looks while waiting are no misses");
        if hangs { &shelf.hangs } else { &shelf.away }.store(true, Ordering::Relaxed);
        let waited = two.until_asked().await;
        assert!(waited < A_LOOK + TIMEOUT, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_who_was_dropped_or_refused_is_given_up() {
    for refused in [false, true] {
        let shelf = Arc::new(Shelf::default());
        let [one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
        let executor = one.executor.clone();
        let first = tokio::spawn(async move { executor.execute(job(&[1.0], LONG)).await });
        settle().await;
        let second = two.ask(&[1.0]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match refused {
            true => one.told.end(0, Err(Error::new(ErrorCode::Overloaded, "too much"))),
            false => first.abort(),
        }
        let waited = two.until_asked().await;
        assert!(waited < A_LOOK, "{waited:?}");
        two.told.end(0, Ok(()));
        assert_eq!(values(&second.await.unwrap().outputs), [2.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_who_was_killed_ends_and_holds_nobody_of_its_own_replica_off() {
    let shelf = Arc::new(Shelf::default());
    let [mut one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
    one.kill();
    let gone = one.ask(&[1.0]);
    settle().await;
    gone.abort();
    let again = one.ask(&[1.0]);
    settle().await;
    assert_eq!(one.told.waiting().len(), 1, "the lease is this replica's");
    again.abort();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let other = two.ask(&[1.0]);
    let waited = two.until_asked().await;
    assert!((450..600).contains(&waited.as_millis()), "what is left of it: {waited:?}");
    two.told.end(0, Ok(()));
    other.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_in_a_hurry_does_not_fail_for_another_replica() {
    let shelf = Arc::new(Shelf::default());
    let [mut one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
    let _held = one.ask(&[1.0]);
    settle().await;
    one.kill();
    let (executor, job) = (two.executor.clone(), job(&[1.0], Duration::from_millis(300)));
    let deadline = Instant::from_std(job.deadline.instant());
    let hurried = tokio::spawn(async move { executor.execute(job).await });
    two.until_asked().await;
    assert!(Instant::now() < deadline, "there is time left to compute");
    two.told.end(0, Ok(()));
    assert_eq!(values(&hurried.await.unwrap().unwrap().outputs), [2.0]);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_a_hurry_hurries_the_one_that_waits_for_both() {
    let shelf = Arc::new(Shelf::default());
    let [mut one, two] = [Replica::new(&shelf, redis_only()).await, Replica::new(&shelf, redis_only()).await];
    let _held = one.ask(&[1.0]);
    settle().await;
    one.kill();
    let first = two.ask(&[1.0]);
    settle().await;
    let (executor, job) = (two.executor.clone(), job(&[1.0], Duration::from_millis(300)));
    let deadline = Instant::from_std(job.deadline.instant());
    let hurried = tokio::spawn(async move { executor.execute(job).await });
    two.until_asked().await;
    assert!(Instant::now() < deadline, "there is time left to compute");
    two.told.end(0, Ok(()));
    assert_eq!(values(&hurried.await.unwrap().unwrap().outputs), [2.0]);
    first.await.unwrap();
    assert_eq!(two.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_faster_than_the_tier_takes_no_leases() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    replica.told.quick.store(true, Ordering::Relaxed);
    replica.answer(&[1.0]).await;
    assert_eq!(shelf.keys("l/").len(), 1, "nothing was known of it");
    replica.answer(&[2.0]).await;
    assert_eq!((shelf.keys("l/").len(), shelf.keys("c/").len()), (1, 2));
}
