//! One computation a row, for all that ask at once.
//!
//! A request makes one [`Trip`] of the rows that it will answer and nobody else is answering yet.
//! Others that need one of them wait for the trip to land that row. Nobody deadlocks: a request
//! lands its own trip before it waits for another's. A trip that ends early (its request was
//! dropped, or failed for a reason of its own) leaves its rows to those who wait, one of whom makes
//! the next trip.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use weir_types::Error;

use super::memory::Entry;

/// Locks that rows are spread over.
const SHARDS: usize = 16;

/// The rows that are being answered.
#[derive(Debug, Default)]
pub(super) struct Flights([Mutex<HashMap<u128, Flying>>; SHARDS]);

#[derive(Debug)]
struct Flying {
    identity: Box<[u8]>,
    trip: Arc<Trip>,
    seat: usize,
}

/// What became of a row.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    Answer(Arc<Entry>),
    /// The row's own failure, which it would meet again.
    Failed(Error),
}

/// Whose a row is.
#[derive(Debug)]
pub(super) enum Claim {
    /// The one who asked now.
    Mine,
    /// Somebody else's.
    Theirs(Waiter),
    /// Another row has its key: neither can wait for the other.
    Collision,
}

/// Rows that one request answers for all.
#[derive(Debug, Default)]
pub(super) struct Trip {
    seats: Mutex<Seats>,
    changed: Notify,
    /// Somebody who waits cannot wait much longer.
    hurry: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    landed: Vec<Option<Landed>>,
    over: bool,
}

/// One row of somebody's trip.
#[derive(Debug)]
pub(super) struct Waiter {
    trip: Arc<Trip>,
    seat: usize,
}

impl Waiter {
    /// Asks the pilot to compute now, if it waits for another replica.
    pub(super) fn hurry(&self) {
        self.trip.hurry.notify_one();
    }

    /// What becomes of the row; `None` where the trip ended without it.
    pub(super) async fn landed(&self) -> Option<Landed> {
        loop {
            let changed = self.trip.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that what changes after the look is not missed.
            changed.as_mut().enable();
            {
                let seats = lock(&self.trip.seats);
                if let Some(Some(landed)) = seats.landed.get(self.seat) {
                    return Some(landed.clone());
                }
                if seats.over {
                    return None;
                }
            }
            changed.await;
        }
    }
}

/// The one who makes a trip. Dropping it ends the trip.
#[derive(Debug)]
pub(super) struct Pilot {
    flights: Arc<Flights>,
    trip: Arc<Trip>,
    /// Keys of the seats that have not landed.
    flying: HashMap<u128, usize>,
}

impl Flights {
    fn shard(&self, key: u128) -> MutexGuard<'_, HashMap<u128, Flying>> {
        lock(&self.0[key as usize % SHARDS])
    }

    /// Somebody who is about to claim rows.
    pub(super) fn pilot(self: &Arc<Self>) -> Pilot {
        Pilot { flights: self.clone(), trip: Arc::default(), flying: HashMap::new() }
    }

    /// How many rows are being answered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Pilot {
    /// Until somebody who waits for a row is in a hurry.
    pub(super) async fn hurried(&self) {
        self.trip.hurry.notified().await;
    }

    /// Asks for a row.
    pub(super) fn claim(&mut self, key: u128, identity: &[u8]) -> Claim {
        match self.flights.shard(key).entry(key) {
            Slot::Occupied(taken) => {
                let Flying { identity: theirs, trip, seat } = taken.get();
                match **theirs == *identity {
                    true => Claim::Theirs(Waiter { trip: trip.clone(), seat: *seat }),
                    false => Claim::Collision,
                }
            }
            Slot::Vacant(free) => {
                let mut seats = lock(&self.trip.seats);
                let seat = seats.landed.len();
                seats.landed.push(None);
                free.insert(Flying { identity: identity.into(), trip: self.trip.clone(), seat });
                self.flying.insert(key, seat);
                Claim::Mine
            }
        }
    }

    /// Lands a row: whoever waits for it has it, and whoever asks next asks the tiers again.
    pub(super) fn land(&mut self, key: u128, landed: Landed) {
        let Some(seat) = self.flying.remove(&key) else { return };
        if let Some(place) = lock(&self.trip.seats).landed.get_mut(seat) {
            *place = Some(landed);
        }
        self.flights.shard(key).remove(&key);
        self.trip.changed.notify_waiters();
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        // First: whoever is told that the trip is over claims the row, and must not find it taken.
        for key in self.flying.keys() {
            self.flights.shard(*key).remove(key);
        }
        lock(&self.trip.seats).over = true;
        self.trip.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole at every moment that a holder could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::memory::Times;

    fn answer(n: u8) -> Landed {
        let times = Times { computed: 0, fresh_until: 1, stale_until: 1 };
        Landed::Answer(Entry::new((&[n], &[n]), times, 0, &Arc::default()))
    }

    fn theirs(claim: Claim) -> Waiter {
        let Claim::Theirs(waiter) = claim else { unreachable!("{claim:?}") };
        waiter
    }

    #[tokio::test]
    async fn a_row_has_one_pilot_and_all_others_get_its_answer() {
        let flights: Arc<Flights> = Arc::default();
        let (mut first, mut second) = (flights.pilot(), flights.pilot());
        assert!(matches!(first.claim(1, b"a"), Claim::Mine));
        let waiters = [second.claim(1, b"a"), second.claim(1, b"a"), first.claim(1, b"a")].map(theirs);
        assert!(matches!(second.claim(1, b"b"), Claim::Collision));
        first.land(1, answer(3));
        for waiter in waiters {
            let Some(Landed::Answer(entry)) = waiter.landed().await else { unreachable!() };
            assert_eq!(entry.answer(), [3]);
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_trip_that_ends_early_leaves_its_rows_to_the_next() {
        let flights: Arc<Flights> = Arc::default();
        let (mut first, mut second) = (flights.pilot(), flights.pilot());
        assert!(matches!(first.claim(1, b"a"), Claim::Mine));
        let waiter = theirs(second.claim(1, b"a"));
        drop(first);
        assert!(waiter.landed().await.is_none());
        assert!(matches!(second.claim(1, b"a"), Claim::Mine));
        drop(second);
        assert_eq!(flights.len(), 0);
    }
}
