//! A store in a file of this process's own.
//!
//! Everything is in memory and in the file: look-ups never touch the disk, so that nothing on a
//! request's path waits for it. One thread writes. It takes all writes that wait, decides them
//! one after the other, commits them with one `fsync` (group commit), shows them to look-ups,
//! and only then acknowledges them: what was acknowledged survives the end of the process and
//! of the machine. The file is redb's, a B-tree that is copied on write.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use weir_types::Clock;

use super::{
    Budget, Change, Store, StoreError, StoreFuture, Stored, Update, checked,
    memory::{Account, Map, cost, signed},
};
use crate::{config::StoreKind, value::EventTime};

mod file;

use file::File;

/// Most updates of one commit, but for a call that has more: so that a commit's memory, and
/// the wait of those behind it, are bounded.
const MAX_GROUP: usize = 16_384;

/// Expired entries that a commit removes on its way.
const SWEEP: usize = 1024;

/// A durable store. Dropping it waits for the writes that were begun.
pub struct Embedded {
    map: Arc<Map>,
    clock: Arc<dyn Clock>,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// Why a state file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state file {path:?} {why}")]
pub struct OpenError {
    path: PathBuf,
    why: String,
}

impl OpenError {
    fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

struct Job {
    updates: Vec<Update>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Embedded {
    /// Opens the file at `path`, or makes it. Reads all of it; at most `budget` is held, and at
    /// most `queue` calls wait for the disk.
    ///
    /// # Errors
    /// If the file cannot be made, is damaged, of another program or a newer version, in use by
    /// another process, or holds more than `budget`.
    pub fn open(
        path: &Path,
        budget: impl Into<Budget>,
        queue: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (file, map) = (File::open(path)?, Arc::new(Map::new(budget.into())));
        file.load(EventTime::from(clock.wall()), |key, stored| map.set(&key, Some(stored)))?;
        fits(&map).map_err(|why| OpenError::new(path, why))?;
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let writer = Writer { file, map: Arc::clone(&map), clock: Arc::clone(&clock), queue: receiver };
        let thread = std::thread::Builder::new().name("weir-state".into());
        let writer = thread.spawn(move || writer.run()).map_err(|e| OpenError::new(path, e))?;
        Ok(Self { map, clock, queue: Some(sender), writer: Some(writer) })
    }
}

impl Store for Embedded {
    fn get(&self, keys: Vec<Bytes>) -> StoreFuture<Vec<Option<Bytes>>> {
        let now = self.clock.wall().into();
        Box::pin(std::future::ready(Ok(keys.iter().map(|key| self.map.get(key, now)).collect())))
    }

    fn update(&self, updates: Vec<Update>) -> StoreFuture<()> {
        let (done, acknowledged) = oneshot::channel();
        let sent = self.queue.as_ref().map(|queue| queue.try_send(Job { updates, done }));
        Box::pin(async move {
            match sent {
                Some(Ok(())) => acknowledged.await.unwrap_or_else(|_| Err(stopped())),
                Some(Err(mpsc::error::TrySendError::Full(_))) => Err(StoreError::Busy),
                Some(Err(mpsc::error::TrySendError::Closed(_))) | None => Err(stopped()),
            }
        })
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Embedded
    }

    fn held(&self) -> Option<Budget> {
        Some(self.map.held())
    }
}

/// Whether what was loaded is within the budgets.
fn fits(map: &Map) -> Result<(), String> {
    for account in Account::ALL {
        let name = match account {
            Account::State => "[state] budget",
            Account::Idempotency => "[idempotency] budget",
        };
        let (held, budget) = (map.held_of(account), map.budget(account));
        if held > budget {
            return Err(format!("holds {held} bytes, more than the {budget} of `{name}`: raise it"));
        }
    }
    Ok(())
}

fn stopped() -> StoreError {
    StoreError::Failed("the thread that writes the state file has ended".into())
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // it has nothing to tell that callers were not told
        }
    }
}

struct Writer {
    file: File,
    map: Arc<Map>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
}

/// What a commit changes: `None` is a key that goes.
type Changes = BTreeMap<Bytes, Option<Stored>>;

impl Writer {
    fn run(mut self) {
        while let Some(job) = self.queue.blocking_recv() {
            let mut count = job.updates.len();
            let mut jobs = vec![job];
            while count < MAX_GROUP {
                let Ok(job) = self.queue.try_recv() else { break };
                count += job.updates.len();
                jobs.push(job);
            }
            self.group(jobs);
        }
    }

