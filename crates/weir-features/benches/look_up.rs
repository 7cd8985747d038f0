//! How long it takes to look up the 8 features of one entity, and to have one event counted and
//! acknowledged, in each store: `cargo bench -p weir-features`. Redis is a `redis-server` of its
//! own on this machine, the embedded store's file is in the target folder (a temporary folder
//! may be memory).
//!
//! A plain program, as the other benches: percentiles of single calls, one after the other.

// A program for developers: it prints, and stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{hint::black_box, path::Path, sync::Arc, time::Duration, time::Instant};

use weir_clients::redis::{Redis, RedisConfig};
use weir_config::HumanDuration;
use weir_features::{
    AggregateKind, Embedded, Entity, Event, Events, FeatureConfig, FeatureType, Features, KeyType, Memory,
    Question, RedisStore, Row, SharedStore, ViewConfig, Views,
};
use weir_testbed::RedisServer;
use weir_types::{Clock, Scalar, SystemClock};

const FEATURES: usize = 8;
const ENTITIES: i64 = 10_000;

fn feature(name: String) -> FeatureConfig {
    FeatureConfig {
        name,
        dtype: Some(FeatureType::Float32),
        default: None,
        aggregate: None,
        of: None,
        window: None,
        slide: None,
        description: None,
    }
}

fn view(name: &str, stream: Option<&str>, feature: Vec<FeatureConfig>) -> ViewConfig {
    ViewConfig {
        name: name.into(),
        entity: "user_id".into(),
        key: KeyType::Int64,
        ttl: None,
        stream: stream.map(Into::into),
        lateness: None,
        description: None,
        feature,
    }
}

/// `rows`: 8 values of a row. `spend`: 8 aggregates over an hour, in panes of 5 minutes.
fn views() -> Views {
    use AggregateKind::{Count, Distinct, Last, Max, Mean, Min, Sum};
    let plain = (0..FEATURES).map(|i| feature(format!("f{i}"))).collect();
    let aggregate = |(i, kind)| FeatureConfig {
        dtype: None,
        aggregate: Some(kind),
        of: Some("amount".into()),
        window: Some(HumanDuration::from_secs(3600)),
        slide: Some(HumanDuration::from_secs(300)),
        ..feature(format!("a{i}"))
    };
    let kinds = [Count, Sum, Mean, Min, Max, Last, Distinct, Sum];
    let aggregates = kinds.into_iter().enumerate().map(aggregate).collect();
    Views::new(&[view("rows", None, plain), view("spend", Some("payments"), aggregates)]).unwrap()
}

async fn fill(features: &Features, events: &Events) {
    let values = |n: i64| (0..FEATURES).map(|i| (format!("f{i}").into(), Scalar::Int(n))).collect();
    let rows = (0..ENTITIES).map(|n| Row { entity: n.into(), event_time: None, values: values(n) });
    features.put("rows", rows.collect()).await.unwrap();
    let now = features.now().micros();
    // 120 events of one entity, over its window.
    let at = |i: i64| weir_features::EventTime::from_micros(now - i * 30_000_000);
    let sent: Vec<_> = (0..120).rev().map(|i| event(i as f64 * 1.25, at(i))).collect();
    events.ingest("payments", sent).await.unwrap();
}

fn event(amount: f64, event_time: Option<weir_features::EventTime>) -> Event {
    Event { entity: 7.into(), event_time, id: None, values: vec![("amount".into(), Scalar::Float(amount))] }
}

/// p50 and p99 of `calls` calls, in microseconds.
async fn percentiles<F: Future>(calls: usize, mut call: impl FnMut(usize) -> F) -> (f64, f64) {
    let mut times = Vec::with_capacity(calls);
    for i in 0..calls + calls / 10 {
        let start = Instant::now();
        black_box(call(i).await);
        times.push(start.elapsed());
    }
    let mut times = times.split_off(calls / 10); // without those that warm it up
    times.sort_unstable();
    let micros = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
    (micros(50), micros(99))
}

