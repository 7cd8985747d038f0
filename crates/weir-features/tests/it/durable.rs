//! The embedded store: what was acknowledged is found again, and nothing else.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use weir_features::{
    Budget, Change, Embedded, Event, Events, Features, Memory, Row, SharedStore, Store, StoreError, Stored,
    Update,
};
use weir_types::Scalar;

use crate::support::{BUDGET, ManualClock, at, views};

fn open(path: &Path) -> Result<Embedded, String> {
    Embedded::open(path, BUDGET, 64, ManualClock::new()).map_err(|e| e.to_string())
}

fn put(key: &str, value: &str) -> Update {
    let stored = Stored { value: Bytes::copy_from_slice(value.as_bytes()), expires: None };
    Update {
        key: Bytes::copy_from_slice(key.as_bytes()),
        decide: Box::new(move |_| Change::Put(stored.clone())),
    }
}

const VIEWS: &str = r#"
[[view]]
name = "rows"
entity = "id"
key = "int64"
feature = [{ name = "n", dtype = "int64" }]

[[view]]
name = "counts"
entity = "id"
key = "int64"
stream = "s"
lateness = "1h"
feature = [{ name = "n", aggregate = "count", window = "1h" }, { name = "sum", aggregate = "sum", of = "x", window = "1h" }]
"#;

/// Both services on the file at `path`.
fn services(path: &Path) -> (Features, Events) {
    let clock = ManualClock::new();
    let store: SharedStore = Arc::new(Embedded::open(path, BUDGET, 1024, clock.clone()).unwrap());
    let features = Features::new(views(VIEWS), store, clock, Duration::from_secs(300));
    (features.clone(), Events::new(features))
}

/// Writers at once in the child process.
const WRITERS: i64 = 4;

