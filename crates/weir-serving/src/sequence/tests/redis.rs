//! The contract of stores, and two servers on one real Redis.

use weir_clients::redis::{Redis, RedisConfig};
use weir_config::HumanDuration;
use weir_testbed::{RedisCluster, RedisServer};

use super::{replicas::MemoryStore, *};

/// A store in `config`'s Redis. Patient: the machine is busy while tests run.
fn store(config: RedisConfig) -> Arc<dyn SequenceStore> {
    let config = RedisConfig { timeout: HumanDuration::from_secs(10), ..config };
    Arc::new(RedisSequences::new(Redis::new(&config).unwrap()))
}

fn value(token: Token, text: &str) -> Vec<u8> {
    [&token.as_bytes()[..], text.as_bytes()].concat()
}

/// What every store keeps.
async fn contract(store: &dyn SequenceStore) {
    let put = async |key: &[u8], expected: Expected<'_>, value: Vec<u8>| {
        store.put(key, expected, value, TTL).await.unwrap()
    };
    let [one, two, three] = [1, 2, 3].map(Token::new);
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert!(!put(b"k", Expected::OneOf(&[one]), value(one, "x")).await, "nothing is not what was expected");
    assert!(!store.delete(b"k", Expected::OneOf(&[one])).await.unwrap());
    assert!(put(b"k", Expected::Anything, value(one, "first")).await);
    assert_eq!(store.get(b"k").await.unwrap(), Some(value(one, "first")));
    assert!(!put(b"k", Expected::OneOf(&[two]), value(two, "x")).await);
    assert!(!put(b"k", Expected::OneOf(&[]), value(two, "x")).await, "nothing is expected: nothing fits");
    assert!(put(b"k", Expected::OneOf(&[two, one]), value(three, "second\0\r\n")).await);
    assert_eq!(store.get(b"k").await.unwrap(), Some(value(three, "second\0\r\n")));
    assert!(put(b"other", Expected::Anything, value(one, "")).await);
    assert!(!store.delete(b"k", Expected::OneOf(&[one])).await.unwrap());
    assert!(store.delete(b"k", Expected::OneOf(&[three])).await.unwrap());
    assert!(store.delete(b"k", Expected::Anything).await.unwrap());
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert_eq!(store.get(b"other").await.unwrap(), Some(value(one, "")));
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&*MemoryStore::new(&Standing::new())).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let server = RedisServer::start();
    contract(&*store(RedisConfig::single(server.url()))).await;
    let ttl: i64 = server.ask(&["PTTL", "weir:other"]);
    assert!((1..=10_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    let cluster = RedisCluster::start();
    let mode = weir_clients::redis::RedisMode::Cluster;
    contract(&*store(RedisConfig { mode, nodes: cluster.urls(), ..RedisConfig::default() })).await;
}

#[tokio::test]
async fn two_servers_go_on_with_each_others_sequences() {
    let redis = RedisServer::start();
    let clock = Standing::new();
    let server = || executor(Cost::Light, spec(100), &clock, Some(store(RedisConfig::single(redis.url()))));
    let servers = [server(), server()];
    for n in 0..20u32 {
        for id in 1..6 {
            // From one to the other and back, each sequence at moments of its own.
            let on = &servers[(n as usize / id as usize) % 2];
            let done = on.execute(step(&clock, id, (n == 0, n == 19), n as f32)).await.unwrap();
            assert_eq!(sum(&done), (n * (n + 1) / 2) as f32, "step {n} of {id}");
        }
    }
    let left: Vec<String> = redis.ask(&["KEYS", "*"]);
    assert!(left.is_empty(), "what ended is still there: {left:?}");
}

#[tokio::test]
async fn steps_of_one_sequence_on_two_servers_at_once_are_one_after_the_other() {
    let redis = RedisServer::start();
    let clock = Standing::new();
    let server = || {
        let store = store(RedisConfig::single(redis.url()));
        Arc::new(executor(Cost::Light, spec(100), &clock, Some(store)))
    };
    let servers = [server(), server()];
    servers[0].execute(step(&clock, 1, (true, false), 0.0)).await.unwrap();
    let mut sums = Vec::new();
    let mut conflicts = 0;
    for _ in 0..10 {
        let mut both = JoinSet::new();
        for server in servers.clone() {
            let job = step(&clock, 1, (false, false), 1.0);
            both.spawn(async move { server.execute(job).await });
        }
        for answer in both.join_all().await {
            match answer {
                Ok(done) => sums.push(sum(&done)),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::Conflict);
                    conflicts += 1;
                }
            }
        }
    }
    // Whatever was answered was done once: the sums are 1, 2, 3 and so on, in some order.
    sums.sort_by(f32::total_cmp);
    let wanted: Vec<f32> = (1..=20 - conflicts).map(|n| n as f32).collect();
    assert_eq!(sums, wanted);
}

/// What the log says of keeping sequences.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text = format!("{value:?}")
        });
        if text.contains(" kept") {
            self.0.lock().unwrap().push(text);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn without_redis_no_step_is_answered_and_none_is_lost_and_the_log_says_so_once() {
    let log = Arc::new(Log::default());
    let _log = tracing::subscriber::set_default(log.clone());
    let mut redis = RedisServer::start();
    let clock = Standing::new();
    let quick = RedisConfig { timeout: HumanDuration::from_millis(100), ..RedisConfig::single(redis.url()) };
    let store = Arc::new(RedisSequences::new(Redis::new(&quick).unwrap()));
    let server = executor(Cost::Light, spec(100), &clock, Some(store));
    let ask = |x| server.execute(step(&clock, 1, (x == 1.0, false), x));
    // The first call waits for the connection, which a busy machine may not make in time.
    while ask(1.0).await.is_err() {}
    log.take();
    redis.stop();
    for _ in 0..3 {
        let away = ask(10.0).await.unwrap_err();
        assert_eq!((away.code, away.retry_after.is_some()), (ErrorCode::Unavailable, true));
    }
    let told = log.take();
    assert!(told.len() == 1 && told[0].contains("cannot be kept, their steps fail: Redis"), "{told:?}");
    redis.cont();
    // What was asked of it while it was stopped may be done now.
    let after = loop {
        if let Ok(done) = ask(10.0).await {
            break done;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(sum(&after), 11.0);
    assert_eq!(log.take(), ["sequences can be kept again"]);
    redis.kill();
    assert_eq!(ask(10.0).await.unwrap_err().code, ErrorCode::Unavailable);
}