async fn measure(name: &str, store: SharedStore, calls: usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let features = Features::new(views(), store, clock, Duration::from_secs(300));
    let events = Events::new(features.clone());
    fill(&features, &events).await;
    for view in ["rows", "spend"] {
        let id = features.views().find(view).unwrap();
        let names = if view == "rows" { "f" } else { "a" };
        let names = (0..FEATURES).map(|i| format!("{names}{i}"));
        let ids: Vec<_> = names.map(|name| features.views().view(id).find(&name).unwrap()).collect();
        let (p50, p99) = percentiles(calls, async |i| {
            let entity = Entity::Int(if view == "rows" { i as i64 * 7919 % ENTITIES } else { 7 });
            let found =
                features.look_up(&[Question { view: id, entity: &entity, features: &ids }]).await.unwrap();
            assert!(found.iter().all(Option::is_some));
        })
        .await;
        println!("{name:<10} look up 8 of {view:<6} {p50:>9.1} {p99:>9.1}");
    }
    let (p50, p99) = percentiles(calls / 50, async |_| {
        events.ingest("payments", vec![event(1.5, None)]).await.unwrap();
    })
    .await;
    println!("{name:<10} event acknowledged  {p50:>9.1} {p99:>9.1}");
    println!("{name:<10} {WRITERS} at once, a second {:>8.0}", many_at_once(&events).await);
}

/// Callers that each wait for their event to be acknowledged before they send the next.
const WRITERS: i64 = 64;

/// Events a second that are acknowledged, of as many entities as callers.
async fn many_at_once(events: &Events) -> f64 {
    const EACH: usize = 100;
    let start = Instant::now();
    let writer = |writer: i64| {
        let events = events.clone();
        tokio::spawn(async move {
            for _ in 0..EACH {
                let event = Event { entity: (100 + writer).into(), ..event(1.5, None) };
                events.ingest("payments", vec![event]).await.unwrap();
            }
        })
    };
    for writer in (0..WRITERS).map(writer).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    WRITERS as f64 * EACH as f64 / start.elapsed().as_secs_f64()
}

/// Bytes of memory that an entry takes, which expires and has been looked up, and how many the
/// budget counts.
async fn overhead() {
    const ENTRIES: i64 = 300_000;
    let view = ViewConfig {
        ttl: Some(HumanDuration::from_secs(3600)),
        ..view("rows", None, vec![feature("f".into())])
    };
    let store = Arc::new(Memory::new(1 << 30, Arc::new(SystemClock)));
    let ahead = Duration::from_secs(300);
    let features = Features::new(Views::new(&[view]).unwrap(), store.clone(), Arc::new(SystemClock), ahead);
    let held = || weir_features::Store::held(&*store).map_or(0, |held| held.state);
    let (before, counted) = (resident(), held());
    for n in 0..ENTRIES {
        let row = Row { entity: n.into(), event_time: None, values: vec![("f".into(), Scalar::Int(n))] };
        features.put("rows", vec![row]).await.unwrap();
        black_box(features.get("rows", &n.into()).await.unwrap());
    }
    let (grown, counted) = (resident() - before, held() - counted);
    let an_entry = |bytes: f64| bytes / ENTRIES as f64;
    println!("memory: {:.0} bytes an entry, {:.0} counted", an_entry(grown), an_entry(counted as f64));
}

/// Resident bytes of this process (Linux).
fn resident() -> f64 {
    const PAGE: f64 = 4096.0;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * PAGE
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    const BUDGET: usize = 256 << 20;
    overhead().await;
    println!("{:<31} {:>9} {:>9}   µs", "", "p50", "p99");
    let clock = || Arc::new(SystemClock);
    measure("memory", Arc::new(Memory::new(BUDGET, clock())), 50_000).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let embedded = Embedded::open(&folder.path().join("state.redb"), BUDGET, 1024, clock()).unwrap();
    measure("embedded", Arc::new(embedded), 50_000).await;
    let server = RedisServer::start();
    let timeout = HumanDuration::from_secs(10);
    let redis = Redis::new(&RedisConfig { timeout, ..RedisConfig::single(server.url()) }).unwrap();
    measure("redis", Arc::new(RedisStore::new(redis, clock())), 20_000).await;
}
