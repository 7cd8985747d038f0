//! Idempotency keys, on every store, and between two processes on one Redis.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use weir_clients::redis::RedisConfig;
use weir_config::{ByteSize, HumanDuration};
use weir_features::{
    Begun, Budget, Entity, Event, Events, Features, Idempotency, IdempotencyConfig, IdempotencyError,
    IdempotencyGuard, RedisStore, Row, SharedStore, StoredAnswer,
};
use weir_testbed::RedisServer;
use weir_types::{Clock, Deadline, Scalar};

use crate::support::{Fixture, ManualClock, at, on_every_store, redis, views};

on_every_store!(
    a_key_of_what_may_have_been_done_stays_taken,
    the_first_answer_is_given_again,
    a_key_that_was_not_finished_is_free_again,
    a_dead_owners_lease_ends,
    of_many_at_once_one_is_first,
);

fn service(fixture: &Fixture) -> Idempotency {
    let config = IdempotencyConfig { max_answer: ByteSize::kib(64), ..IdempotencyConfig::default() };
    Idempotency::new(&config, fixture.store.clone(), fixture.clock.clone())
}

/// By when a request of these tests has to be answered: 30 s after they began.
fn soon(clock: &ManualClock) -> Deadline {
    Deadline::after(clock.now(), Duration::from_secs(30))
}

const ONE: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];

fn answer(body: &'static str) -> StoredAnswer {
    let headers = vec![(Bytes::from("content-type"), Bytes::from("application/json"))];
    StoredAnswer { status: 200, headers, body: body.into() }
}

/// With half a minute to answer.
async fn begin(service: &Idempotency, key: &str, print: [u8; 32]) -> Result<Begun, IdempotencyError> {
    service
        .begin("alice", key, print, Deadline::after(std::time::Instant::now(), Duration::from_secs(30)))
        .await
}

fn guard(begun: Begun) -> IdempotencyGuard {
    match begun {
        Begun::Fresh(guard) => guard,
        other => panic!("not fresh: {other:?}"),
    }
}

