//! Compare and swap: a key gets another value if what it has is still what was read.

use std::{sync::LazyLock, time::Duration};

use super::{Redis, RedisError, Reply, Run, Script, command::milliseconds};

/// `ARGV`: `any` or `one of`; milliseconds, nothing for ever, or `delete`; the value; the heads.
static SWAP: LazyLock<Script> = LazyLock::new(|| {
    const { assert!(Swap::HEAD == 16) }; // as the script has it
    Script::new(
        "
local allowed = ARGV[1] == 'any'
if not allowed then
    local there = redis.call('GETRANGE', KEYS[1], 0, 15)
    for i = 4, #ARGV do allowed = allowed or there == ARGV[i] end
end
if not allowed then return 0 end
if ARGV[2] == 'delete' then redis.call('UNLINK', KEYS[1])
elseif ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2]) end
return 1
",
    )
});

/// A value that is to take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap<'a> {
    /// The key, without the prefix.
    pub key: &'a [u8],
    /// What must be there for it to be done.
    pub condition: SwapCondition<'a>,
    /// What is there then; `None` for nothing.
    pub value: Option<&'a [u8]>,
    /// Redis forgets it after so long, in whole milliseconds and at least one; without it, never.
    pub ttl: Option<Duration>,
}

/// What must be there for a [`Swap`] to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapCondition<'a> {
    /// Anything or nothing.
    Always,
    /// A value whose first [`Swap::HEAD`] bytes, or all of a shorter one, are one of these. No
    /// bytes stand for no value.
    Head(&'a [&'a [u8]]),
}

impl Swap<'_> {
    /// Bytes of a value that are compared. Whoever swaps begins each value with so many that no
    /// other value has.
    pub const HEAD: usize = 16;
}

impl Redis {
    /// Does `swaps`, each by itself as one operation on one key; `false` where something else was
    /// there. One round trip to each server that has some of the keys, two where a server does
    /// not know the script yet. After [`RedisError::Timeout`] one may have been done.
    ///
    /// A user needs `GETRANGE`, `SET` and `UNLINK` within scripts.
    pub async fn swap_many(&self, swaps: &[Swap<'_>]) -> Vec<Result<bool, RedisError>> {
        let times: Vec<String> = swaps.iter().map(time).collect();
        let keys: Vec<[&[u8]; 1]> = swaps.iter().map(|swap| [swap.key]).collect();
        let args: Vec<Vec<&[u8]>> = swaps.iter().zip(&times).map(|(swap, time)| args(swap, time)).collect();
        let run = |(keys, args)| Run { script: &SWAP, keys, args };
        let runs: Vec<Run<'_>> =
            keys.iter().map(|keys| &keys[..]).zip(args.iter().map(|args| &args[..])).map(run).collect();
        self.run_many(&runs).await.into_iter().map(done).collect()
    }
}

fn time(swap: &Swap<'_>) -> String {
    match (swap.value, swap.ttl) {
        (None, _) => "delete".to_owned(),
        (Some(_), None) => String::new(),
        (Some(_), Some(ttl)) => milliseconds(ttl).to_string(),
    }
}

fn args<'a>(swap: &Swap<'a>, time: &'a str) -> Vec<&'a [u8]> {
    let (what, heads): (&[u8], &[&[u8]]) = match swap.condition {
        SwapCondition::Always => (b"any", &[]),
        SwapCondition::Head(heads) => (b"one of", heads),
    };
    [what, time.as_bytes(), swap.value.unwrap_or_default()].into_iter().chain(heads.iter().copied()).collect()
}

fn done(reply: Result<Reply, RedisError>) -> Result<bool, RedisError> {
    match reply? {
        Reply::Integer(0) => Ok(false),
        Reply::Integer(1) => Ok(true),
        other => Err(RedisError::Garbage(format!("{other:?} to a swap"))),
    }
}
