//! What a purge forgets, where, and what could bring it back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use weir_artifact::CacheTable;

use super::{
    double::{Light, Shelf, settle, wrap},
    replicas::{Replica, redis_only},
};
use crate::{PurgeScope, executor::tests::double};

fn model() -> PurgeScope {
    PurgeScope::Model("m".parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_purge_reaches_other_replicas_and_what_they_store_late() {
    let shelf = Arc::new(Shelf::default());
    let [one, two] = [
        Replica::new(&shelf, CacheTable::default()).await,
        Replica::new(&shelf, CacheTable::default()).await,
    ];
    one.answer(&[1.0]).await;
    two.answer(&[1.0]).await;
    let late = two.ask(&[5.0]);
    settle().await;
    let purged = one.cache.purge(&model()).await;
    assert_eq!((purged.memory, purged.redis), (1, Some(Ok(1))));
    two.told.end(0, Ok(()));
    late.await.unwrap();
    settle().await;
    assert_eq!(one.answer(&[5.0]).await.cache.unwrap().hits, 0, "it was asked before the purge");
    assert_eq!(two.answer(&[1.0]).await.cache.unwrap().hits, 1, "it has not looked yet");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(two.answer(&[1.0]).await.cache.unwrap().hits, 0);
    assert_eq!(two.answer(&[5.0]).await.cache.unwrap().hits, 1, "as the first one computed it since");
}

#[tokio::test(start_paused = true)]
async fn a_purge_stays_though_its_token_is_lost() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, CacheTable::default()).await;
    replica.cache.purge(&model()).await;
    replica.answer(&[1.0]).await;
    let token = shelf.values.lock().unwrap().remove(b"p/m/m".as_slice()).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(shelf.values.lock().unwrap().get(b"p/m/m".as_slice()), Some(&token));
    assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 1);
}

#[tokio::test]
async fn what_is_left_of_a_version_that_was_unloaded_is_purged_too() {
    let tags = || CacheTable { tags: vec!["prices".into()], ..CacheTable::default() };
    let version = PurgeScope::Version("m".parse().unwrap(), "1".parse().unwrap());
    for scope in [model(), version, PurgeScope::Tag("prices".into())] {
        let Light { double, cache, executor } = Light::new(tags());
        let first = Light { double: double.clone(), cache: cache.clone(), executor };
        first.ask(&[1.0]).await;
        drop(first);
        assert_eq!(cache.purge(&scope).await.memory, 1, "{scope:?}");
        let executor = wrap(&cache, tags(), Arc::new(double::executor(&double, Arc::default())));
        let again = Light { double, cache, executor };
        assert_eq!(again.ask(&[1.0]).await.cache.unwrap().hits, 0, "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_tokens_the_later_counts_though_a_replica_that_lagged_took_over() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    let token = || shelf.values.lock().unwrap().get(b"p/m/m".as_slice()).cloned().unwrap();
    let put = |token| shelf.values.lock().unwrap().insert(b"p/m/m".to_vec(), token);
    replica.cache.purge(&model()).await;
    replica.answer(&[1.0]).await;
    let older = token();
    replica.cache.purge(&model()).await;
    let later = token();
    replica.answer(&[2.0]).await;
    put(older);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(token(), later);
    assert_eq!(replica.answer(&[2.0]).await.cache.unwrap().hits, 1);
    assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_makes_later_tokens_all_the_same() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    let ahead = [[0x7f; 8], [0xff; 8]].concat();
    shelf.values.lock().unwrap().insert(b"p/m/m".to_vec(), ahead.clone().into());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    replica.answer(&[1.0]).await;
    replica.cache.purge(&model()).await;
    let token = shelf.values.lock().unwrap().get(b"p/m/m".as_slice()).cloned().unwrap();
    assert!(token[..] > ahead[..], "{token:?}");
    assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 0);
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_done_though_nothing_can_be_deleted() {
    let shelf = Arc::new(Shelf::default());
    let replica = Replica::new(&shelf, redis_only()).await;
    replica.answer(&[1.0]).await;
    shelf.keeps.store(true, Ordering::Relaxed);
    let purged = replica.cache.purge(&model()).await;
    assert_eq!((purged.redis, purged.left.as_deref()), (Some(Ok(0)), Some("no permission")));
    assert_eq!(shelf.keys("c/").len(), 1);
    assert_eq!(replica.answer(&[1.0]).await.cache.unwrap().hits, 0);
}
