//! Sequences in Redis.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use weir_clients::redis::{Redis, RedisError, Swap, SwapCondition};
use weir_types::{Error, ErrorCode};

use super::{Expected, SequenceStore, StoreFuture, Token};

/// When a store that is away is worth asking again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps sequences in Redis, each under one key, so that a cluster will do.
///
/// Redis copies to its replicas after it has answered: a failover may lose the last steps of a
/// sequence. Whoever remembers more than it then fails instead of going on, and starts anew.
pub struct RedisSequences {
    redis: Redis,
    reads: Trouble,
    writes: Trouble,
}

impl RedisSequences {
    /// In `redis`.
    pub fn new(redis: Redis) -> Self {
        const { assert!(Token::BYTES == Swap::HEAD) };
        Self { redis, reads: Trouble::new("fetched"), writes: Trouble::new("kept") }
    }

    async fn swap(
        &self,
        key: &[u8],
        expected: Expected<'_>,
        (value, ttl): (Option<&[u8]>, Option<Duration>),
    ) -> Result<bool, Error> {
        let heads: Vec<&[u8]> = match expected {
            Expected::Anything => Vec::new(),
            Expected::OneOf(tokens) => tokens.iter().map(|token| &token.as_bytes()[..]).collect(),
        };
        let condition = match expected {
            Expected::Anything => SwapCondition::Always,
            Expected::OneOf(_) => SwapCondition::Head(&heads),
        };
        let swapped = self.redis.swap_many(&[Swap { key, condition, value, ttl }]).await.pop();
        let nothing = || Err(RedisError::Garbage("no reply".to_owned()));
        self.writes.note(swapped.unwrap_or_else(nothing))
    }
}

/// Whether commands of one kind fail. The log tells when that changes, not at each step: reading
/// and writing apart, since a user may lack the right to one of them.
struct Trouble {
    /// What cannot be done then.
    what: &'static str,
    now: AtomicBool,
}

impl Trouble {
    fn new(what: &'static str) -> Self {
        Self { what, now: AtomicBool::new(false) }
    }

    /// Takes note of what came of a command, and gives what callers may see of it.
    fn note<T>(&self, result: Result<T, RedisError>) -> Result<T, Error> {
        let (failed, what) = (result.is_err(), self.what);
        // Read first: all steps that go well would write to one cache line otherwise.
        if self.now.load(Ordering::Relaxed) != failed && self.now.swap(failed, Ordering::Relaxed) != failed {
            match &result {
                Err(error) => tracing::warn!("sequences cannot be {what}, their steps fail: {error}"),
                Ok(_) => tracing::info!("sequences can be {what} again"),
            }
        }
        result.map_err(|_| {
            let text = "sequences cannot be kept now: the step was not answered, send it again";
            Error::new(ErrorCode::Unavailable, text).retry_after(AGAIN)
        })
    }
}

impl SequenceStore for RedisSequences {
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut found = self.reads.note(self.redis.get_many(&[key]).await)?;
            Ok(found.pop().flatten().map(|value| value.to_vec()))
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a [u8],
        expected: Expected<'a>,
        value: Vec<u8>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move { self.swap(key, expected, (Some(&value), Some(ttl))).await })
    }

    fn delete<'a>(&'a self, key: &'a [u8], expected: Expected<'a>) -> StoreFuture<'a, bool> {
        Box::pin(self.swap(key, expected, (None, None)))
    }
}
