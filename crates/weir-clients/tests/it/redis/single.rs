//! One server that does what it should.

use std::time::Duration;

use weir_clients::redis::{Redis, RedisError, Reply, Run, Script, Set, SetCondition, Swap, SwapCondition};
use weir_testbed::RedisServer;

use super::{config, plain, redis};

#[tokio::test]
async fn what_is_stored_is_found_in_order_and_under_the_prefix() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let binary = [0, 255, b'\r', b'\n'];
    let stored = redis.set_many(&[plain(b"a", b"1"), plain(b"b", &binary), plain(b"empty", b"")]).await;
    assert_eq!(stored, Ok(vec![true; 3]));
    let found = redis.get_many(&["b", "none", "a", "empty"]).await.unwrap();
    assert_eq!(found, [Some(binary.to_vec().into()), None, Some("1".into()), Some("".into())]);
    assert_eq!(server.ask::<String>(&["GET", "weir:a"]), "1");
    assert_eq!(redis.delete_many(&["a", "none"]).await, Ok(1));
    assert_eq!(redis.get_many(&["a"]).await, Ok(vec![None]));
    assert_eq!(redis.get_many(&[""; 0]).await, Ok(vec![]));
    let stats = redis.stats();
    assert_eq!((stats.calls, stats.unavailable + stats.timeouts + stats.refused + stats.garbage), (4, 0));
}

#[tokio::test]
async fn conditions_and_times_to_live_are_the_servers() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let (ttl, condition) = (Some(Duration::from_millis(123_456)), SetCondition::IfAbsent);
    let lease = |value| Set { key: b"lease", value, ttl, condition };
    assert_eq!(redis.set_many(&[lease(b"mine"), lease(b"theirs")]).await, Ok(vec![true, false]));
    assert_eq!(redis.get_many(&["lease"]).await, Ok(vec![Some("mine".into())]));
    let left: u64 = server.ask(&["PTTL", "weir:lease"]);
    assert!((100_000..=123_456).contains(&left), "{left}");
}

#[tokio::test]
async fn scripts_run_with_their_keys_also_on_a_server_that_never_saw_them() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let add = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let all = Script::new("return {KEYS[1], ARGV[1], 7, {false, 'unseen'}, redis.status_reply('OK')}");
    for total in [2, 4] {
        assert_eq!(redis.run(&add, &[b"n"], &[b"2"]).await, Ok(Reply::Integer(total)));
    }
    assert_eq!((server.calls("evalsha"), server.calls("eval")), (2, 1));
    let reply = redis.run(&all, &[b"k"], &[b"\xff"]).await.unwrap();
    let bytes = |text: &'static [u8]| Reply::Bytes(text.into());
    let nested = Reply::List(vec![Reply::Nil, bytes(b"unseen")]);
    assert_eq!(
        reply,
        Reply::List(vec![bytes(b"weir:k"), bytes(b"\xff"), Reply::Integer(7), nested, bytes(b"OK")])
    );
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    let run = |script, keys| Run { script, keys, args: &[b"1"] };
    let replies = redis.run_many(&[run(&add, &[b"n"]), run(&all, &[b"k"]), run(&add, &[b"m"])]).await;
    assert_eq!((&replies[0], &replies[2]), (&Ok(Reply::Integer(5)), &Ok(Reply::Integer(1))));
}

