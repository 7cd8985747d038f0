//! What speaks no Redis, or does so for a while.

use weir_clients::redis::{Redis, RedisConfig, RedisError};

use super::{
    double::{Double, PONG, count, is_ping},
    redis, until,
};

#[tokio::test]
async fn what_is_no_redis_never_gives_a_value_and_is_soon_not_asked() {
    let deep = b"*1\r\n".repeat(10_000);
    let nonsense: [&[u8]; 8] = [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"+OK\r\n",
        b"$-5\r\n",
        b"$99999999999999999999\r\n",
        b"$1000000000000\r\nx",
        b"*2147483647\r\n$1\r\nx\r\n",
        &deep,
    ];
    for said in nonsense {
        let said = said.to_vec();
        let name = String::from_utf8_lossy(&said[..said.len().min(20)]).into_owned();
        let double = Double::start(move |_| said.clone()).await;
        let redis = Redis::new(&RedisConfig::single(double.url())).unwrap();
        until(
            async || redis.get_many(&["a"]).await,
            |result| {
                assert!(result.is_err(), "{name:?}: {result:?}");
                redis.stats().nodes[0].guard.opened > 0
            },
        )
        .await;
    }
}

/// It answers the keeper and then, to a look-up, with a number and one value more than was asked for.
#[tokio::test]
async fn an_answer_that_does_not_fit_ends_the_connection_with_all_that_may_follow() {
    let double = Double::start(|heard| match is_ping(heard) {
        true => PONG.to_vec(),
        false => b":1\r\n$6\r\nothers\r\n".to_vec(),
    })
    .await;
    let redis = redis(double.url());
    let error = redis.get_many(&["a"]).await.unwrap_err();
    assert_eq!(error, RedisError::Garbage("Redis answered what cannot be used: int(1)".into()));
    assert_eq!(double.connections(), 1);
    let next = redis.get_many(&["a"]).await;
    assert!(matches!(next, Err(RedisError::Garbage(_))), "not what was left of the last one: {next:?}");
    assert_eq!(double.connections(), 2);
}

/// Nothing is answered until all is heard: whoever waits for one answer before asking on waits for ever.
#[tokio::test]
async fn many_keys_are_asked_for_in_one_go() {
    let double = Double::start(|heard| match (is_ping(heard), count(heard, b"GET\r\n")) {
        (true, _) => PONG.to_vec(),
        (false, 32) => b"$-1\r\n".repeat(32),
        _ => Vec::new(),
    })
    .await;
    let redis = redis(double.url());
    assert_eq!(redis.get_many(&[[7u8; 40]; 32]).await, Ok(vec![None; 32]));
}
