//! Several replicas that share a tier.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use weir_artifact::{CacheTable, CacheTier};
use weir_types::{Outputs, SystemClock};

use super::double::{LONG, Shelf, Told, column, job, settle, values, wrap};
use crate::{
    Cache, CacheConfig, CacheStats, Done, Executor,
    cache::record::{Dates, Stored, stored_answer, write_answer},
};

pub(super) struct Replica {
    pub(super) cache: Cache,
    pub(super) told: Arc<Told>,
    pub(super) executor: Arc<dyn Executor>,
}

impl Replica {
    pub(super) async fn new(shelf: &Arc<Shelf>, table: CacheTable) -> Self {
        let cache = Cache::sharing(CacheConfig::default(), Arc::new(SystemClock), shelf.clone());
        let told = Arc::new(Told::default());
        let executor = wrap(&cache, table, told.clone());
        cache.start(&tokio::runtime::Handle::current());
        settle().await;
        Self { cache, told, executor }
    }

    pub(super) fn ask(&self, rows: &'static [f32]) -> tokio::task::JoinHandle<Done> {
        let executor = self.executor.clone();
        tokio::spawn(async move { executor.execute(job(rows, LONG)).await.unwrap() })
    }

    /// Asks, and lets the model answer whatever it is asked.
    pub(super) async fn answer(&self, rows: &'static [f32]) -> Done {
        let asked = self.ask(rows);
        while !asked.is_finished() {
            settle().await;
            while !self.told.waiting().is_empty() {
                self.told.end(0, Ok(()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let done = asked.await.unwrap();
        assert_eq!(values(&done.outputs), rows.iter().map(|v| v + 1.0).collect::<Vec<_>>());
        settle().await;
        done
    }

    pub(super) fn asked(&self) -> usize {
        self.told.asked.load(Ordering::Relaxed)
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.executor.cached().unwrap().stats()
    }
}

pub(super) fn redis_only() -> CacheTable {
    CacheTable { tiers: vec![CacheTier::Redis], ..CacheTable::default() }
}

#[tokio::test(start_paused = true)]
async fn what_one_computed_the_other_finds() {
    let shelf = Arc::new(Shelf::default());
    let [one, two] = [
        Replica::new(&shelf, CacheTable::default()).await,
        Replica::new(&shelf, CacheTable::default()).await,
    ];
    one.answer(&[1.0, 2.0]).await;
    assert_eq!(shelf.keys("c/m/1/").len(), 2);
    let done = two.answer(&[2.0, 3.0, 1.0]).await;
    assert_eq!((done.cache.unwrap().hits, two.asked()), (2, 1));
    assert_eq!(done.tokens, Some(vec![102, 103, 101]));
    let redis = two.stats().redis;
    assert_eq!((redis.hits, redis.misses, redis.corrupt, redis.filled, redis.lookups), (2, 1, 0, 1, 1));
    assert_eq!(two.answer(&[1.0, 2.0]).await.cache.unwrap().hits, 2);
    assert_eq!(two.stats().redis.lookups, 1, "what was found there is in memory now");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_away_costs_no_answer() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    shelf.away.store(true, Ordering::Relaxed);
    replica.answer(&[1.0]).await;
    replica.answer(&[1.0]).await;
    assert_eq!((replica.asked(), replica.stats().redis.dropped), (2, 2));
    shelf.away.store(false, Ordering::Relaxed);
    replica.answer(&[1.0]).await;
    replica.answer(&[1.0]).await;
    assert_eq!(replica.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stored_value_with_any_byte_changed_is_no_answer() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    replica.answer(&[1.0]).await;
    assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 1);
    let key = shelf.keys("c/").pop().unwrap();
    let good = shelf.values.lock().unwrap().get(&key).cloned().unwrap();
    let cut = (0..good.len()).map(|n| good.slice(..n));
    let flip = (0..good.len()).map(|at| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        Bytes::from(bytes)
    });
    let longer = [[&good[..], b"\0"].concat().into()];
    let mut n = 0u64;
    for bad in cut.chain(flip).chain(longer) {
        assert_eq!(stored_answer(&bad), None);
        if n.is_multiple_of(16) {
            shelf.values.lock().unwrap().insert(key.clone(), bad);
            assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 0);
        }
        n += 1;
    }
    assert_eq!(replica.stats().redis.corrupt, n.div_ceil(16));
}

#[tokio::test(start_paused = true)]
async fn a_whole_value_of_another_row_is_no_answer() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    replica.answer(&[1.0]).await;
    replica.answer(&[2.0]).await;
    let keys = shelf.keys("c/");
    {
        let mut values = shelf.values.lock().unwrap();
        let [a, b] = [0, 1].map(|i: usize| values.get(&keys[i]).cloned().unwrap());
        values.insert(keys[0].clone(), b);
        values.insert(keys[1].clone(), a);
    }
    assert_eq!(replica.answer(&[1.0, 2.0]).await.cache.unwrap().hits, 0);
    assert_eq!(replica.stats().redis.corrupt, 2);
}

#[tokio::test]
async fn a_reload_keeps_what_it_does_not_change() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, CacheTable::default()).await;
    replica.answer(&[1.0]).await;
    let again = |change: fn(&mut weir_artifact::ModelSpec)| {
        let mut spec = (*super::double::spec(CacheTable::default())).clone();
        change(&mut spec);
        let executor =
            replica.cache.wrap(&Arc::new(spec), &super::double::engine(), &[], replica.told.clone());
        Replica { cache: replica.cache.clone(), told: replica.told.clone(), executor }
    };
    let same = again(|spec| spec.description = Some("new".into()));
    assert_eq!(same.answer(&[1.0]).await.cache.unwrap().hits, 1);
    assert_eq!(same.stats().memory.entries, 1);
    let other = again(|spec| spec.digest = "other".into());
    assert_eq!(other.answer(&[1.0]).await.cache.unwrap().hits, 0);
}

#[test]
fn what_is_written_is_read() {
    let outputs = Outputs { rows: 2, tensors: vec![column(vec![1.5, -0.0])] };
    let mut answer = Vec::new();
    write_answer(&mut answer, &outputs, None, Some(&[3, 300]), 12_345);
    let dates = Dates { computed_ms: 1, fresh_ms: 2, stale_ms: 3 };
    let bytes = Stored { dates, identity: b"row", answer: &answer }.write();
    let stored = Stored::read(&bytes).unwrap();
    assert_eq!((stored.dates, stored.identity), (dates, &b"row"[..]));
    assert_eq!(stored_answer(&bytes), Some(outputs));
}

#[tokio::test]
async fn background_work_ends_with_the_cache_and_the_rest_with_the_model() {
    let shelf = Arc::new(Shelf::default());
    let Replica { cache, told, executor } = Replica::new(&shelf, CacheTable::default()).await;
    assert_eq!(Arc::strong_count(&shelf), 3, "this test, the cache, and the one who fills");
    drop(cache);
    settle().await;
    assert_eq!(Arc::strong_count(&shelf), 2);
    drop((executor, told));
    assert_eq!(Arc::strong_count(&shelf), 1);
}
