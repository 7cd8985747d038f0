//! Where state is kept: one small trait, one contract suite, three stores.
//!
//! A store maps keys to values that expire, and does one thing to them: it puts a *pure
//! function* of the present value in its place, atomically. Guards on event time, merging of
//! aggregates, put-if-absent, leases and deletes are such functions, written once in Rust. The
//! alternative, one operation a purpose (and a Lua script for each), was rejected: every rule
//! would exist twice, and Redis' Lua has no integers of 64 bits to keep exact sums with.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use weir_types::{Error, ErrorCode};

use crate::value::EventTime;

mod embedded;
mod memory;
mod redis;

pub use embedded::{Embedded, OpenError};
pub use memory::Memory;
pub use redis::RedisStore;

/// Longest key, in bytes: a view's name and an entity's key fit.
pub const MAX_KEY_BYTES: usize = 512;

/// Largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// A future that a store answers with.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A value and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Bytes,
    /// From when on it is as if it were not there; `None` is never.
    pub expires: Option<EventTime>,
}

impl Stored {
    pub(crate) fn is_live(&self, now: EventTime) -> bool {
        self.expires.is_none_or(|end| end > now)
    }
}

/// What an update does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// This value from now on.
    Put(Stored),
    /// The key is gone.
    Delete,
}

/// What decides about a key: a pure function of the value that is there (`None` if there is
/// none, or it has expired). It may be called several times, until what it said came true; the
/// last call is the one that counts.
pub type Decide = Box<dyn FnMut(Option<&[u8]>) -> Change + Send>;

/// One key and what is to become of it.
pub struct Update {
    /// The key, 1 to [`MAX_KEY_BYTES`].
    pub key: Bytes,
    /// Decides what it becomes.
    pub decide: Decide,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A map of keys to values that expire.
///
/// What every implementation keeps, and `tests/it/contract.rs` checks: an update that was
/// acknowledged is seen by every `get` that begins later, in any process that shares the store;
/// updates of one key happen one after the other, each deciding upon what the one before left;
/// the updates of one call to the same key happen in their order. Keys are independent: a
/// call that fails may have done some of its updates.
pub trait Store: Send + Sync {
    /// The values of `keys`, in their order; `None` where there is none.
    fn get(&self, keys: Vec<Bytes>) -> StoreFuture<Vec<Option<Bytes>>>;

    /// Does `updates`. Dropping the future does not undo them: they happen or not.
    fn update(&self, updates: Vec<Update>) -> StoreFuture<()>;

    /// What `weir.toml` calls it.
    fn kind(&self) -> crate::config::StoreKind;

    /// What is held in this process of each budget; `None` if the store is elsewhere.
    fn held(&self) -> Option<Budget> {
        None
    }
}

/// What keys of idempotency begin with.
pub(crate) const IDEMPOTENCY: &[u8] = b"i:";

/// Most bytes that a store in this process holds, keys and bookkeeping included. Two budgets:
/// nothing that is kept goes for something new, so that a day of answers under keys would else
/// leave no room for features and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of features and aggregates.
    pub state: usize,
    /// Of idempotency keys and answers.
    pub idempotency: usize,
}

impl From<usize> for Budget {
    /// As much for each.
    fn from(bytes: usize) -> Self {
        Self { state: bytes, idempotency: bytes }
    }
}

/// A store that several services share.
pub type SharedStore = Arc<dyn Store>;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It holds as much as it may.
    #[error(
        "the state store holds as much as `[state] budget` lets it: raise it, shorten `ttl`, or delete entities"
    )]
    Full,
    /// It holds as many idempotency keys and answers as it may.
    #[error(
        "the answers kept under `Idempotency-Key` take as much as `[idempotency] budget` lets them: raise it, or \
         shorten `[idempotency] ttl`"
    )]
    KeysFull,
    /// More writes wait than may.
    #[error("the state store has too many writes waiting: try again")]
    Busy,
    /// It cannot be reached, or did not answer in time.
    #[error("the state store cannot be reached")]
    Unavailable,
    /// It can be reached and refuses: no memory left, no permission. The text is for logs.
    #[error("the state store refuses to do it now; its reason is in the server's log")]
    Refused(String),
    /// Others changed the same key again and again.
    #[error("the same entity is being changed by too many at once: try again")]
    Contended,
    /// A value is larger than a store takes.
    #[error("a value of {0} bytes is more than the {MAX_VALUE_BYTES} that the state store takes")]
    TooLarge(usize),
    /// A key is empty or longer than a store takes.
    #[error("a key of {0} bytes, 1 to {MAX_KEY_BYTES} are taken")]
    Key(usize),
    /// The disk did not take it, or what is stored cannot be read. The text is for logs.
    #[error("the state store failed")]
    Failed(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Full | StoreError::KeysFull | StoreError::Unavailable | StoreError::Refused(_) => {
                Error::new(ErrorCode::Unavailable, message)
            }
            StoreError::Busy | StoreError::Contended => Error::new(ErrorCode::Overloaded, message),
            StoreError::TooLarge(_) | StoreError::Key(_) => Error::new(ErrorCode::TooLarge, message),
            StoreError::Failed(_) => Error::internal(message),
        }
    }
}

/// The change, if key and value are of a size that stores take. A value that has expired already
/// is none.
fn checked(key: &[u8], change: Change, now: EventTime) -> Result<Change, StoreError> {
    match &change {
        _ if key.is_empty() || key.len() > MAX_KEY_BYTES => Err(StoreError::Key(key.len())),
        Change::Put(stored) if stored.value.len() > MAX_VALUE_BYTES => {
            Err(StoreError::TooLarge(stored.value.len()))
        }
        Change::Put(stored) if !stored.is_live(now) => Ok(Change::Delete),
        _ => Ok(change),
    }
}

/// What the last call of a decision told, once the store has done the update.
pub(crate) struct Told<T>(Arc<Mutex<Option<T>>>);

impl<T> Told<T> {
    /// What it told; an error only if the store never asked.
    pub(crate) fn get(self) -> Result<T, StoreError> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        told.ok_or_else(|| StoreError::Failed("an update was acknowledged and not done".into()))
    }
}

/// An update whose decision also tells something.
pub(crate) fn telling<T, D>(key: Bytes, mut decide: D) -> (Update, Told<T>)
where
    T: Send + 'static,
    D: FnMut(Option<&[u8]>) -> (Change, T) + Send + 'static,
{
    let cell = Arc::new(Mutex::new(None));
    let told = Told(Arc::clone(&cell));
    let decide = move |current: Option<&[u8]>| {
        let (change, told) = decide(current);
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        change
    };
    (Update { key, decide: Box::new(decide) }, told)
}
