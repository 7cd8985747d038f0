//! Calls that are dropped at any point, by the thousand: nobody may get another's reply. (redis-rs #489
//! and aio-redis in 2023 are what happens where a connection forgets who waits for what.)

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::join_all;
use weir_clients::redis::{Redis, RedisConfig, RedisMode, Reply, Script, Set};
use weir_testbed::{RedisCluster, RedisServer};

use super::{
    config,
    double::{Double, PONG, count, is_ping},
    plain, redis,
};

/// Callers at once.
const CALLERS: u64 = 64;
/// A call that is given up was asked less often than this whether it is done.
const MOST_POLLS: u64 = 16;
/// Keys that there are.
const KEYS: u64 = 10_000;

/// Calls in all; `make test-storm` makes it a million.
fn calls() -> u64 {
    option_env!("WEIR_STORM_CALLS").map_or(50_000, |calls| calls.parse().unwrap())
}

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    mismatched: AtomicU64,
}

impl Tally {
    fn add(&self, which: fn(&Self) -> &AtomicU64, count: u64) {
        which(self).fetch_add(count, Ordering::Relaxed);
    }

    /// A call that was answered with so many replies of others, or failed.
    fn answered(&self, result: Option<u64>) {
        match result {
            None => self.add(|t| &t.failed, 1),
            Some(mismatched) => {
                self.add(|t| &t.answered, 1);
                self.add(|t| &t.mismatched, mismatched);
            }
        }
    }

    fn get(&self, which: fn(&Self) -> &AtomicU64) -> u64 {
        which(self).load(Ordering::Relaxed)
    }
}

/// A future that is asked as often as it takes, and given up when it has been asked `polls` times: before it
/// has done anything, while it waits to be sent, while it waits for the answer, whatever comes.
struct GivenUp<F> {
    call: F,
    polls: u64,
}

impl<F: Future + Unpin> Future for GivenUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.polls.checked_sub(1) else { return Poll::Ready(None) };
        self.polls = left;
        context.waker().wake_by_ref();
        Pin::new(&mut self.call).poll(context).map(Some)
    }
}

/// Numbers that are spread and the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn key(number: u64) -> String {
    format!("storm:{number}")
}

/// Values are as long as their key says, so that a reply in the wrong place is also of the wrong length.
fn value(key: &str) -> String {
    format!("{key}={}", "x".repeat(key.bytes().map(usize::from).sum::<usize>() % 300))
}

fn mismatches(keys: &[String], found: &[Option<Bytes>]) -> u64 {
    let wrong = |(key, found): &(&String, &Option<Bytes>)| {
        found.as_ref().is_some_and(|found| *found != value(key).as_bytes())
    };
    keys.iter().zip(found).filter(wrong).count() as u64
}

/// One caller's share of the storm.
async fn caller(redis: Redis, number: u64, calls: u64, tally: Arc<Tally>) {
    let (mut dice, echo) = (Dice(number), Script::new("return ARGV[1]"));
    for _ in 0..calls {
        let keys: Vec<String> = (0..=dice.roll(8)).map(|_| key(dice.roll(KEYS))).collect();
        let (kind, spared, mut polls) = (dice.roll(4), dice.roll(10) >= 3, dice.roll(MOST_POLLS));
        if spared {
            tally.answered(one(&redis, kind, &keys, &echo).await);
            continue;
        }
        // One that was answered sooner is made again, until it is given up: three in ten are.
        while let Some(result) = (GivenUp { call: pin!(one(&redis, kind, &keys, &echo)), polls }).await {
            tally.answered(result);
            polls /= 2;
        }
        tally.add(|t| &t.dropped, 1);
    }
}

/// A look-up, mostly; how many of its answers were another's, `None` if it failed.
async fn one(redis: &Redis, kind: u64, keys: &[String], echo: &Script) -> Option<u64> {
    let values: Vec<String> = keys.iter().map(|key| value(key)).collect();
    match kind {
        0 => {
            let entries: Vec<Set<'_>> =
                keys.iter().zip(&values).map(|(k, v)| plain(k.as_bytes(), v.as_bytes())).collect();
            let stored = redis.set_many(&entries).await.ok()?;
            Some(stored.iter().filter(|stored| !**stored).count() as u64)
        }
        1 => {
            let reply = redis.run(echo, &[keys[0].as_bytes()], &[values[0].as_bytes()]).await.ok()?;
            Some(u64::from(reply != Reply::Bytes(values[0].clone().into())))
        }
        _ => Some(mismatches(keys, &redis.get_many(keys).await.ok()?)),
    }
}

/// All callers at once, on all threads.
async fn storm(redis: &Redis, calls: u64) -> Arc<Tally> {
    let tally = Arc::<Tally>::default();
    let callers =
        (0..CALLERS).map(|i| tokio::spawn(caller(redis.clone(), i, calls / CALLERS, tally.clone())));
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_leaves_its_reply_to_nobody() {
    let server = RedisServer::start();
    let redis = redis(server.url());
    let calls = calls();
    let tally = storm(&redis, calls).await;
    println!("{tally:?}");
    assert_eq!(tally.get(|t| &t.mismatched), 0, "{tally:?}");
    assert_eq!(tally.get(|t| &t.failed), 0, "{tally:?}");
    let dropped = tally.get(|t| &t.dropped) as f64 / calls as f64;
    assert!((0.25..0.35).contains(&dropped), "{tally:?}");
    let stats = redis.stats();
    assert_eq!(stats.nodes[0].guard.in_flight, 0, "what was dropped gave its room back");
    assert_eq!(stats.nodes[0].guard.opened, 0);
}

/// In a cluster a call is several, and dropped with some of them answered.
#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_that_went_to_several_servers() {
    let cluster = RedisCluster::start();
    let nodes = cluster.urls();
    let config = RedisConfig { mode: RedisMode::Cluster, url: None, nodes, ..config("") };
    let tally = storm(&Redis::new(&config).unwrap(), calls() / 5).await;
    println!("{tally:?}");
    assert_eq!((tally.get(|t| &t.mismatched), tally.get(|t| &t.failed)), (0, 0), "{tally:?}");
}

/// The storm is worth nothing if it would not see what it looks for: a server that answers each look-up with
/// the value of another key.
#[tokio::test(flavor = "multi_thread")]
async fn the_storm_would_notice() {
    let wrong = value(&key(1));
    let double = Double::start(move |heard| match (is_ping(heard), count(heard, b"GET\r\n")) {
        (true, _) => PONG.to_vec(),
        (false, asked) => format!("${}\r\n{wrong}\r\n", wrong.len()).repeat(asked).into_bytes(),
    })
    .await;
    let redis = redis(double.url());
    let keys = [key(7)];
    let found = redis.get_many(&keys).await.unwrap();
    assert_eq!(mismatches(&keys, &found), 1);
    assert_eq!(mismatches(&[key(1)], &found), 0);
}