#[tokio::test]
async fn a_swap_is_done_where_what_is_there_is_what_was_read() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let head = |digit: u8| [digit; Swap::HEAD];
    let [one, two] = [head(1), head(2)];
    let (first, second) = ([&one[..], b"first"].concat(), [&two[..], b"\r\n\0"].concat());
    let empty = Vec::new();
    let (none, ones, both) = ([&b""[..]], [&one[..]], [&two[..], &one[..]]);
    let swap = |heads, value, ttl| Swap { key: b"k", condition: SwapCondition::Head(heads), value, ttl };
    let long = Some(Duration::from_millis(123_456));
    let steps = [
        (swap(&ones, Some(&first[..]), None), false, None, -2),
        (swap(&[], Some(&first), None), false, None, -2),
        (swap(&none, Some(&first), None), true, Some(&first), -1),
        (swap(&none, Some(&second), None), false, Some(&first), -1),
        (swap(&both, Some(&second), Some(Duration::MAX)), true, Some(&second), 1),
        (swap(&ones, None, None), false, Some(&second), 1),
        (swap(&both, None, long), true, None, -2),
        (Swap { condition: SwapCondition::Always, ..swap(&[], Some(&first), long) }, true, Some(&first), 1),
        (Swap { condition: SwapCondition::Always, ..swap(&[], Some(b""), None) }, true, Some(&empty), -1),
        (swap(&none, Some(&second), None), true, Some(&second), -1),
        (Swap { condition: SwapCondition::Always, ..swap(&[], None, None) }, true, None, -2),
    ];
    for (swap, done, there, ttl) in steps {
        assert_eq!(redis.swap_many(&[swap]).await, [Ok(done)], "{swap:?}");
        let found = redis.get_many(&["k"]).await.unwrap().remove(0);
        assert_eq!(found.as_deref(), there.map(|value| &value[..]), "{swap:?}");
        let left: i64 = server.ask(&["PTTL", "weir:k"]);
        assert_eq!(left.clamp(-2, 1), ttl, "{swap:?}");
    }
    let each = [swap(&none, Some(&first), None), Swap { key: b"m", ..swap(&ones, Some(&first), None) }];
    assert_eq!(redis.swap_many(&each).await, [Ok(true), Ok(false)]);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_and_costs_the_others_nothing() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    server.ask::<()>(&["RPUSH", "weir:list", "x"]);
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    let each = redis.get_each(&["a", "list"]).await;
    assert_eq!(each[0], Ok(Some("1".into())));
    assert!(matches!(&each[1], Err(RedisError::Refused(text)) if text.starts_with("WRONGTYPE")), "{each:?}");
    let fails = Script::new("return redis.error_reply('MY own')");
    assert_eq!(redis.run(&fails, &[b"k"], &[]).await, Err(RedisError::Refused("MY own".into())));
    let stats = redis.stats();
    assert_eq!((stats.refused, stats.nodes[0].guard.failed), (2, 0), "a refusal is an answer");
}

#[tokio::test]
async fn a_sweep_deletes_what_begins_so_and_nothing_else() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let keys: Vec<String> = (0..2_000).map(|i| format!("m*:{i}")).collect();
    let entries: Vec<Set<'_>> = keys.iter().map(|key| plain(key.as_bytes(), b"1")).collect();
    redis.set_many(&entries).await.unwrap();
    redis.set_many(&[plain(b"mx:1", b"1"), plain(b"m", b"1")]).await.unwrap();
    server.ask::<()>(&["SET", "m*:1", "somebody else's"]);
    assert_eq!(redis.delete_matching(b"m*:").await, Ok(2_000));
    assert_eq!(server.ask::<u64>(&["DBSIZE"]), 3);
    assert_eq!(redis.delete_matching(b"").await, Ok(2));
}

#[tokio::test]
async fn databases_differ_and_an_empty_prefix_is_none() {
    let server = RedisServer::start();
    let first = redis(server.url());
    let mut config = config(format!("{}/1", server.url()));
    config.prefix = String::new();
    let second = Redis::new(&config).unwrap();
    first.set_many(&[plain(b"a", b"first")]).await.unwrap();
    second.set_many(&[plain(b"a", b"second")]).await.unwrap();
    assert_eq!(first.get_many(&["a"]).await, Ok(vec![Some("first".into())]));
    assert_eq!(server.ask::<String>(&["GET", "weir:a"]), "first");
    assert_eq!(second.get_many(&["a"]).await, Ok(vec![Some("second".into())]));
}
