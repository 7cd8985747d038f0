//! The first stage: no byte of a body is read before there is room for it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use weir_types::{Deadline, Error, ErrorCode, Grant, Principal, SequenceStep, trace::Scope};

use crate::{CacheControl, CacheMode, Caller, ServedVersion};

/// Whom a request is from.
#[derive(Debug)]
pub struct Sender {
    /// The proof that access was decided, for as long as the request lives.
    pub grant: Grant,
    /// The other end of the connection, where there is one.
    pub peer: Option<IpAddr>,
    /// Where the request is in its trace, if it is in one.
    pub trace: Option<Scope>,
}

impl Sender {
    /// Somebody who was granted access, over no connection.
    pub fn granted(grant: Grant) -> Self {
        Self { grant, peer: None, trace: None }
    }

    fn caller(&self) -> Caller {
        Caller::new(self.grant.principal(), self.peer)
    }
}

/// Bounds the bytes of request bodies that are held at once.
#[derive(Debug, Clone)]
pub struct Admission {
    held: Arc<AtomicU64>,
    max_bytes: Arc<AtomicU64>,
}

impl Admission {
    /// Admits up to `max_bytes` of bodies at once.
    pub fn new(max_bytes: u64) -> Self {
        Self { held: Arc::default(), max_bytes: Arc::new(AtomicU64::new(max_bytes)) }
    }

    /// Admits up to `max_bytes` from now on. What is held already stays, more than that too.
    pub fn resize(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Most bytes held at once.
    fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Admits a request that declares `bytes` of body (0 where it does not say), if there is
    /// room for them now. The body [holds](Admitted::hold) room as it arrives: were it held
    /// by declaration, a few clients that declare much and send nothing would shut out all.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where there is no room.
    pub fn admit(&self, sender: Sender, bytes: u64, deadline: Deadline) -> Result<Admitted, Error> {
        let room = self.room();
        room.fits(bytes)?;
        Ok(room.admit(sender, deadline))
    }

    /// Room of no size yet, for a face that learns from the body itself whom it asks for
    /// (gRPC names the model in the message).
    pub fn room(&self) -> Room {
        Room { admission: self.clone(), held: 0 }
    }
}

fn no_room() -> Error {
    Error::new(ErrorCode::Overloaded, "the server holds as many request bytes as it may; try again shortly")
}

/// Bytes that a request may hold. Gives them back when dropped.
#[derive(Debug)]
pub struct Room {
    admission: Admission,
    held: u64,
}

impl Room {
    /// Whether `bytes` more would have room now; none is taken.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where they would not.
    pub fn fits(&self, bytes: u64) -> Result<(), Error> {
        let fits = self.admission.held_bytes().saturating_add(bytes) <= self.admission.max_bytes();
        if fits { Ok(()) } else { Err(no_room()) }
    }

    /// Takes room for `bytes` more.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where there is none.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Error> {
        let before = self.admission.held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.admission.max_bytes() {
            self.admission.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(no_room());
        }
        self.held += bytes;
        Ok(())
    }

    /// Admits the request that was read into this room.
    pub fn admit(self, sender: Sender, deadline: Deadline) -> Admitted {
        Admitted { room: self, deadline, sender, priority: 0, cache: CacheControl::default(), sequence: None }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.admission.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// A request that there is room for. Gives the room back when dropped.
#[derive(Debug)]
pub struct Admitted {
    room: Room,
    deadline: Deadline,
    sender: Sender,
    priority: u64,
    cache: CacheControl,
    sequence: Option<SequenceStep>,
}

impl Admitted {
    /// Takes room for `bytes` more.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where there is none.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Error> {
        self.room.hold(bytes)
    }

    /// The room that it holds.
    pub fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// Whether `version` would refuse even a small request now: better to say so before the
    /// body is read.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] where it would.
    pub fn would_run(&self, version: &ServedVersion) -> Result<(), Error> {
        let (caller, deadline) = (self.sender.caller(), self.deadline);
        match version.executor.cached() {
            // What is stored would not answer it.
            Some(cached) if matches!(cached.mode(self.cache), CacheMode::NoCache | CacheMode::NoStore) => {
                cached.would_compute(&caller, deadline)
            }
            _ => version.executor.ready(&caller, deadline),
        }
    }

    /// On whose behalf it was granted.
    pub fn principal(&self) -> &Principal {
        self.sender.grant.principal()
    }

    /// Whose share of the model the request counts against.
    pub(crate) fn caller(&self) -> Caller {
        self.sender.caller()
    }

    /// Where it is in its trace.
    pub fn trace(&self) -> Option<&Scope> {
        self.sender.trace.as_ref()
    }

    pub(crate) fn priority(&self) -> u64 {
        self.priority
    }

    /// Gives the request a priority: 1 goes first, 0 is the model's default.
    pub fn prioritise(&mut self, priority: u64) {
        self.priority = priority;
    }

    pub(crate) fn cache_control(&self) -> CacheControl {
        self.cache
    }

    /// Says what the request wants of the cache; without a word the model's default counts.
    pub fn cache(&mut self, control: CacheControl) {
        self.cache = control;
    }

    pub(crate) fn sequence(&self) -> Option<SequenceStep> {
        self.sequence.clone()
    }

    /// Says which step of which sequence the request is.
    pub fn follow(&mut self, step: Option<SequenceStep>) {
        self.sequence = step;
    }

    /// When the answer stops being of use.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Moves the deadline forward to `deadline`; a later one changes nothing. For what a
    /// caller says about its patience in the body only.
    pub fn shorten(&mut self, deadline: Deadline) {
        self.deadline = self.deadline.min(deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use weir_types::{Access, AllowLocal, Authorizer, Credentials};

    use super::*;

    fn admit(admission: &Admission, bytes: u64) -> Result<Admitted, Error> {
        let grant = AllowLocal.authorize(Credentials::default(), Access::Read).unwrap();
        admission.admit(
            Sender::granted(grant),
            bytes,
            Deadline::after(Instant::now(), Duration::from_secs(1)),
        )
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let admission = Admission::new(10);
        let mut first = admit(&admission, 6).unwrap();
        assert_eq!(admission.held_bytes(), 0, "what is declared and not sent takes no room");
        first.hold(6).unwrap();
        assert_eq!(admit(&admission, 5).unwrap_err().code, ErrorCode::Overloaded);
        first.hold(4).unwrap();
        assert_eq!(first.hold(u64::MAX - 20).unwrap_err().code, ErrorCode::Overloaded);
        assert_eq!(admission.held_bytes(), 10);
        drop(first);
        assert_eq!(admission.held_bytes(), 0);
    }

    #[test]
    fn less_room_takes_nothing_from_who_has_some() {
        let admission = Admission::new(10);
        let mut first = admit(&admission, 8).unwrap();
        first.hold(8).unwrap();
        admission.clone().resize(4);
        assert_eq!(admit(&admission, 1).unwrap_err().code, ErrorCode::Overloaded);
        drop(first);
        assert!(admit(&admission, 4).is_ok() && admit(&admission, 5).is_err());
    }
}
