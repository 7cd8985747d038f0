//! A master that sentinels name.

use weir_clients::{
    BreakerState,
    redis::{Redis, RedisConfig, RedisError, RedisMode},
};
use weir_testbed::{RedisSentinel, RedisServer};

use super::{
    add_user, as_user, config,
    double::{Double, count},
    plain, until,
};

fn sentinel_config(nodes: Vec<String>) -> RedisConfig {
    RedisConfig { mode: RedisMode::Sentinel, url: None, nodes, ..config("") }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_is_found_and_after_a_failover_the_new_one() {
    let mut servers = RedisSentinel::start();
    for server in [&servers.master, &servers.replica] {
        add_user(server, &["~weir:*", "+role"]);
    }
    let config = as_user(&servers.replica, sentinel_config(servers.urls()));
    let redis = Redis::new(&config).unwrap();
    redis.set_many(&[plain(b"a", b"before")]).await.unwrap();
    assert_eq!(servers.master.ask::<String>(&["GET", "weir:a"]), "before");
    servers.sentinels[0].kill();
    servers.master.kill();
    assert!(matches!(redis.get_many(&["a"]).await, Err(RedisError::Unavailable(_))));
    servers.await_failover();
    until(async || redis.set_many(&[plain(b"a", b"after")]).await, Result::is_ok).await;
    assert_eq!(servers.replica.ask::<String>(&["GET", "weir:a"]), "after");
    assert_eq!(redis.stats().breaker(), BreakerState::Closed);
}

/// A master that was made a replica without anybody telling its clients.
#[tokio::test]
async fn a_master_that_may_no_longer_be_written_is_left() {
    let servers = RedisSentinel::start();
    let redis = Redis::new(&sentinel_config(servers.urls())).unwrap();
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    let port = servers.replica.port().to_string();
    servers.replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    servers.master.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    let error = redis.set_many(&[plain(b"a", b"2")]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Unavailable(text) if text.contains("READONLY")), "{error}");
}

#[tokio::test]
async fn what_sentinels_do_not_know_is_told() {
    let servers = RedisSentinel::start();
    let config = RedisConfig { master: "other".into(), ..sentinel_config(servers.urls()) };
    let error = Redis::new(&config).unwrap().get_many(&["a"]).await.unwrap_err();
    assert!(error.to_string().contains("knows no master \"other\""), "{error}");
    // A server that is no sentinel.
    let server = RedisServer::start();
    let config = sentinel_config(vec![server.url()]);
    let error = Redis::new(&config).unwrap().get_many(&["a"]).await.unwrap_err();
    assert!(matches!(error, RedisError::Unavailable(_)), "{error}");
}

/// Two sentinels were away, and name a server that answers nobody; one knows better.
#[tokio::test]
async fn sentinels_that_are_behind_hold_up_nothing() {
    let servers = RedisSentinel::start();
    let silent = Double::start(|_| Vec::new()).await;
    let port = silent.port().to_string();
    let named = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
    let behind = Double::start(move |heard| match count(heard, b"GET-MASTER-ADDR-BY-NAME") {
        0 => b"+OK\r\n".repeat(count(heard, b"SETINFO")),
        _ => named.clone().into_bytes(),
    })
    .await;
    let nodes = vec![behind.url(), behind.url(), servers.sentinels[0].url()];
    let redis = Redis::new(&sentinel_config(nodes)).unwrap();
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![Some("1".into())]));
}
