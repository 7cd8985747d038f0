//! The seam to a store that replicas share.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

/// A call of a [`Tier`].
pub type TierFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a tier gave nothing: for logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TierError(pub String);

/// Something to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierEntry {
    /// Where.
    pub key: Vec<u8>,
    /// What.
    pub value: Bytes,
    /// For how long; `None` for ever.
    pub ttl: Option<Duration>,
    /// Whether only where nothing is stored yet.
    pub if_absent: bool,
}

/// A store that replicas share. It answers soon or not at all: bounding each call, and giving up
/// at once while the store is known to be away, is the implementation's part. Dropping a call must
/// never let another one read its reply.
pub trait Tier: Send + Sync {
    /// What is stored at each of `keys`, in one round trip a server.
    fn get_each<'a>(&'a self, keys: &'a [Vec<u8>]) -> TierFuture<'a, Vec<Result<Option<Bytes>, TierError>>>;

    /// Stores `entries`; whether each was, where that is a question.
    fn set_many<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Result<Vec<bool>, TierError>>;

    /// Stores `entries`, for which nobody waits: it may take longer than other calls. What became of
    /// each.
    fn store_each<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Vec<Result<(), TierError>>>;

    /// Forgets all keys that begin with `prefix`, and says how many.
    fn delete_matching<'a>(&'a self, prefix: &'a [u8]) -> TierFuture<'a, Result<u64, TierError>>;
}
