//! What every store keeps.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use weir_clients::redis::{Redis, RedisConfig, RedisMode};
use weir_features::{
    Change, EventTime, MAX_KEY_BYTES, MAX_VALUE_BYTES, RedisStore, Store, StoreError, Stored, Update,
};
use weir_testbed::{RedisSentinel, RedisServer};

use crate::support::{Fixture, ManualClock, Rng, at, on_every_store, redis};

on_every_store!(
    puts_gets_and_deletes,
    decides_upon_what_is_there,
    values_expire,
    concurrent_updates_of_one_key_all_count,
    keys_and_values_have_bounds,
    keys_and_values_may_be_any_bytes,
    a_dropped_call_leaves_the_store_whole,
    a_long_random_life_is_that_of_a_map,
);

/// A cluster of three masters, where the keys of one call are on several.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_keeps_it_too() {
    let fixture = Fixture::redis_cluster();
    puts_gets_and_deletes(&fixture).await;
    concurrent_updates_of_one_key_all_count(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_behind_tls_keeps_it_too() {
    let fixture = Fixture::redis_tls();
    puts_gets_and_deletes(&fixture).await;
    concurrent_updates_of_one_key_all_count(&fixture).await;
}

/// Sentinels: what has reached the replica is there when it has become the master.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_behind_sentinels_keeps_what_was_copied() {
    let mut servers = RedisSentinel::start();
    let config = RedisConfig { mode: RedisMode::Sentinel, nodes: servers.urls(), ..RedisConfig::default() };
    let store = RedisStore::new(Redis::new(&config).unwrap(), ManualClock::new());
    let mut written = store.update(vec![append("a", b"1")]).await;
    while written == Err(StoreError::Unavailable) {
        written = store.update(vec![append("a", b"1")]).await; // this machine is slow, not Redis away
    }
    assert_eq!(servers.master.ask::<i64>(&["WAIT", "1", "10000"]), 1);
    let before = get(&store, &["a"]).await;
    servers.master.kill();
    servers.await_failover();
    while store.update(vec![append("b", b"2")]).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&store, &["a"]).await, before);
}

/// Not a wait, not a panic, not an empty answer: an error, and as before once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_is_said_to_be() {
    let mut server = RedisServer::start();
    let redis = Redis::new(&RedisConfig::single(server.url())).unwrap();
    let store = RedisStore::new(redis, ManualClock::new());
    let call =
        || async { store.update(vec![put("a", "1", None)]).await.and(store.get(vec![key("a")]).await) };
    let until = async |wanted: Result<Vec<Option<Bytes>>, StoreError>| {
        while call().await != wanted {
            tokio::task::yield_now().await;
        }
    };
    until(Ok(vec![Some("1".into())])).await;
    server.kill();
    until(Err(StoreError::Unavailable)).await;
    server.restart();
    until(Ok(vec![Some("1".into())])).await;
}

/// It is there and answers, so it is not away; and it is no mistake of the caller's or of Weir's either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_says_so_and_that_it_may_be_otherwise_later() {
    let server = RedisServer::start();
    let store = RedisStore::new(redis(RedisConfig::single(server.url())), ManualClock::new());
    store.update(vec![put("a", "1", None)]).await.unwrap();
    let refused = |result: Result<(), StoreError>, code: &str| match result {
        Err(StoreError::Refused(why)) => assert!(why.starts_with(code), "{why}"),
        other => panic!("{code}: {other:?}"),
    };
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    refused(store.update(vec![put("a", "2", None)]).await, "OOM");
    assert_eq!(get(&store, &["a"]).await, [Some("1".into())], "what is there can be read");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    store.update(vec![put("a", "2", None)]).await.unwrap();
    server.ask::<()>(&["ACL", "SETUSER", "default", "-getrange"]);
    refused(store.update(vec![put("a", "3", None)]).await, "");
    server.ask::<i64>(&["LPUSH", "weir:b", "x"]);
    let told = store.get(vec![key("b")]).await.unwrap_err();
    assert!(matches!(&told, StoreError::Failed(why) if why.contains("WRONGTYPE")), "{told:?}");
    let codes = [StoreError::Refused("OOM".into()), told].map(|e| weir_types::Error::from(e).code);
    assert_eq!(codes, [weir_types::ErrorCode::Unavailable, weir_types::ErrorCode::Internal]);
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, value: impl AsRef<[u8]>, expires: Option<EventTime>) -> Update {
    let stored = Stored { value: Bytes::copy_from_slice(value.as_ref()), expires };
    Update { key: key(name), decide: Box::new(move |_| Change::Put(stored.clone())) }
}

