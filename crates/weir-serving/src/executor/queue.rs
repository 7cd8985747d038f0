//! What waits, in the order in which it will run.
//!
//! Levels of priority first. Within one, start-time fair queueing over callers (Goyal, Vin and
//! Cheng, SIGCOMM 1996): an entry's tag is the later of the level's virtual time (the tag of
//! what was taken last) and the end of its caller's entry before it; that end is the tag plus
//! the cost. Who asks for much waits behind its own work, not in front of that of others. Weighted
//! round robin was rejected: it needs a quantum, and a caller that comes back from idling waits
//! a round.
//!
//! No lock and no clock here: see [`Lane`](super::lane::Lane).

use std::collections::{BTreeMap, HashMap};

use super::Caller;

/// Most entries that are looked at for company of the first; the others come with the next batch.
const MAX_LOOK: usize = 256;

/// Callers of one level that are remembered beyond those that wait.
const MAX_CALLERS: usize = 4_096;

/// What the order needs to know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Index of its priority: 0 goes first.
    pub(super) level: usize,
    /// Whose share it counts against.
    pub(super) caller: Caller,
    /// How much work it is, in the model's own unit; at least 1.
    pub(super) cost: u64,
    /// Rows.
    pub(super) rows: usize,
    /// Only entries of one kind share a batch.
    pub(super) kind: u64,
    /// Whether it is the last of its job.
    pub(super) last: bool,
}

/// Where an entry waits. Stays the same until it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    level: usize,
    tag: u64,
    sequence: u64,
}

/// An entry that was taken, with what it takes to put it back.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) place: Place,
    pub(super) ticket: Ticket,
    pub(super) item: T,
}

/// How much goes into one batch. The first entry goes in whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most entries: 1 where rows of several must not be mixed.
    pub(super) entries: usize,
    /// Most rows.
    pub(super) rows: usize,
    /// Most cost.
    pub(super) cost: u64,
}

/// What [`Queue::take`] gives.
#[derive(Debug)]
pub(super) struct Taken<T> {
    /// Entries of one kind, in order; empty where nothing waits.
    pub(super) batch: Vec<Entry<T>>,
    /// What nobody waits for any more, found on the way.
    pub(super) dead: Vec<T>,
}

/// Entries of one priority.
struct Level<T> {
    entries: BTreeMap<(u64, u64), (Ticket, T)>,
    /// Where each caller's next entry begins, where that lies ahead.
    ends: HashMap<Caller, u64>,
    virtual_time: u64,
    cost: u64,
    rows: usize,
}

impl<T> Level<T> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), ends: HashMap::new(), virtual_time: 0, cost: 0, rows: 0 }
    }

    fn start(&self, caller: &Caller) -> u64 {
        self.ends.get(caller).copied().unwrap_or(0).max(self.virtual_time)
    }

    fn insert(&mut self, key: (u64, u64), ticket: Ticket, item: T) {
        self.cost += ticket.cost;
        self.rows += ticket.rows;
        self.entries.insert(key, (ticket, item));
    }

    fn remove(&mut self, key: (u64, u64)) -> Option<(Ticket, T)> {
        let (ticket, item) = self.entries.remove(&key)?;
        self.cost -= ticket.cost;
        self.rows -= ticket.rows;
        Some((ticket, item))
    }

    /// Forgets callers who have caught up. Those remembered are bounded by what waits, and
    /// beyond that by a number at which a little fairness is given up instead of memory.
    fn prune(&mut self) {
        if self.entries.is_empty() {
            self.ends.clear();
        } else if self.ends.len() > 64 + 2 * self.entries.len() {
            let now = self.virtual_time;
            self.ends.retain(|_, end| *end > now);
            if self.ends.len() > MAX_CALLERS + self.entries.len() {
                self.ends.clear();
            }
        }
    }
}

/// What waits.
pub(super) struct Queue<T> {
    levels: Vec<Level<T>>,
    sequence: u64,
    length: usize,
    jobs: usize,
}

