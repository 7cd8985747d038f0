//! A server that is killed, stopped, not there yet.

use weir_clients::{
    BreakerState,
    redis::{Redis, RedisConfig, RedisError},
};
use weir_testbed::RedisServer;

use super::{config, plain, redis, until};

/// With the timeout as it is by default.
fn impatient(server: &RedisServer) -> Redis {
    Redis::new(&RedisConfig::single(server.url())).unwrap()
}

fn is_away<T>(result: &Result<T, RedisError>) -> bool {
    matches!(result, Err(RedisError::Unavailable(_)))
}

/// Asks a thousand times while it is known to be away: none of the calls may have asked the server.
async fn assert_costs_nothing(redis: &Redis) {
    let before = redis.stats();
    for _ in 0..1_000 {
        assert!(is_away(&redis.get_many(&["a"]).await));
    }
    let after = redis.stats();
    assert_eq!(after.timeouts, before.timeouts);
    assert_eq!(after.nodes[0].guard.in_flight.saturating_sub(1), 0, "the keeper at most");
    // The keeper's own, of which there is one in a quarter of a second.
    let asked = after.nodes[0].guard.attempts - before.nodes[0].guard.attempts;
    assert!(asked < 100, "{asked}");
}

#[tokio::test]
async fn a_killed_server_costs_nothing_and_is_back_when_it_is() {
    let mut server = RedisServer::start();
    let redis = redis(server.url());
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    server.kill();
    // No timeout is waited for, though it is ten seconds here: a closed connection is enough to know.
    until(async || redis.get_many(&["a"]).await, is_away).await;
    until(async || redis.stats().breaker(), |state| *state != BreakerState::Closed).await;
    assert_eq!(redis.stats().timeouts, 0);
    assert_costs_nothing(&redis).await;
    let trouble = redis.stats().nodes[0].trouble.clone().unwrap_or_default();
    assert!(trouble.contains("refused"), "{trouble}");
    server.restart();
    // Nobody asks meanwhile: it is found out in the background.
    until(async || redis.stats().breaker(), |state| *state == BreakerState::Closed).await;
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![None]), "it has come back empty");
    assert_eq!(redis.stats().nodes[0].trouble, None);
}

#[tokio::test]
async fn a_stopped_server_is_waited_for_a_few_times_and_then_not() {
    let server = RedisServer::start();
    let redis = impatient(&server);
    until(async || redis.set_many(&[plain(b"a", b"1")]).await, Result::is_ok).await;
    let before = redis.stats().timeouts;
    server.stop();
    let mut waited = 0;
    until(
        async || redis.get_many(&["a"]).await,
        |result| {
            assert!(result.is_err());
            is_away(result)
        },
    )
    .await;
    waited += redis.stats().timeouts - before;
    // Five failures in a row open it, the keeper's among them.
    assert!((1..=5).contains(&waited), "{waited} timeouts");
    assert_costs_nothing(&redis).await;
    server.cont();
    until(async || redis.stats().breaker(), |state| *state == BreakerState::Closed).await;
    until(async || redis.get_many(&["a"]).await, Result::is_ok).await;
}

/// One request alone, with nobody behind it, must be enough: the keeper goes on asking.
#[tokio::test]
async fn one_timeout_is_enough_for_the_keeper_to_find_out_the_rest() {
    let server = RedisServer::start();
    let redis = impatient(&server);
    until(async || redis.get_many(&["a"]).await, Result::is_ok).await;
    server.stop();
    assert!(redis.get_many(&["a"]).await.is_err());
    until(async || redis.stats().breaker(), |state| *state != BreakerState::Closed).await;
    server.cont();
}

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let mut server = RedisServer::start();
    server.kill();
    let redis = redis(server.url());
    assert!(is_away(&redis.get_many(&["a"]).await));
    server.restart();
    until(async || redis.get_many(&["a"]).await, Result::is_ok).await;
}

#[tokio::test]
async fn a_server_that_only_closes_connections_is_connected_to_again_within_the_call_after() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until(async || redis.get_many(&["a"]).await, |found| *found == Ok(vec![Some("1".into())])).await;
    let stats = redis.stats();
    assert!(stats.unavailable <= 1, "the call that was under way, if any: {stats:?}");
    assert_eq!(stats.nodes[0].guard.opened, 0);
}

#[tokio::test]
async fn nothing_is_left_of_a_client_that_is_dropped() {
    let mut server = RedisServer::start();
    server.kill();
    let redis = redis(server.url());
    assert!(is_away(&redis.get_many(&["a"]).await));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > 0, "its keeper");
    drop(redis);
    until(async || tasks(), |tasks| *tasks == 0).await;
}

/// The binary has one runtime, tests and tools have several: connections end with theirs.
#[test]
fn it_outlives_the_runtime_that_it_connected_on() {
    let server = RedisServer::start();
    let redis = Redis::new(&config(server.url())).unwrap();
    for value in ["1", "2"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            until(async || redis.set_many(&[plain(b"a", value.as_bytes())]).await, Result::is_ok).await;
            assert_eq!(redis.get_many(&["a"]).await, Ok(vec![Some(value.into())]));
        });
    }
}