fn delete(name: &str) -> Update {
    Update { key: key(name), decide: Box::new(|_| Change::Delete) }
}

fn append(name: &str, more: &'static [u8]) -> Update {
    let decide = move |current: Option<&[u8]>| {
        let value = [current.unwrap_or_default(), more].concat().into();
        Change::Put(Stored { value, expires: None })
    };
    Update { key: key(name), decide: Box::new(decide) }
}

async fn get(store: &dyn Store, names: &[&str]) -> Vec<Option<Bytes>> {
    store.get(names.iter().map(|name| key(name)).collect()).await.unwrap()
}

async fn puts_gets_and_deletes(fixture: &Fixture) {
    let store = &*fixture.store;
    assert_eq!(get(store, &["a"]).await, [None]);
    assert_eq!(get(store, &[]).await, [None; 0]);
    store.update(vec![]).await.unwrap();
    store.update(vec![put("a", "1", None), put("b", "2", None), put("e", "", None)]).await.unwrap();
    let found = get(store, &["b", "x", "a", "b", "e"]).await;
    assert_eq!(found, [Some("2".into()), None, Some("1".into()), Some("2".into()), Some("".into())]);
    store.update(vec![delete("b"), delete("x"), put("a", "3", None)]).await.unwrap();
    assert_eq!(get(store, &["a", "b"]).await, [Some("3".into()), None]);
}

async fn decides_upon_what_is_there(fixture: &Fixture) {
    let store = &*fixture.store;
    store
        .update(vec![append("a", b"1"), append("a", b"2"), append("b", b"x"), append("a", b"3")])
        .await
        .unwrap();
    store.update(vec![append("a", b"4"), delete("b"), append("b", b"y"), delete("c")]).await.unwrap();
    let keep = Update {
        key: key("a"),
        decide: Box::new(|current| {
            assert_eq!(current, Some(&b"1234"[..]));
            Change::Keep
        }),
    };
    store.update(vec![keep]).await.unwrap();
    assert_eq!(get(store, &["a", "b", "c"]).await, [Some("1234".into()), Some("y".into()), None]);
}

async fn values_expire(fixture: &Fixture) {
    let store = &*fixture.store;
    store
        .update(vec![put("a", "1", Some(at(10.0))), put("b", "1", Some(at(20.0))), put("c", "1", None)])
        .await
        .unwrap();
    assert_eq!(get(store, &["a"]).await, [Some("1".into())]);
    fixture.clock.advance(Duration::from_secs(10));
    assert_eq!(get(store, &["a", "b"]).await, [None, Some("1".into())]);
    store.update(vec![append("a", b"2"), put("b", "2", None), put("d", "1", Some(at(10.0)))]).await.unwrap();
    assert_eq!(get(store, &["d"]).await, [None], "expired before it came");
    store.update(vec![put("c", "2", Some(at(9.0)))]).await.unwrap();
    fixture.clock.advance(Duration::from_secs(86_400));
    let found = get(store, &["a", "b", "c"]).await;
    assert_eq!(found, [Some("2".into()), Some("2".into()), None], "what never ends stays");
}

