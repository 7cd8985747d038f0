//! The archives of one configuration: which are here, which are due, and how it went with each.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Inner, Kept, NotFetched, Wanted};
use crate::Reason;

/// After so long is looked whether somebody changed what had to be changed. So does Kubernetes, which waits up to five
/// minutes before it starts a container again that failed.
const RECHECK: Duration = Duration::from_secs(300);

/// The archives of one configuration, those that are here and those that are still to come. Cheap to
/// clone; once the last is dropped, nothing more is fetched for it.
#[derive(Clone)]
pub struct Archives(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) wanted: Vec<Wanted>,
    slots: Mutex<Vec<Slot>>,
    /// How many came, or failed in another way, since it was last asked.
    news: AtomicU64,
}

/// The place of one archive.
pub(super) enum Slot {
    Here(Arc<Kept>),
    Missing { reason: Reason, lasting: bool, due: Option<Instant>, tries: u32 },
}

impl fmt::Debug for Archives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} archives", self.0.wanted.len())
    }
}

/// An archive that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its file's name, without what says how it is packed.
    pub name: String,
    /// Why it is not here yet.
    pub reason: Reason,
    /// Whether somebody has to change something before it comes.
    pub lasting: bool,
}

/// What there is to do.
pub(super) enum Due {
    /// All are here or with another thread.
    Nothing,
    Later,
    Now(usize),
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The missing archive that waited longest, taken; whoever has it settles it.
    pub(super) fn take_due(&self, now: Instant) -> Due {
        let mut slots = self.slots();
        let missing = slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Missing { due, .. } => Some((*due, index)),
            Slot::Here(_) => None,
        });
        let missing: Vec<_> = missing.collect();
        let next = missing.iter().filter_map(|(due, index)| due.map(|due| (due, *index))).min();
        match next {
            // One that another thread has may fail and be due again.
            None if missing.is_empty() => Due::Nothing,
            Some((due, index)) if due <= now => {
                if let Slot::Missing { due, .. } = &mut slots[index] {
                    *due = None;
                }
                Due::Now(index)
            }
            _ => Due::Later,
        }
    }

    /// Notes how it went; true if everything is here now.
    pub(super) fn settle(
        &self,
        index: usize,
        wanted: &Wanted,
        result: Result<Kept, NotFetched>,
        inner: &Inner,
    ) -> bool {
        let mut slots = self.slots();
        let Slot::Missing { reason, lasting, due, tries } = &mut slots[index] else { return false };
        match result {
            Ok(kept) => {
                slots[index] = Slot::Here(Arc::new(kept));
                self.news.fetch_add(1, Ordering::Release);
            }
            Err(why) => {
                let wait = if why.passing { inner.wait(*tries) } else { RECHECK };
                let why = why.named(wanted);
                tracing::error!(sha256 = wanted.sha256, "{why}; looked for again in {wait:.0?}");
                if *reason != why.reason {
                    // What is told of it changes.
                    (*reason, *lasting) = (why.reason, !why.passing);
                    self.news.fetch_add(1, Ordering::Release);
                }
                (*due, *tries) = (Some(inner.clock.now() + wait), tries.saturating_add(1));
            }
        }
        slots.iter().all(|slot| matches!(slot, Slot::Here(_)))
    }
}

impl Archives {
    /// Those of `wanted`, all of them here.
    pub(super) fn all_here(wanted: Vec<Wanted>, kept: Vec<Arc<Kept>>) -> Self {
        Self::new(wanted, kept.into_iter().map(Slot::Here).collect())
    }

    /// `wanted`, each in its slot.
    pub(super) fn new(wanted: Vec<Wanted>, slots: Vec<Slot>) -> Self {
        Self(Arc::new(Shared { wanted, slots: Mutex::new(slots), news: AtomicU64::new(0) }))
    }

    /// Whether none is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.wanted.is_empty()
    }

    /// The folders of those that are here.
    pub fn folders(&self) -> Vec<PathBuf> {
        let here = |slot: &Slot| match slot {
            Slot::Here(kept) => Some(kept.folder.clone()),
            Slot::Missing { .. } => None,
        };
        self.0.slots().iter().filter_map(here).collect()
    }

    /// Those that are not.
    pub fn missing(&self) -> Vec<Missing> {
        let missing = |(wanted, slot): (&Wanted, &Slot)| match slot {
            Slot::Here(_) => None,
            Slot::Missing { reason, lasting, .. } => {
                let name = wanted.from.stem().to_owned();
                Some(Missing { name, reason: reason.clone(), lasting: *lasting })
            }
        };
        self.0.wanted.iter().zip(self.0.slots().iter()).filter_map(missing).collect()
    }

    /// What waits for somebody to change something is looked for at once: somebody may have.
    pub(super) fn look_again(&self, now: Instant) {
        for slot in &mut *self.0.slots() {
            if let Slot::Missing { due: Some(due), .. } = slot {
                *due = now;
            }
        }
    }

    /// Whether there is something to load or to tell since it was last asked.
    pub(crate) fn has_news(&self) -> bool {
        self.0.news.swap(0, Ordering::AcqRel) > 0
    }

    pub(super) fn here(&self, sha256: &str) -> Option<Arc<Kept>> {
        let index = self.0.wanted.iter().position(|wanted| wanted.sha256 == sha256)?;
        match &self.0.slots()[index] {
            Slot::Here(kept) => Some(kept.clone()),
            Slot::Missing { .. } => None,
        }
    }
}
