//! The service of idempotency keys: a request that is sent again gets the answer of the first.
//!
//! After the IETF draft "The Idempotency-Key HTTP Header Field"
//! (draft-ietf-httpapi-idempotency-key-header): same key and same request, the first answer;
//! same key and another request, a mismatch; the first still running, a conflict.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use weir_types::{Clock, Deadline, Error, ErrorCode, unique_wide};

use crate::{
    config::IdempotencyConfig,
    encoding::{Reader, put_long, put_short},
    store::{Change, IDEMPOTENCY, SharedStore, StoreError, Stored, telling},
    value::EventTime,
};

/// Longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// Most headers of an answer that are kept.
const MAX_HEADERS: usize = 32;

/// The answer of a request, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Header fields: name and value, each at most 255 bytes, at most 32.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The body.
    pub body: Bytes,
}

/// What is known of a key when a request with it begins.
#[derive(Debug)]
pub enum Begun {
    /// Nothing: the request is to run, and to [`finish`](IdempotencyGuard::finish) the guard.
    Fresh(IdempotencyGuard),
    /// The same request was answered so.
    Replay(StoredAnswer),
    /// The same request is running.
    InFlight,
    /// Another request has used the key.
    Mismatch,
}

/// Why a key could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdempotencyError {
    /// The key is none.
    #[error(
        "`Idempotency-Key` takes 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters, got {0} bytes"
    )]
    Key(usize),
    /// The answer is too large to keep. The key is free again, unless its guard was binding.
    #[error("an answer of {0} bytes is too large to be kept under an `Idempotency-Key`")]
    TooLarge(usize),
    /// The lease ran out while the request ran, and the key is somebody else's, or gone.
    #[error("the request went on after its deadline, and its `Idempotency-Key` is free again")]
    Lost,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IdempotencyError> for Error {
    fn from(error: IdempotencyError) -> Self {
        let message = error.to_string();
        match error {
            IdempotencyError::Key(_) => Error::invalid(message),
            IdempotencyError::TooLarge(_) => Error::new(ErrorCode::TooLarge, message),
            IdempotencyError::Lost => Error::new(ErrorCode::Conflict, message),
            IdempotencyError::Store(store) => store.into(),
        }
    }
}

/// Requests by their keys. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    store: SharedStore,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    lease: Duration,
    max_answer: usize,
}

impl Idempotency {
    /// Keys in `store`.
    pub fn new(config: &IdempotencyConfig, store: SharedStore, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            ttl: config.ttl.get(),
            lease: config.lease.get(),
            max_answer: config.max_answer.as_usize(),
        }))
    }

    /// Begins a request of `principal` (keys of different principals never meet) under `key`.
    /// `fingerprint` stands for the request itself: a hash of method, path and body. After
    /// `deadline` it will not be running any more: the lease begins there.
    ///
    /// # Errors
    /// [`IdempotencyError::Key`], [`IdempotencyError::Store`].
    pub async fn begin(
        &self,
        principal: &str,
        key: &str,
        fingerprint: [u8; 32],
        deadline: Deadline,
    ) -> Result<Begun, IdempotencyError> {
        if !(1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(IdempotencyError::Key(key.len()));
        }
        let mark = Mark { owner: unique_wide().to_le_bytes(), fingerprint };
        let at = store_key(principal, key);
        let longest = deadline.remaining(self.0.clock.now()) + self.0.lease;
        let expires = Some(self.0.now().plus(longest));
        let (update, told) = telling(at.clone(), move |current| match current.map(Entry::read) {
            None => (Change::Put(Stored { value: Entry::InFlight(mark).write(), expires }), Ok(None)),
            Some(entry) => (Change::Keep, entry.map(Some).ok_or_else(unreadable)),
        });
        // From here on the key may be ours, even if nobody waits for the answer any more.
        let mut guard =
            IdempotencyGuard { inner: Arc::clone(&self.0), at, mark, done: false, binding: false };
        self.0.store.update(vec![update]).await?;
        let Some(entry) = told.get()?? else { return Ok(Begun::Fresh(guard)) };
        guard.done = true;
        Ok(match entry {
            Entry::InFlight(there) if there.fingerprint == fingerprint => Begun::InFlight,
            Entry::Done(there, answer) if there == fingerprint => Begun::Replay(answer),
            _ => Begun::Mismatch,
        })
    }
}

fn unreadable() -> StoreError {
    StoreError::Failed("a stored idempotency key cannot be read".into())
}

impl Inner {
    fn now(&self) -> EventTime {
        self.clock.wall().into()
    }

    /// Changes the key to what `entry` says, if it still is the request's own.
    async fn settle(&self, at: Bytes, mark: Mark, entry: Option<Stored>) -> Result<bool, IdempotencyError> {
        let (update, told) = telling(at, move |current| {
            if current.and_then(Entry::read) != Some(Entry::InFlight(mark)) {
                return (Change::Keep, false);
            }
            (entry.clone().map_or(Change::Delete, Change::Put), true)
        });
        self.store.update(vec![update]).await?;
        Ok(told.get()?)
    }
}

/// The right and duty to answer for a key. Dropped without an answer it frees the key, if a
/// Tokio runtime is there to do it; else, and if it is [binding](Self::binding), the key is free
/// when the lease ends.
pub struct IdempotencyGuard {
    inner: Arc<Inner>,
    at: Bytes,
    mark: Mark,
    done: bool,
    binding: bool,
}

