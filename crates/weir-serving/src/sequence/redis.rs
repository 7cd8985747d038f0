//! Sequences in Redis.

use std::time::Duration;

use weir_clients::redis::{Redis, RedisError, Reply, Script};
use weir_types::{Error, ErrorCode};

use super::{Expected, SequenceStore, StoreFuture, Token};

/// When a store that is away is worth asking again.
const AGAIN: Duration = Duration::from_secs(1);

/// `ARGV`: what it takes (`any` or `one of`), a value (empty: delete) and its milliseconds, tokens.
const CHANGE: &str = "
local allowed = ARGV[1] == 'any'
if not allowed then
    local there = redis.call('GETRANGE', KEYS[1], 0, 15)
    for i = 4, #ARGV do allowed = allowed or there == ARGV[i] end
end
if not allowed then return 0 end
if ARGV[2] == '' then redis.call('UNLINK', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
";

/// Keeps sequences in Redis, each under one key, so that a cluster will do.
///
/// Redis copies to its replicas after it has answered: a failover may lose the last steps of a
/// sequence. Whoever remembers more than it then fails instead of going on, and starts anew.
pub struct RedisSequences {
    redis: Redis,
    change: Script,
}

impl RedisSequences {
    /// In `redis`.
    pub fn new(redis: Redis) -> Self {
        const { assert!(Token::BYTES == 16) }; // as the script has it
        Self { redis, change: Script::new(CHANGE) }
    }

    async fn run(
        &self,
        key: &[u8],
        expected: Expected<'_>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Error> {
        let (what, tokens): (&[u8], &[Token]) = match expected {
            Expected::Anything => (b"any", &[]),
            Expected::OneOf(tokens) => (b"one of", tokens),
        };
        let milliseconds = ttl.as_millis().max(1).to_string();
        let mut args: Vec<&[u8]> = vec![what, value, milliseconds.as_bytes()];
        args.extend(tokens.iter().map(|token| &token.as_bytes()[..]));
        match self.redis.run(&self.change, &[key], &args).await.map_err(away)? {
            Reply::Integer(0) => Ok(false),
            Reply::Integer(1) => Ok(true),
            other => Err(away(RedisError::Garbage(format!("{other:?}")))),
        }
    }
}

fn away(error: RedisError) -> Error {
    tracing::warn!("sequences: {error}");
    let text = "sequences cannot be kept now: the step was not answered, send it again";
    Error::new(ErrorCode::Unavailable, text).retry_after(AGAIN)
}

impl SequenceStore for RedisSequences {
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut found = self.redis.get_many(&[key]).await.map_err(away)?;
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
        Box::pin(async move { self.run(key, expected, &value, ttl).await })
    }

    fn delete<'a>(&'a self, key: &'a [u8], expected: Expected<'a>) -> StoreFuture<'a, bool> {
        Box::pin(self.run(key, expected, b"", Duration::ZERO))
    }
}