/// The process that is killed: it writes until it dies, and says what was acknowledged. Reads
/// the file's path and the first number from its input.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let mut input = String::new();
    std::io::stdin().read_line(&mut input).unwrap();
    let (path, first) = input.trim().rsplit_once(' ').unwrap();
    let first: i64 = first.parse().unwrap();
    let (features, events) = services(Path::new(path));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let write = |writer: i64| {
        let (features, events) = (features.clone(), events.clone());
        runtime.spawn(async move {
            for n in (first + writer..).step_by(WRITERS as usize) {
                let row = Row {
                    entity: n.into(),
                    event_time: Some(at(0.0)),
                    values: vec![("n".into(), Scalar::Int(n))],
                };
                features.put("rows", vec![row]).await.unwrap();
                let values = vec![("x".into(), Scalar::Int(n))];
                let event = Event { entity: writer.into(), event_time: Some(at(0.0)), id: None, values };
                events.ingest("s", vec![event]).await.unwrap();
                writeln!(std::io::stdout().lock(), "acknowledged {n}.").unwrap();
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    writers.into_iter().for_each(|writer| runtime.block_on(writer).unwrap());
}

fn start(path: &Path, first: i64) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "durable::child", "--ignored", "--nocapture"];
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{} {first}", path.display()).unwrap();
    child
}

/// What was acknowledged before the process was killed, in the midst of writing.
fn killed_after(path: &Path, first: i64, count: usize) -> Vec<i64> {
    let mut child = start(path, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        let Ok(line) = line else { break };
        // With its full stop: a line that the kill cut short says nothing.
        let number = line.strip_prefix("acknowledged ").and_then(|line| line.strip_suffix('.'));
        acknowledged.extend(number.map(|n| n.parse::<i64>().unwrap()));
        if acknowledged.len() == count {
            child.kill().unwrap(); // SIGKILL; what it had said is read on
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "only {} of {count} lines", acknowledged.len());
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let (mut acknowledged, mut first) = (Vec::new(), 0);
    for round in 0..3 {
        acknowledged.extend(killed_after(&path, first, 100 + 50 * round));
        let (features, _) = services(&path);
        check(&features, &acknowledged).await;
        first = (acknowledged.iter().max().unwrap() / WRITERS + 1000) * WRITERS;
    }
}

async fn check(features: &Features, acknowledged: &[i64]) {
    for &n in acknowledged {
        let found = features.get("rows", &n.into()).await.unwrap();
        assert_eq!(found[0].as_ref().map(|f| &f.value), Some(&Scalar::Int(n)));
    }
    let writer_of = |n: &&i64, writer| **n % WRITERS == writer;
    for writer in 0..WRITERS {
        let ours: Vec<_> = acknowledged.iter().filter(|n| writer_of(n, writer)).collect();
        let found = features.get("counts", &writer.into()).await.unwrap();
        let Some(Scalar::Int(count)) = found[0].as_ref().map(|f| &f.value) else { panic!("{found:?}") };
        // Each kill may have met one event of each writer that was stored and not acknowledged.
        let extra = count - ours.len() as i64;
        assert!((0..=3).contains(&extra), "{count} events of writer {writer}, {} acknowledged", ours.len());
        if extra == 0 {
            let sum: i64 = ours.into_iter().sum();
            assert_eq!(found[1].as_ref().unwrap().value, Scalar::Float(sum as f64));
        }
    }
}

#[tokio::test]
async fn a_file_is_used_by_one_process_at_a_time_and_keeps_what_it_has() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let store = open(&path).unwrap();
    store.update(vec![put("a", "1"), put("b", "2")]).await.unwrap();
    let refused = open(&path).err().unwrap();
    assert!(refused.contains("is in use by another process"), "{refused}");
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(store.get(vec!["a".into(), "b".into()]).await.unwrap(), [Some("1".into()), Some("2".into())]);
}

#[tokio::test]
async fn what_expired_while_nobody_was_there_is_gone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let stored = Stored { value: "1".into(), expires: Some(at(10.0)) };
    let update = Update { key: "a".into(), decide: Box::new(move |_| Change::Put(stored.clone())) };
    open(&path).unwrap().update(vec![update, put("b", "2")]).await.unwrap();
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(10));
    let store = Embedded::open(&path, BUDGET, 64, clock).unwrap();
    assert_eq!(store.get(vec!["a".into(), "b".into()]).await.unwrap(), [None, Some("2".into())]);
    let one_entry = store.held().unwrap();
    drop(store);
    // It is gone from the file too: a clock that is set back does not bring it again.
    assert_eq!(open(&path).unwrap().held(), Some(one_entry));
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    for content in [&b"PK\x03\x04 something else entirely"[..], &[0; 8192], b"redb"] {
        std::fs::write(&path, content).unwrap();
        let refused = open(&path).err().unwrap();
        assert!(refused.contains("state.redb") && refused.contains("is "), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    let other = folder.path().join("other.redb");
    let database = redb::Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = open(&other).err().unwrap();
    assert!(refused.contains("belongs to another program"), "{refused}");
    let nowhere = open(&folder.path().join("no/such/folder/state.redb")).err().unwrap();
    assert!(nowhere.contains("cannot be opened"), "{nowhere}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_right() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.redb");
    let value = |i: usize| format!("value {i} ").repeat(20);
    let store = open(&path).unwrap();
    store.update((0..200).map(|i| put(&format!("k{i}"), &value(i))).collect()).await.unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let (mut refused, mut right) = (0, 0);
    for step in 0..97 {
        let mut damaged = whole.clone();
        match step % 3 {
            0 => damaged.truncate(whole.len() * step / 97),
            _ => damaged[whole.len() * step / 97] ^= 1 << (step % 8),
        }
        std::fs::write(&path, &damaged).unwrap();
        match open(&path) {
            Err(why) => {
                assert!(why.contains("state.redb"), "{why}");
                refused += 1;
            }
            // An empty file is a new one; else it has to have everything, as it was.
            Ok(_) if damaged.is_empty() => {}
            Ok(store) => {
                for i in 0..200 {
                    let found = store.get(vec![format!("k{i}").into()]).await.unwrap();
                    assert_eq!(found, [Some(value(i).into())], "step {step}");
                }
                right += 1;
            }
        }
    }
    assert!(refused > 30, "{refused} refused, {right} right");
}

#[tokio::test]
async fn a_full_store_refuses_until_something_expires_or_is_deleted() {
    let folder = TempDir::new().unwrap();
    let (path, clock) = (folder.path().join("state.redb"), ManualClock::new());
    let store = Embedded::open(&path, 11_000, 64, clock.clone()).unwrap();
    let large = |key: &str, expires| {
        let stored = Stored { value: vec![7; 3000].into(), expires };
        Update {
            key: Bytes::copy_from_slice(key.as_bytes()),
            decide: Box::new(move |_| Change::Put(stored.clone())),
        }
    };
    store.update(vec![large("a", Some(at(10.0))), large("b", None), large("c", None)]).await.unwrap();
    assert_eq!(store.update(vec![large("d", None)]).await, Err(StoreError::Full));
    store.update(vec![large("c", None)]).await.unwrap(); // no larger than before
    clock.advance(Duration::from_secs(10));
    store.update(vec![large("d", None)]).await.unwrap(); // in the place of what expired
    assert_eq!(store.get(vec!["a".into(), "d".into()]).await.unwrap(), [None, Some(vec![7; 3000].into())]);
    let delete = Update { key: "d".into(), decide: Box::new(|_| Change::Delete) };
    store.update(vec![delete, large("e", None)]).await.unwrap();
    assert_eq!(store.get(vec!["d".into(), "e".into()]).await.unwrap(), [None, Some(vec![7; 3000].into())]);
    assert_eq!(store.update(vec![large("d", None)]).await, Err(StoreError::Full));
    drop(store);
    let refused = Embedded::open(&path, 1000, 64, clock).err().unwrap().to_string();
    assert!(refused.contains("more than the 1000 of `[state] budget`"), "{refused}");
}

#[tokio::test]
async fn all_that_has_expired_goes_before_a_write_is_refused() {
    let (folder, clock) = (TempDir::new().unwrap(), ManualClock::new());
    let store = Embedded::open(&folder.path().join("s"), 500_000, 64, clock.clone()).unwrap();
    let put = |key: String, bytes: usize, expires| {
        let stored = Stored { value: vec![7; bytes].into(), expires };
        Update { key: key.into(), decide: Box::new(move |_| Change::Put(stored.clone())) }
    };
    // More entries than a commit removes on its way.
    let small = (0..1300).map(|i| put(format!("k{i}"), 1, Some(at(10.0))));
    store.update(small.collect()).await.unwrap();
    clock.advance(Duration::from_secs(10));
    store.update(vec![put("large".into(), 490_000, None)]).await.unwrap();
    assert_eq!(store.update(vec![put("more".into(), 10_000, None)]).await, Err(StoreError::Full));
}

#[tokio::test]
async fn answers_under_keys_leave_features_their_room() {
    let folder = TempDir::new().unwrap();
    let (path, clock) = (folder.path().join("state.redb"), ManualClock::new());
    let budget = Budget { state: 4000, idempotency: 2000 };
    let stores: [SharedStore; 2] = [
        Arc::new(Memory::new(budget, clock.clone())),
        Arc::new(Embedded::open(&path, budget, 64, clock.clone()).unwrap()),
    ];
    for store in stores {
        let mut refused = 0;
        for i in 0..20 {
            match store.update(vec![put(&format!("i:{i}"), "an answer")]).await {
                Ok(()) => {}
                Err(StoreError::KeysFull) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((10..20).contains(&refused), "{refused}");
        store.update(vec![put("f:v:a", "1"), put("f:v:b", "2")]).await.unwrap();
    }
    let refused = Embedded::open(&path, Budget { idempotency: 1000, ..budget }, 64, clock);
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("more than the 1000 of `[idempotency] budget`"), "{refused}");
}

/// What a machine leaves behind that dies while the store is open, if one page of the file is
/// damaged too.
#[tokio::test]
async fn an_unclean_and_damaged_file_is_refused_or_one_whole_commit() {
    let folder = TempDir::new().unwrap();
    let (path, left) = (folder.path().join("state.redb"), folder.path().join("left.redb"));
    let store = open(&path).unwrap();
    let round = |n: usize| (0..50).map(|i| put(&format!("k{i}"), &format!("{n} ").repeat(40))).collect();
    store.update(round(1)).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    store.update(round(2)).await.unwrap();
    let after = std::fs::read(&path).unwrap();
    let pages = after.len().div_ceil(PAGE);
    let page = |file: &[u8], i: usize| file.get(i * PAGE..(i + 1) * PAGE).map(<[u8]>::to_vec);
    let changed: Vec<_> = (0..pages).filter(|&i| page(&before, i) != page(&after, i)).collect();
    let mut outcomes = [0; 3];
    for &i in &changed {
        for at in [0, 7, PAGE / 4, PAGE / 2, PAGE - 9] {
            let mut damaged = after.clone();
            damaged[i * PAGE + at] ^= 0x10;
            std::fs::write(&left, &damaged).unwrap();
            let Ok(store) = open(&left) else {
                outcomes[0] += 1;
                continue;
            };
            let keys = (0..50).map(|i| format!("k{i}").into()).collect();
            let found = store.get(keys).await.unwrap();
            let whole =
                |n: usize| found.iter().all(|v| v.as_deref() == Some(format!("{n} ").repeat(40).as_bytes()));
            assert!(whole(1) || whole(2), "page {i} at {at}: {found:?}");
            outcomes[if whole(1) { 1 } else { 2 }] += 1;
        }
    }
    println!("{} pages: refused, before, after: {outcomes:?}", changed.len());
    assert!(changed.len() > 2);
}

/// Of redb.
const PAGE: usize = 4096;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_are_bounded_and_a_panic_costs_one() {
    let folder = TempDir::new().unwrap();
    let store = Embedded::open(&folder.path().join("s"), BUDGET, 2, ManualClock::new()).unwrap();
    let ((entered, is_entered), (go, gate)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let wait = move |_: Option<&[u8]>| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
        Change::Keep
    };
    let held = tokio::spawn(store.update(vec![Update { key: "held".into(), decide: Box::new(wait) }]));
    tokio::task::block_in_place(|| is_entered.recv().unwrap());
    let panics = Update { key: "p".into(), decide: Box::new(|_| panic!("as a test wants it")) };
    let waiting = [store.update(vec![panics]), store.update(vec![put("a", "1")])];
    assert_eq!(store.update(vec![put("b", "1")]).await, Err(StoreError::Busy));
    go.send(()).unwrap();
    held.await.unwrap().unwrap();
    let [panicked, written] = waiting;
    assert!(matches!(panicked.await, Err(StoreError::Failed(_))));
    written.await.unwrap();
    assert_eq!(store.get(vec!["a".into(), "b".into()]).await.unwrap(), [Some("1".into()), None]);
}