impl std::fmt::Debug for IdempotencyGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdempotencyGuard").finish_non_exhaustive()
    }
}

impl IdempotencyGuard {
    /// For a request that changes something. Only [`release`](Self::release) frees its key: where
    /// nobody knows how it ended, or its answer could not be kept, the key stays taken until the
    /// lease ends, and who sends the request again is told so instead of doing it twice.
    #[must_use]
    pub fn binding(mut self) -> Self {
        self.binding = true;
        self
    }

    /// Whether `answer` is small enough to be kept.
    pub fn fits(&self, answer: &StoredAnswer) -> bool {
        let entry = Entry::Done(self.mark.fingerprint, answer.clone());
        entry.fits() && entry.write().len() <= self.inner.max_answer
    }

    /// Keeps `answer` for whoever sends the request again.
    ///
    /// # Errors
    /// [`IdempotencyError::TooLarge`], [`IdempotencyError::Lost`], [`IdempotencyError::Store`].
    /// The answer may be given out all the same: only a repetition is then run again.
    pub async fn finish(mut self, answer: StoredAnswer) -> Result<(), IdempotencyError> {
        let entry = Entry::Done(self.mark.fingerprint, answer);
        let value = entry.write();
        if value.len() > self.inner.max_answer || !entry.fits() {
            return Err(IdempotencyError::TooLarge(value.len())); // the drop frees the key
        }
        let expires = Some(self.inner.now().plus(self.inner.ttl));
        let settled = self.inner.settle(self.at.clone(), self.mark, Some(Stored { value, expires })).await?;
        self.done = true;
        if settled { Ok(()) } else { Err(IdempotencyError::Lost) }
    }

    /// Frees the key: the request may be sent again and runs again.
    ///
    /// # Errors
    /// [`IdempotencyError::Store`]; the key is then free when the lease ends.
    pub async fn release(mut self) -> Result<(), IdempotencyError> {
        self.done = true;
        self.inner.settle(self.at.clone(), self.mark, None).await.map(drop)
    }
}

impl Drop for IdempotencyGuard {
    fn drop(&mut self) {
        if self.done || self.binding {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (inner, at, mark) = (Arc::clone(&self.inner), self.at.clone(), self.mark);
            runtime.spawn(async move { inner.settle(at, mark, None).await });
        }
    }
}

/// Hashed: principals and keys are the callers' words, of any length and meaning.
fn store_key(principal: &str, key: &str) -> Bytes {
    let mut hash = Sha256::new();
    hash.update((principal.len() as u64).to_le_bytes());
    hash.update(principal);
    hash.update(key);
    let mut at = IDEMPOTENCY.to_vec();
    at.extend(hash.finalize().iter().flat_map(|b| format!("{b:02x}").into_bytes()));
    at.into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    owner: [u8; 16],
    fingerprint: [u8; 32],
}

/// What is stored: `1`, owner, fingerprint; or `2`, fingerprint, status, headers, body.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    InFlight(Mark),
    Done([u8; 32], StoredAnswer),
}

impl Entry {
    fn fits(&self) -> bool {
        let Entry::Done(_, answer) = self else { return true };
        let short = |bytes: &Bytes| bytes.len() <= usize::from(u8::MAX);
        answer.headers.len() <= MAX_HEADERS
            && answer.headers.iter().all(|(name, value)| short(name) && short(value))
    }

    fn write(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Entry::InFlight(Mark { owner, fingerprint }) => {
                out.push(1);
                out.extend_from_slice(owner);
                out.extend_from_slice(fingerprint);
            }
            Entry::Done(fingerprint, StoredAnswer { status, headers, body }) => {
                out.push(2);
                out.extend_from_slice(fingerprint);
                out.extend_from_slice(&status.to_le_bytes());
                out.push(u8::try_from(headers.len()).unwrap_or(u8::MAX));
                for (name, value) in headers {
                    put_short(&mut out, name);
                    put_short(&mut out, value);
                }
                put_long(&mut out, body);
            }
        }
        out.into()
    }

    fn read(stored: &[u8]) -> Option<Self> {
        let mut rest = Reader(stored);
        let entry = match rest.u8()? {
            1 => Entry::InFlight(Mark { owner: rest.array()?, fingerprint: rest.array()? }),
            2 => {
                let (fingerprint, status, count) = (rest.array()?, rest.u16()?, rest.u8()?);
                let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                let header = |_| Some((copy(rest.short()?), copy(rest.short()?)));
                let headers = (0..count).map(header).collect::<Option<_>>()?;
                Entry::Done(fingerprint, StoredAnswer { status, headers, body: copy(rest.long()?) })
            }
            _ => return None,
        };
        rest.0.is_empty().then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_nothing_shorter_is_one() {
        let answer = StoredAnswer {
            status: 201,
            headers: vec![(Bytes::from("content-type"), Bytes::from("application/json"))],
            body: Bytes::from("{}"),
        };
        let mark = Mark { owner: [1; 16], fingerprint: [2; 32] };
        for entry in [Entry::InFlight(mark), Entry::Done([2; 32], answer)] {
            let stored = entry.write();
            assert!((0..stored.len()).all(|n| Entry::read(&stored[..n]).is_none()));
            assert_eq!(Entry::read(&stored), Some(entry));
        }
    }

    #[test]
    fn principals_and_keys_do_not_run_into_each_other() {
        assert_ne!(store_key("ab", "c"), store_key("a", "bc"));
    }
}