    fn group(&mut self, jobs: Vec<Job>) {
        let mut group =
            Group { map: &self.map, changes: Changes::new(), held: [0; 2], now: self.clock.wall().into() };
        group.sweep(SWEEP);
        let mut outcomes: Vec<_> =
            jobs.into_iter().map(|job| (group.decide(job.updates), job.done)).collect();
        let Group { changes, .. } = group;
        match self.file.commit(&changes) {
            Ok(()) => changes.into_iter().for_each(|(key, stored)| self.map.set(&key, stored)),
            Err(error) => outcomes.iter_mut().for_each(|(outcome, _)| *outcome = Err(error.clone())),
        }
        for (outcome, done) in outcomes {
            let _ = done.send(outcome); // the caller may be gone
        }
    }
}

/// Updates that become durable together.
struct Group<'a> {
    map: &'a Map,
    changes: Changes,
    /// Bytes that the changes add to each account, or take away.
    held: [isize; 2],
    now: EventTime,
}

impl Group<'_> {
    fn decide(&mut self, updates: Vec<Update>) -> Result<(), StoreError> {
        updates.into_iter().try_for_each(|update| self.one(update))
    }

    /// Removes up to `most` entries that have expired.
    fn sweep(&mut self, most: usize) {
        for key in self.map.expired(self.now, most) {
            if !self.changes.contains_key(&key) {
                self.set(key, None);
            }
        }
    }

    /// What counts for `key` after the changes so far.
    fn cost_of(&self, key: &Bytes) -> usize {
        match self.changes.get(key) {
            Some(changed) => changed.as_ref().map_or(0, |stored| cost(key, &stored.value)),
            None => self.map.cost_of(key),
        }
    }

    fn set(&mut self, key: Bytes, stored: Option<Stored>) {
        let after = stored.as_ref().map_or(0, |stored| cost(&key, &stored.value));
        self.held[Account::of(&key) as usize] += signed(after) - signed(self.cost_of(&key));
        self.changes.insert(key, stored);
    }

    /// Whether what comes of `key` is no more than before, or there is room for it once everything
    /// that has expired is gone.
    fn has_room(&mut self, key: &Bytes, after: usize) -> bool {
        let account = Account::of(key);
        let more = signed(after) - signed(self.cost_of(key));
        let has_room = |group: &Self| group.map.has_room(account, group.held[account as usize] + more);
        if more <= 0 || has_room(self) {
            return true;
        }
        self.sweep(usize::MAX);
        has_room(self)
    }

    fn one(&mut self, update: Update) -> Result<(), StoreError> {
        let Update { key, mut decide } = update;
        let current = match self.changes.get(&key) {
            Some(changed) => changed.as_ref().map(|stored| stored.value.clone()),
            None => self.map.get(&key, self.now),
        };
        // The thread serves everybody: a panic costs one caller alone.
        let decided = catch_unwind(AssertUnwindSafe(|| decide(current.as_deref())));
        let change = decided.map_err(|_| StoreError::Failed("an update panicked".into()))?;
        match checked(&key, change, self.now)? {
            Change::Keep => {}
            Change::Delete if current.is_none() => {}
            Change::Delete => self.set(key, None),
            Change::Put(stored) if self.has_room(&key, cost(&key, &stored.value)) => {
                self.set(key, Some(stored));
            }
            Change::Put(_) => return Err(Account::of(&key).full()),
        }
        Ok(())
    }
}
