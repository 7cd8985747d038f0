//! What a round trip to Redis costs, beside the same bytes on a blocking socket, and what it costs while
//! Redis is away: `cargo bench -p weir-clients`. Needs redis-server (`make servers`).
//!
//! A plain program, as the other benches are: medians of some thousand calls, each timed by itself.

// A program for developers: it prints, and stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;
use weir_clients::{
    BreakerState,
    redis::{Redis, RedisConfig, Script, Set, SetCondition},
};
use weir_testbed::RedisServer;

/// Bytes of a value: what an answer of a few numbers takes with its identity.
const VALUE: [u8; 200] = [b'v'; 200];
/// Keys are as long as a hash and its prefix.
const KEYS: usize = 1_024;
const CALLS: usize = 20_000;
/// Calls before the first that counts.
const WARM_UP: usize = 2_000;

fn key(number: usize) -> String {
    format!("bench:{number:032}")
}

/// The 32 keys of call `i`, or as many.
fn some(keys: &[String], i: usize, count: usize) -> &[String] {
    let first = i * 37 % (KEYS - count);
    &keys[first..first + count]
}

fn set(key: &str) -> Set<'_> {
    let (ttl, condition) = (Some(Duration::from_secs(3_600)), SetCondition::Always);
    Set { key: key.as_bytes(), value: &VALUE, ttl, condition }
}

/// Prints the median and the 99th percentile of what one call takes, `call` being given its number.
async fn measure(name: &str, mut call: impl AsyncFnMut(usize)) {
    let mut took = Vec::with_capacity(CALLS);
    for i in 0..WARM_UP + CALLS {
        let begun = Instant::now();
        call(i).await;
        took.push(begun.elapsed());
    }
    took.drain(..WARM_UP);
    took.sort();
    let us = |share: f64| took[(took.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("| {name} | {:.2} | {:.2} |", us(0.5), us(0.99));
}

/// `count` look-ups as they go over the wire, and the length of their answer.
fn wire(keys: &[String]) -> (Vec<u8>, usize) {
    let look_up = |key: &String| {
        let key = format!("weir:{key}");
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
    };
    let sent: String = keys.iter().map(look_up).collect();
    (sent.into_bytes(), keys.len() * ("$200\r\n".len() + VALUE.len() + "\r\n".len()))
}

async fn floor(server: &RedisServer, keys: &[String], count: usize) {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut answer = vec![0; 64 * 1024];
    let asked: Vec<_> = (0..WARM_UP + CALLS).map(|i| wire(some(keys, i, count))).collect();
    measure(&format!("blocking socket, {count} GET"), async |i| {
        let (sent, length) = &asked[i];
        socket.write_all(sent).unwrap();
        socket.read_exact(&mut answer[..*length]).unwrap();
    })
    .await;
}

async fn calls(redis: &Redis, keys: &[String]) {
    for count in [1, 32] {
        measure(&format!("get_many, {count}"), async |i| {
            let found = redis.get_many(some(keys, i, count)).await.unwrap();
            assert!(found.iter().all(Option::is_some));
        })
        .await;
    }
    for count in [1, 32] {
        measure(&format!("set_many, {count}"), async |i| {
            let entries: Vec<Set<'_>> = some(keys, i, count).iter().map(|key| set(key)).collect();
            redis.set_many(&entries).await.unwrap();
        })
        .await;
    }
    let script = Script::new("return redis.call('GET', KEYS[1])");
    measure("run, a script of one GET", async |i| {
        redis.run(&script, &[some(keys, i, 1)[0].as_bytes()], &[]).await.unwrap();
    })
    .await;
}

/// Many callers on the one connection.
async fn together(redis: &Redis, keys: &[String], callers: usize) {
    let each = CALLS * 4 / callers;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (redis, keys) = (redis.clone(), keys.to_vec());
            tokio::spawn(async move {
                for i in 0..each {
                    redis.get_many(some(&keys, i * callers + caller, 1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let per_second = (each * callers) as f64 / begun.elapsed().as_secs_f64();
    println!("\n{callers} callers of get_many with 1 key: {per_second:.0} calls a second");
}

fn main() {
    let mut server = RedisServer::start();
    let mut config = RedisConfig::single(server.url());
    // A hiccup of the machine is to be measured, not to end the run.
    config.timeout = weir_config::HumanDuration::from_secs(1);
    let redis = Redis::new(&config).unwrap();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        redis.set_many(&keys.iter().map(|key| set(key)).collect::<Vec<_>>()).await.unwrap();
        println!("| values of 200 bytes | p50, µs | p99, µs |\n| --- | --: | --: |");
        floor(&server, &keys, 1).await;
        floor(&server, &keys, 32).await;
        calls(&redis, &keys).await;
        server.kill();
        while redis.stats().breaker() == BreakerState::Closed {
            let _ = redis.get_many(&keys[..1]).await;
            tokio::task::yield_now().await;
        }
        measure("get_many, 1, while it is away", async |_| {
            assert!(redis.get_many(&keys[..1]).await.is_err())
        })
        .await;
        server.restart();
        while redis.set_many(&keys.iter().map(|key| set(key)).collect::<Vec<_>>()).await.is_err() {
            tokio::task::yield_now().await;
        }
        together(&redis, &keys, 64).await;
    });
}
