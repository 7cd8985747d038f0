//! A cluster of three masters.

use std::collections::HashMap;

use bytes::Bytes;
use weir_clients::{
    BreakerState,
    redis::{Redis, RedisConfig, RedisError, RedisMode, Reply, Script, Set},
};
use weir_config::HumanDuration;
use weir_testbed::{RedisCluster, RedisServer};

use super::{add_user, as_user, config, plain, until};

fn cluster_config(cluster: &RedisCluster) -> RedisConfig {
    // Half of the nodes are named; the others are found.
    let nodes = cluster.urls().split_off(3);
    RedisConfig { mode: RedisMode::Cluster, url: None, nodes, ..config("") }
}

fn client(cluster: &RedisCluster) -> Redis {
    Redis::new(&cluster_config(cluster)).unwrap()
}

/// Enough keys that every master has some.
fn keys() -> Vec<String> {
    (0..64).map(|i| format!("key:{i}")).collect()
}

async fn store(redis: &Redis, keys: &[String]) {
    let entries: Vec<Set<'_>> = keys.iter().map(|key| plain(key.as_bytes(), key.as_bytes())).collect();
    assert_eq!(redis.set_many(&entries).await, Ok(vec![true; keys.len()]));
}

async fn assert_found(redis: &Redis, keys: &[String]) {
    let found = redis.get_many(keys).await.unwrap();
    for (key, value) in keys.iter().zip(found) {
        assert_eq!(value, Some(key.clone().into()));
    }
}

/// `GET`s that each master has answered.
fn gets(cluster: &RedisCluster) -> Vec<u64> {
    cluster.nodes[..3].iter().map(|node| node.calls("get")).collect()
}

#[tokio::test]
async fn every_master_is_asked_once_for_the_keys_that_it_has() {
    let cluster = RedisCluster::start();
    let (redis, keys) = (client(&cluster), keys());
    store(&redis, &keys).await;
    let before: HashMap<String, u64> = attempts(&redis);
    assert_found(&redis, &keys).await;
    let calls: Vec<u64> = attempts(&redis).iter().map(|(name, after)| after - before[name]).collect();
    assert_eq!(calls, [1, 1, 1], "one pipeline each");
    let gets = gets(&cluster);
    assert!(gets.iter().all(|gets| *gets > 0) && gets.iter().sum::<u64>() == 64, "{gets:?}: none twice");
    assert_eq!(redis.delete_many(&keys[..10]).await, Ok(10));
    assert_eq!(redis.delete_matching(b"key:").await, Ok(54));
}

/// Pipelines sent to each node that has slots.
fn attempts(redis: &Redis) -> HashMap<String, u64> {
    redis.stats().nodes.into_iter().map(|node| (node.name, node.guard.attempts)).collect()
}

#[tokio::test]
async fn scripts_run_where_their_keys_are_and_not_across_slots() {
    let cluster = RedisCluster::start();
    let redis = client(&cluster);
    let add = Script::new("redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])");
    for tag in ["a", "b", "c", "d"] {
        let (first, second) = (format!("{{{tag}}}:1"), format!("{{{tag}}}:2"));
        let keys = [first.as_bytes(), second.as_bytes()];
        assert_eq!(redis.run(&add, &keys, &[]).await, Ok(Reply::Integer(1)));
    }
    let across = redis.run(&add, &[b"a", b"b"], &[]).await;
    assert!(matches!(&across, Err(RedisError::Refused(text)) if text.starts_with("CROSSSLOT")), "{across:?}");
}

/// Slot 12182 is where "foo" is, on the third master.
const FOO: &str = "12182";