async fn the_first_answer_is_given_again(fixture: &Fixture) {
    let service = service(fixture);
    let begin = |principal: &'static str, print| service.begin(principal, "k-1", print, soon(&fixture.clock));
    let first = guard(begin("alice", ONE).await.unwrap());
    assert!(matches!(begin("alice", ONE).await.unwrap(), Begun::InFlight));
    assert!(matches!(begin("alice", OTHER).await.unwrap(), Begun::Mismatch));
    let bobs = guard(begin("bob", OTHER).await.unwrap());
    first.finish(answer("[1]")).await.unwrap();
    bobs.finish(answer("[2]")).await.unwrap();
    for (principal, print, body) in [("alice", ONE, "[1]"), ("bob", OTHER, "[2]")] {
        match begin(principal, print).await.unwrap() {
            Begun::Replay(found) => assert_eq!(found, answer(body)),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(begin("alice", OTHER).await.unwrap(), Begun::Mismatch));
    fixture.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(matches!(begin("alice", ONE).await.unwrap(), Begun::Replay(_)));
    fixture.clock.advance(Duration::from_secs(1));
    guard(begin("alice", OTHER).await.unwrap()).release().await.unwrap();
}

async fn a_key_that_was_not_finished_is_free_again(fixture: &Fixture) {
    let service = service(fixture);
    guard(begin(&service, "k", ONE).await.unwrap()).release().await.unwrap();
    // A dropped guard frees the key in the background: the next one comes through as soon as
    // that is done.
    drop(guard(begin(&service, "k", OTHER).await.unwrap()));
    let again = loop {
        match begin(&service, "k", ONE).await.unwrap() {
            Begun::Fresh(guard) => break guard,
            Begun::Mismatch => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    // So does a caller who goes away before it knows whether it was the first.
    let mut call = Box::pin(begin(&service, "left", OTHER));
    std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
    drop(call);
    while !matches!(begin(&service, "left", ONE).await.unwrap(), Begun::Fresh(_)) {
        tokio::task::yield_now().await;
    }
    // An answer that is too large is not kept, and the key is free.
    let large = StoredAnswer { body: vec![7; 65 << 10].into(), ..answer("") };
    assert!(matches!(again.finish(large).await, Err(IdempotencyError::TooLarge(_))));
    loop {
        match begin(&service, "k", OTHER).await.unwrap() {
            Begun::Fresh(guard) => break guard.finish(answer("[]")).await.unwrap(),
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn a_key_of_what_may_have_been_done_stays_taken(fixture: &Fixture) {
    let service = service(fixture);
    let begin = |key: &'static str| service.begin("alice", key, ONE, soon(&fixture.clock));
    drop(guard(begin("dropped").await.unwrap()).binding());
    let large = StoredAnswer { body: vec![7; 65 << 10].into(), ..answer("") };
    let unkept = guard(begin("large").await.unwrap()).binding();
    assert!(!unkept.fits(&large) && unkept.fits(&answer("[]")));
    assert!(matches!(unkept.finish(large).await, Err(IdempotencyError::TooLarge(_))));
    // What would free them in the background has had its turn when others come and go.
    for _ in 0..8 {
        guard(begin("other").await.unwrap()).release().await.unwrap();
        tokio::task::yield_now().await;
    }
    for key in ["dropped", "large"] {
        assert!(matches!(begin(key).await.unwrap(), Begun::InFlight), "{key}");
    }
    fixture.clock.advance(Duration::from_secs(60));
    for key in ["dropped", "large"] {
        // Whoever says that nothing was done frees it.
        guard(begin(key).await.unwrap()).binding().release().await.unwrap();
        guard(begin(key).await.unwrap()).finish(answer("[]")).await.unwrap();
    }
}

async fn a_dead_owners_lease_ends(fixture: &Fixture) {
    let service = service(fixture);
    let begin = || service.begin("alice", "k", ONE, soon(&fixture.clock));
    let dead = guard(begin().await.unwrap());
    fixture.clock.advance(Duration::from_secs(59));
    assert!(matches!(begin().await.unwrap(), Begun::InFlight));
    fixture.clock.advance(Duration::from_secs(1));
    let next = guard(begin().await.unwrap());
    // It was not dead but slow: its answer must not take the place of the next one's.
    assert_eq!(dead.finish(answer("slow")).await, Err(IdempotencyError::Lost));
    next.finish(answer("next")).await.unwrap();
    assert!(matches!(begin().await.unwrap(), Begun::Replay(a) if a == answer("next")));
}

async fn of_many_at_once_one_is_first(fixture: &Fixture) {
    let service = service(fixture);
    for key in ["a", "b", "c"] {
        let one = |_| {
            let service = service.clone();
            tokio::spawn(async move { begin(&service, key, ONE).await.unwrap() })
        };
        let mut fresh = Vec::new();
        for begun in (0..32).map(one).collect::<Vec<_>>() {
            match begun.await.unwrap() {
                Begun::Fresh(guard) => fresh.push(guard),
                Begun::InFlight => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(fresh.len(), 1);
        fresh.remove(0).finish(answer("[]")).await.unwrap();
    }
}

/// The figure that `[idempotency] budget` and the guide give.
#[tokio::test]
async fn a_short_answer_takes_510_bytes() {
    let fixture = Fixture::memory();
    let counted = answer(r#"{"accepted":1,"late":0,"duplicates":0}"#);
    let service = service(&fixture);
    guard(begin(&service, "k", ONE).await.unwrap()).finish(counted).await.unwrap();
    assert_eq!(fixture.store.held(), Some(Budget { state: 0, idempotency: 510 }));
}

#[tokio::test]
async fn keys_and_headers_have_bounds() {
    let service = service(&Fixture::memory());
    for bad in ["", "a b", "é", "a\n", &"k".repeat(256)] {
        assert_eq!(begin(&service, bad, ONE).await.err(), Some(IdempotencyError::Key(bad.len())));
    }
    let headers = vec![(Bytes::from("h"), Bytes::from("v")); 33];
    let guard = guard(begin(&service, &"k".repeat(255), ONE).await.unwrap());
    let refused = guard.finish(StoredAnswer { headers, ..answer("") }).await;
    assert!(matches!(refused, Err(IdempotencyError::TooLarge(_))));
}

const VIEWS: &str = r#"
[[view]]
name = "rows"
entity = "id"
feature = [{ name = "n", dtype = "int64" }]

[[view]]
name = "counts"
entity = "id"
stream = "s"
feature = [{ name = "n", aggregate = "count", window = "1h" }, { name = "sum", aggregate = "sum", of = "x", window = "1h" }]
"#;

fn services(url: &str) -> (Features, Events, Idempotency) {
    let clock = ManualClock::new();
    let store: SharedStore = Arc::new(RedisStore::new(redis(RedisConfig::single(url)), clock.clone()));
    let features = Features::new(views(VIEWS), store.clone(), clock.clone(), Duration::from_secs(300));
    let config = IdempotencyConfig { ttl: HumanDuration::from_secs(3600), ..IdempotencyConfig::default() };
    (features.clone(), Events::new(features), Idempotency::new(&config, store, clock))
}

/// Keys that both processes begin, and events that each counts.
const KEYS: usize = 100;
const EVENTS: usize = 100;

/// The other replica: does as it is told, a line at a time. Reads the server's address first.
#[test]
#[ignore = "started by the test below"]
fn replica() {
    let mut lines = std::io::stdin().lines();
    let url = lines.next().unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let services = services(&url);
    say("ready");
    for line in lines {
        let said = runtime.block_on(obey(&services, &line.unwrap()));
        say(&said);
    }
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").unwrap();
}

async fn obey((features, events, idempotency): &(Features, Events, Idempotency), order: &str) -> String {
    match order.split_once(' ').unwrap_or((order, "")) {
        ("read", entity) => {
            let rows = features.get("rows", &entity.into()).await.unwrap();
            format!("{:?}", rows[0].as_ref().map(|f| &f.value))
        }
        ("begin", key) => match begin(idempotency, key, ONE).await.unwrap() {
            Begun::Fresh(guard) => {
                std::mem::forget(guard); // the process will die with it
                "fresh".into()
            }
            Begun::Replay(answer) => format!("replay {}", String::from_utf8_lossy(&answer.body)),
            other => format!("{other:?}"),
        },
        _ => race(events, idempotency, "child").await.join(" "),
    }
}

/// Counts events and begins keys, while the other process does the same; the keys it was first
/// at, all finished.
async fn race(events: &Events, idempotency: &Idempotency, who: &'static str) -> Vec<String> {
    let mut won = Vec::new();
    for i in 0..KEYS.max(EVENTS) {
        let values = vec![("x".into(), Scalar::Float(0.1))];
        let event = Event { entity: "both".into(), event_time: Some(at(0.0)), id: None, values };
        events.ingest("s", vec![event]).await.unwrap();
        if let Begun::Fresh(guard) = begin(idempotency, &format!("key-{i}"), ONE).await.unwrap() {
            guard.finish(answer(who)).await.unwrap();
            won.push(i.to_string());
        }
    }
    won
}

struct Replica {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Replica {
    fn start(url: &str) -> Self {
        let arguments = ["--exact", "idempotency::replica", "--ignored", "--nocapture"];
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut replica = Self { child, said };
        replica.tell(url);
        while !replica.hear().ends_with("ready") {} // the test harness speaks first
        replica
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        self.said.next().unwrap().unwrap()
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_redis_agree() {
    let server = RedisServer::start();
    let (features, events, idempotency) = services(&server.url());
    let mut replica = Replica::start(&server.url());

    // What one has written, the other reads, at once.
    for n in 0..20 {
        let row =
            Row { entity: "a".into(), event_time: Some(at(0.0)), values: vec![("n".into(), Scalar::Int(n))] };
        features.put("rows", vec![row]).await.unwrap();
        assert_eq!(replica.ask("read a"), format!("Some(Int({n}))"));
    }

    // Both at once: every event counts once, every key is won once.
    replica.tell("race");
    let ours = race(&events, &idempotency, "parent").await;
    let theirs = replica.hear();
    let theirs: Vec<_> = theirs.split_whitespace().map(String::from).collect();
    let mut all: Vec<usize> = ours.iter().chain(&theirs).map(|n| n.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..KEYS).collect::<Vec<_>>());
    let found = features.get("counts", &Entity::from("both")).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|f| f.unwrap().value).collect();
    assert_eq!(values, [Scalar::Int(2 * EVENTS as i64), Scalar::Float(20.0)]);

    // The other's answers are given here too, word by word; what it has begun is in flight here.
    for i in &theirs {
        let begun = begin(&idempotency, &format!("key-{i}"), ONE).await.unwrap();
        assert!(matches!(begun, Begun::Replay(found) if found == answer("child")));
    }
    if let Some(i) = ours.first() {
        assert_eq!(replica.ask(&format!("begin key-{i}")), "replay parent");
    }
    assert_eq!(replica.ask("begin last"), "fresh");
    assert!(matches!(begin(&idempotency, "last", ONE).await.unwrap(), Begun::InFlight));
}