async fn concurrent_updates_of_one_key_all_count(fixture: &Fixture) {
    const CALLS: usize = 64;
    let one = |i: usize| {
        let store = fixture.store.clone();
        let names = ["x", "y", "z"];
        tokio::spawn(async move {
            // In another order each time, so that locks taken in the order of a call would meet.
            let updates = (0..3).map(|n| append(names[(i + n) % 3], b".")).collect();
            store.update(updates).await
        })
    };
    for call in (0..CALLS).map(one).collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    for found in get(&*fixture.store, &["x", "y", "z"]).await {
        assert_eq!(found.unwrap().len(), CALLS);
    }
}

async fn keys_and_values_have_bounds(fixture: &Fixture) {
    let store = &*fixture.store;
    for length in [0, MAX_KEY_BYTES + 1] {
        let refused = store.update(vec![put(&"k".repeat(length), "", None)]).await;
        assert_eq!(refused, Err(StoreError::Key(length)));
    }
    let refused = store.update(vec![put("a", vec![0; MAX_VALUE_BYTES + 1], None)]).await;
    assert_eq!(refused, Err(StoreError::TooLarge(MAX_VALUE_BYTES + 1)));
    let long = "k".repeat(MAX_KEY_BYTES);
    store.update(vec![put(&long, vec![7; 1 << 20], None)]).await.unwrap();
    assert_eq!(get(store, &[&long, "a"]).await, [Some(vec![7; 1 << 20].into()), None]);
}

async fn keys_and_values_may_be_any_bytes(fixture: &Fixture) {
    let every: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let stored = Stored { value: every.clone(), expires: None };
    let update = Update { key: every.clone(), decide: Box::new(move |_| Change::Put(stored.clone())) };
    fixture.store.update(vec![update]).await.unwrap();
    assert_eq!(fixture.store.get(vec![every.clone()]).await.unwrap(), [Some(every)]);
}

async fn a_dropped_call_leaves_the_store_whole(fixture: &Fixture) {
    let store = &*fixture.store;
    for _ in 0..50 {
        let mut call = store.update(vec![append("a", b"x"), append("b", b"y")]);
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
        drop((call, polled));
        let mut call = store.get(vec![key("b")]);
        std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
        drop(call);
        store.update(vec![append("c", b"z")]).await.unwrap();
    }
    let found = get(store, &["a", "b", "c"]).await;
    let lengths: Vec<_> = found.iter().map(|v| v.as_ref().map_or(0, Bytes::len)).collect();
    assert!(lengths[0] <= 50 && lengths[1] <= 50 && lengths[2] == 50, "{lengths:?}");
    assert!(found[0].iter().flatten().all(|&b| b == b'x') && found[1].iter().flatten().all(|&b| b == b'y'));
}

async fn a_long_random_life_is_that_of_a_map(fixture: &Fixture) {
    let (mut rng, mut model, mut now) = (Rng(42), HashMap::<String, (u64, u64)>::new(), 0);
    for step in 0..600 {
        let name = format!("k{}", rng.below(12));
        match rng.below(5) {
            0 => {
                fixture.store.update(vec![delete(&name)]).await.unwrap();
                model.remove(&name);
            }
            1 => {
                let by = rng.below(4);
                fixture.clock.advance(Duration::from_secs(by));
                now += by;
            }
            _ => {
                let end = [now + 1 + rng.below(9), u64::MAX][rng.below(2) as usize];
                let expires = (end != u64::MAX).then(|| at(end as f64));
                fixture.store.update(vec![put(&name, step.to_string(), expires)]).await.unwrap();
                model.insert(name, (step, end));
            }
        }
        let names: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
        let found = get(&*fixture.store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for (name, found) in names.iter().zip(found) {
            let expected =
                model.get(name).filter(|(_, end)| *end > now).map(|(step, _)| step.to_string().into());
            assert_eq!(found, expected, "{name} at step {step}");
        }
    }
}