#[tokio::test]
async fn a_slot_that_moves_is_followed_without_running_anything_twice() {
    let cluster = RedisCluster::start();
    let redis = user_without_prefix(&cluster);
    let (to, from) = (&cluster.nodes[0], &cluster.nodes[2]);
    let keys: Vec<String> = ["{foo}:old", "{foo}:new", "elsewhere"].map(str::to_owned).to_vec();
    store(&redis, &keys[..1]).await;
    begin_move(from, to);
    // The old one is still there; the new one is asked for, and stored, where the slot goes.
    store(&redis, &keys).await;
    assert_found(&redis, &keys).await;
    assert_eq!(to.ask::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", FOO]), 1, "one was stored behind ASKING");
    finish_move(from, to);
    let incr = Script::new("return redis.call('INCR', KEYS[1])");
    assert_eq!(redis.run(&incr, &[b"{foo}:n"], &[]).await, Ok(Reply::Integer(1)), "MOVED");
    assert_found(&redis, &keys).await;
}

/// One with the rights that are documented, whose keys are as they are named.
fn user_without_prefix(cluster: &RedisCluster) -> Redis {
    cluster.nodes.iter().for_each(|node| add_user(node, &["~*", "+cluster|slots", "+asking", "+incr"]));
    let config = RedisConfig { prefix: String::new(), ..cluster_config(cluster) };
    Redis::new(&as_user(&cluster.nodes[0], config)).unwrap()
}

fn begin_move(from: &RedisServer, to: &RedisServer) {
    let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
    to.ask::<()>(&["CLUSTER", "SETSLOT", FOO, "IMPORTING", &from_id]);
    from.ask::<()>(&["CLUSTER", "SETSLOT", FOO, "MIGRATING", &to_id]);
}

fn finish_move(from: &RedisServer, to: &RedisServer) {
    let port = to.port().to_string();
    from.ask::<()>(&["MIGRATE", "127.0.0.1", &port, "{foo}:old", "0", "5000"]);
    let id: String = to.ask(&["CLUSTER", "MYID"]);
    to.ask::<()>(&["CLUSTER", "SETSLOT", FOO, "NODE", &id]);
    from.ask::<()>(&["CLUSTER", "SETSLOT", FOO, "NODE", &id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_master_away_the_others_are_asked_until_its_replica_serves() {
    let mut cluster = RedisCluster::start();
    let (redis, keys) = (client(&cluster), keys());
    store(&redis, &keys).await;
    // Replication is asynchronous: what a master has not passed on goes with it.
    let replicated = || cluster.nodes[3..].iter().map(|node| node.ask::<usize>(&["DBSIZE"])).sum::<usize>();
    until(async || replicated(), |keys_there| *keys_there == keys.len()).await;
    cluster.nodes[0].kill();
    let each = redis.get_each(&keys).await;
    let lost = each.iter().filter(|found| found.is_err()).count();
    assert!(0 < lost && lost < keys.len(), "{lost} of {}", keys.len());
    assert!(each.iter().all(|found| matches!(found, Ok(Some(_)) | Err(RedisError::Unavailable(_)))));
    cluster.await_failover(0);
    // It is found out who serves now because calls go on failing, not because somebody waits.
    until(async || redis.get_many(&keys).await, Result::is_ok).await;
    assert_found(&redis, &keys).await;
    store(&redis, &keys).await;
    assert_eq!(redis.stats().breaker(), BreakerState::Closed, "who is away has no slots and is forgotten");
}

#[tokio::test]
async fn a_master_that_is_stopped_costs_the_keys_of_the_others_nothing_but_a_while() {
    let cluster = RedisCluster::start();
    let (redis, keys) = (client(&cluster), keys());
    store(&redis, &keys).await;
    cluster.nodes[1].stop();
    let impatient = RedisConfig { timeout: HumanDuration::from_millis(20), ..cluster_config(&cluster) };
    let redis = Redis::new(&impatient).unwrap();
    // Once it is known, no call waits for it.
    let away = |each: &Vec<Result<Option<Bytes>, RedisError>>| {
        let found = each.iter().filter(|found| matches!(found, Ok(Some(_)))).count();
        let away = each.iter().filter(|found| matches!(found, Err(RedisError::Unavailable(_)))).count();
        found > 0 && found + away == keys.len() && away > 0
    };
    until(async || redis.get_each(&keys).await, away).await;
    cluster.nodes[1].cont();
    until(async || redis.get_many(&keys).await, Result::is_ok).await;
}

#[tokio::test]
async fn a_server_that_is_in_no_cluster_is_told_so() {
    let server = RedisServer::start();
    let nodes = vec![server.url()];
    let config = RedisConfig { mode: RedisMode::Cluster, url: None, nodes, ..config("") };
    let error = Redis::new(&config).unwrap().get_many(&["a"]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Unavailable(_)) && error.to_string().contains("cluster"), "{error}");
}
