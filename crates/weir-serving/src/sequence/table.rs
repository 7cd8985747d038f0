//! Who is where: the sequences of one model, whose turn it is, and how long each was idle.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use weir_artifact::SequenceSpec;
use weir_types::{Clock, Principal, SequenceId, Tensor, TensorData};

use super::Progress;
use crate::Stats;

/// Which sequence: an id belongs to who is served, so that nobody can go on with another's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: Principal,
    pub(super) id: SequenceId,
}

/// The sequences of one model's digest.
pub struct Sequences {
    table: Mutex<Table>,
    pub(super) stats: SequenceCounts,
    clock: Arc<dyn Clock>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct SequenceCounts {
    /// First steps that were answered.
    pub started: AtomicU64,
    /// Last steps that were answered.
    pub ended: AtomicU64,
    /// Sequences forgotten because they were idle for too long.
    pub evicted: AtomicU64,
    /// Steps refused because there are as many sequences as may be.
    pub full: AtomicU64,
    /// Steps refused because too many of their sequence wait.
    pub busy: AtomicU64,
    /// Steps of sequences that are not there.
    pub unknown: AtomicU64,
}

/// Why a step is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such sequence.
    Unknown,
    /// There are as many sequences as may be; the time until one may be forgotten.
    Full(Duration),
    /// Too many steps of the sequence wait.
    Busy,
}

impl SequenceCounts {
    pub(super) fn refused(&self, refusal: Refusal) {
        Stats::count(match refusal {
            Refusal::Unknown => &self.unknown,
            Refusal::Full(_) => &self.full,
            Refusal::Busy => &self.busy,
        });
    }
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Arc<Key>, Entry>,
    /// Sequences that no step is at work on, by when that was last so.
    idle: BTreeMap<u64, Arc<Key>>,
    tick: u64,
    /// Of all state tensors.
    bytes: u64,
    ttl: Duration,
}

#[derive(Debug)]
struct Entry {
    progress: Arc<tokio::sync::Mutex<Progress>>,
    /// Steps that run or wait.
    steps: usize,
    /// Whether a step was answered: else it goes with its last step.
    live: bool,
    /// Bytes of its state.
    bytes: u64,
    /// Its place in `idle`, and since when; while no step is at work.
    idle: Option<(u64, Instant)>,
}

/// A step that waits or runs. Its sequence is not forgotten meanwhile.
pub(super) struct Turn {
    pub(super) key: Arc<Key>,
    pub(super) progress: Arc<tokio::sync::Mutex<Progress>>,
    table: Arc<Sequences>,
}

impl fmt::Debug for Sequences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sequences", self.lock().entries.len())
    }
}

impl Sequences {
    /// No sequences yet; idle times are read off `clock`.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: Mutex::default(), stats: SequenceCounts::default(), clock }
    }

    /// Sequences that are kept now; what was idle for too long is forgotten first.
    pub fn live(&self) -> usize {
        let mut table = self.lock();
        table.forget(self.clock.now(), &self.stats);
        table.entries.len()
    }

    /// Bytes of their state tensors.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// What was counted so far.
    pub fn counts(&self) -> &SequenceCounts {
        &self.stats
    }

    /// A step comes: it takes its place behind the others of its sequence, which is a new one if
    /// it `may_be_new`.
    pub(super) fn enter(
        self: &Arc<Self>,
        spec: &SequenceSpec,
        key: Key,
        may_be_new: bool,
    ) -> Result<Turn, Refusal> {
        let now = self.clock.now();
        let mut table = self.lock();
        table.ttl = spec.ttl;
        table.forget(now, &self.stats);
        let (key, progress) = match table.entries.get_key_value(&key) {
            Some((_, entry)) if entry.steps > spec.queue => return Err(Refusal::Busy),
            Some((key, entry)) => (key.clone(), entry.progress.clone()),
            None if !may_be_new => return Err(Refusal::Unknown),
            None if table.entries.len() >= spec.max_sequences => {
                return Err(Refusal::Full(table.soonest(now)));
            }
            None => table.add(key),
        };
        table.begin(&key);
        drop(table);
        Ok(Turn { key, progress, table: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change is made whole before the lock is given back.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets what was idle for too long. Who is idle for longest comes first, so that this
    /// looks at no other.
    fn forget(&mut self, now: Instant, counts: &SequenceCounts) {
        while let Some(first) = self.idle.first_entry() {
            let since = self.entries.get(&**first.get()).and_then(|entry| entry.idle);
            if since.is_some_and(|(_, since)| now.saturating_duration_since(since) < self.ttl) {
                return;
            }
            let key = first.remove();
            self.remove(&key);
            Stats::count(&counts.evicted);
        }
    }

    /// How long until one may be forgotten.
    fn soonest(&self, now: Instant) -> Duration {
        let oldest = self.idle.values().next().and_then(|key| self.entries.get(&**key)?.idle);
        oldest.map_or(self.ttl, |(_, since)| self.ttl.saturating_sub(now.saturating_duration_since(since)))
    }

    fn add(&mut self, key: Key) -> (Arc<Key>, Arc<tokio::sync::Mutex<Progress>>) {
        let (key, progress) = (Arc::new(key), Arc::<tokio::sync::Mutex<Progress>>::default());
        let entry = Entry { progress: progress.clone(), steps: 0, live: false, bytes: 0, idle: None };
        self.entries.insert(key.clone(), entry);
        (key, progress)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    fn begin(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.steps += 1;
        if let Some((tick, _)) = entry.idle.take() {
            self.idle.remove(&tick);
        }
    }

    fn end(&mut self, key: &Arc<Key>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&**key) else { return };
        entry.steps -= 1;
        match (entry.steps, entry.live) {
            (1.., _) => {}
            (0, false) => self.remove(key),
            (0, true) => {
                self.tick += 1;
                entry.idle = Some((self.tick, now));
                self.idle.insert(self.tick, key.clone());
            }
        }
    }

    fn keep(&mut self, key: &Key, live: bool, bytes: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.bytes = self.bytes - entry.bytes + bytes;
        (entry.live, entry.bytes) = (live, bytes);
    }
}

impl Turn {
    /// The sequence has this state now; none where it ended.
    pub(super) fn keep(&self, state: Option<&[Tensor]>) {
        let bytes = state.unwrap_or_default().iter().map(bytes).sum();
        self.table.lock().keep(&self.key, state.is_some(), bytes);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.table.lock().end(&self.key, self.table.clock.now());
    }
}

/// Of the elements of a tensor.
fn bytes(tensor: &Tensor) -> u64 {
    match tensor.data() {
        TensorData::String(texts) => texts.iter().map(|text| text.len() as u64).sum(),
        data => data.len() as u64 * tensor.dtype().size_bytes().unwrap_or(0) as u64,
    }
}