impl<T> Queue<T> {
    /// An empty queue of this many priorities, at least one.
    pub(super) fn new(levels: usize) -> Self {
        Self { levels: (0..levels.max(1)).map(|_| Level::new()).collect(), sequence: 0, length: 0, jobs: 0 }
    }

    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Jobs of which something waits.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// What all that waits costs.
    pub(super) fn cost(&self) -> u64 {
        self.levels.iter().map(|level| level.cost).sum()
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.levels.iter().map(|level| level.rows).sum()
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an entry behind what goes before it.
    pub(super) fn push(&mut self, ticket: Ticket, item: T) -> Place {
        let at = ticket.level.min(self.levels.len() - 1);
        let sequence = self.sequence;
        self.sequence += 1;
        let level = &mut self.levels[at];
        let tag = level.start(&ticket.caller);
        self.length += 1;
        self.jobs += usize::from(ticket.last);
        level.ends.insert(ticket.caller.clone(), tag.saturating_add(ticket.cost));
        level.insert((tag, sequence), ticket, item);
        level.prune();
        Place { level: at, tag, sequence }
    }

    /// Puts an entry back where it was.
    pub(super) fn put_back(&mut self, Entry { place, ticket, item }: Entry<T>) {
        self.length += 1;
        self.jobs += usize::from(ticket.last);
        let level = &mut self.levels[place.level];
        // Forgotten, if the level was empty meanwhile.
        let end = level.ends.entry(ticket.caller.clone()).or_default();
        *end = (*end).max(place.tag.saturating_add(ticket.cost));
        level.insert((place.tag, place.sequence), ticket, item);
    }

    /// Takes an entry out, if it still waits. Where its caller asked for nothing after it, it
    /// does not count against the caller any more.
    pub(super) fn withdraw(&mut self, place: Place) -> Option<T> {
        let Entry { ticket, item, .. } = self.remove(place)?;
        let level = &mut self.levels[place.level];
        let end = level.ends.get_mut(&ticket.caller);
        let last = end.filter(|end| **end == place.tag.saturating_add(ticket.cost));
        last.into_iter().for_each(|end| *end = place.tag);
        level.prune();
        Some(item)
    }

    /// Cost that would run before an entry of `caller` at this level, which begins `offset`
    /// behind the caller's next tag.
    pub(super) fn ahead(&self, level: usize, caller: &Caller, offset: u64) -> u64 {
        let at = level.min(self.levels.len() - 1);
        let above: u64 = self.levels[..at].iter().map(|l| l.cost).sum();
        let own = &self.levels[at];
        // With one caller the order is that of arrival; with more, their tags are compared.
        if own.ends.len() <= 1 {
            return above + own.cost;
        }
        let tag = own.start(caller).saturating_add(offset);
        let before = own.entries.range(..=(tag, u64::MAX)).map(|(_, (ticket, _))| ticket.cost);
        above + before.sum::<u64>()
    }

    /// Takes the first entry that is not `dead`, and with it others of its kind, in order, as
    /// far as the `limits` of a batch like it go.
    pub(super) fn take(&mut self, limits: impl Fn(&Ticket) -> Limits, dead: impl Fn(&T) -> bool) -> Taken<T> {
        let mut taken = Taken { batch: Vec::new(), dead: Vec::new() };
        while let Some(first) = self.first().and_then(|place| self.remove(place)) {
            let level = &mut self.levels[first.place.level];
            // What was put back has an earlier tag than what another worker took meanwhile.
            level.virtual_time = level.virtual_time.max(first.place.tag);
            if dead(&first.item) {
                taken.dead.push(first.item);
                continue;
            }
            taken.batch.push(first);
            break;
        }
        for place in self.company(&taken.batch, &limits, &dead) {
            let Some(entry) = self.remove(place) else { continue };
            if dead(&entry.item) { taken.dead.push(entry.item) } else { taken.batch.push(entry) }
        }
        self.levels.iter_mut().for_each(Level::prune);
        taken
    }

    /// Places of what joins `batch`, and of what is dead among those looked at.
    fn company(
        &self,
        batch: &[Entry<T>],
        limits: impl Fn(&Ticket) -> Limits,
        dead: impl Fn(&T) -> bool,
    ) -> Vec<Place> {
        let [first] = batch else { return Vec::new() };
        let limits = limits(&first.ticket);
        let (mut entries, mut rows, mut cost) = (1, first.ticket.rows, first.ticket.cost);
        let mut chosen = Vec::new();
        for (place, ticket, item) in self.iter().take(MAX_LOOK) {
            if entries >= limits.entries || rows >= limits.rows || cost >= limits.cost {
                break;
            }
            let fits = ticket.kind == first.ticket.kind
                && rows + ticket.rows <= limits.rows
                && cost + ticket.cost <= limits.cost;
            if dead(item) {
                chosen.push(place);
            } else if fits {
                (entries, rows, cost) = (entries + 1, rows + ticket.rows, cost + ticket.cost);
                chosen.push(place);
            }
        }
        chosen
    }

    fn iter(&self) -> impl Iterator<Item = (Place, &Ticket, &T)> {
        self.levels.iter().enumerate().flat_map(|(level, l)| {
            l.entries
                .iter()
                .map(move |(&(tag, sequence), (ticket, item))| (Place { level, tag, sequence }, ticket, item))
        })
    }

    /// What is next.
    pub(super) fn peek(&self) -> Option<&T> {
        self.iter().next().map(|(_, _, item)| item)
    }

    fn first(&self) -> Option<Place> {
        self.iter().next().map(|(place, ..)| place)
    }

    /// Whether a full batch waits.
    pub(super) fn is_full(&self, limits: impl Fn(&Ticket) -> Limits) -> bool {
        let Some((_, first, _)) = self.iter().next() else { return false };
        let limits = limits(first);
        let alike = self.iter().take(MAX_LOOK).filter(|(_, ticket, _)| ticket.kind == first.kind);
        let sum = alike.fold((0, 0, 0), |(n, rows, cost), (_, t, _)| (n + 1, rows + t.rows, cost + t.cost));
        sum.0 >= limits.entries.min(MAX_LOOK) || sum.1 >= limits.rows || sum.2 >= limits.cost
    }

    fn remove(&mut self, place: Place) -> Option<Entry<T>> {
        let level = self.levels.get_mut(place.level)?;
        let (ticket, item) = level.remove((place.tag, place.sequence))?;
        self.length -= 1;
        self.jobs -= usize::from(ticket.last);
        Some(Entry { place, ticket, item })
    }
}

#[cfg(test)]
mod tests;
