//! What is asked: values to be stored, scripts, and the commands that they become.

use std::time::Duration;

use redis::{Cmd, Value};

use super::slot;

/// A value to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key, without the prefix.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Redis forgets it after so long, in whole milliseconds and at least one; without it, never.
    pub ttl: Option<Duration>,
    /// When it is stored.
    pub condition: SetCondition,
}

/// When a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetCondition {
    /// In any case.
    #[default]
    Always,
    /// If the key has no value.
    IfAbsent,
}

/// A Lua script, which Redis runs without anything in between. It goes over the wire once a server.
#[derive(Debug, Clone)]
pub struct Script {
    code: String,
    hash: String,
}

impl Script {
    /// The script with this code.
    pub fn new(code: impl Into<String>) -> Self {
        let code = code.into();
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

/// One run of a script.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The script.
    pub script: &'a Script,
    /// Its `KEYS`, without the prefix; at least one. In a cluster all must be in one slot, which they
    /// are when they share a `{tag}`.
    pub keys: &'a [&'a [u8]],
    /// Its `ARGV`.
    pub args: &'a [&'a [u8]],
}

/// What an answer may look like; anything else comes from no Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A value, or none.
    Bulk,
    Integer,
    /// `OK`, or nothing where a condition did not hold.
    Done,
    List,
    /// What a script returns.
    Anything,
}

/// A command for the server that has its key.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) cmd: Cmd,
    pub(crate) slot: u16,
    pub(crate) expect: Expect,
    /// Sent behind `ASKING`: the slot is on its way to the server.
    pub(crate) asking: bool,
}

impl Command {
    pub(crate) fn new(name: &str, expect: Expect) -> Self {
        Self { cmd: redis::cmd(name), slot: 0, expect, asking: false }
    }

    /// Adds the key that decides where it goes.
    fn key(mut self, key: &[u8]) -> Self {
        self.slot = slot::of(key);
        self.arg(key)
    }

    pub(crate) fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Whether `value` can be its answer. Errors always can.
    pub(crate) fn fits(&self, value: &Value) -> bool {
        match (self.expect, value) {
            (Expect::Anything, _) | (_, Value::ServerError(_)) => true,
            (Expect::Bulk, value) => matches!(value, Value::BulkString(_) | Value::Nil),
            (Expect::Integer, value) => matches!(value, Value::Int(_)),
            (Expect::Done, value) => matches!(value, Value::Okay | Value::Nil),
            (Expect::List, value) => matches!(value, Value::Array(_)),
        }
    }
}

pub(crate) fn get(key: &[u8]) -> Command {
    Command::new("GET", Expect::Bulk).key(key)
}

pub(crate) fn set(key: &[u8], set: &Set<'_>) -> Command {
    let mut command = Command::new("SET", Expect::Done).key(key).arg(set.value);
    if let Some(ttl) = set.ttl {
        command = command.arg("PX").arg(milliseconds(ttl));
    }
    match set.condition {
        SetCondition::Always => command,
        SetCondition::IfAbsent => command.arg("NX"),
    }
}

/// Redis refuses what would overflow its clock; nobody waits ten thousand years.
const MAX_TTL_MS: u64 = 1 << 48;

/// How long Redis keeps what is to be kept for `ttl`.
pub(crate) fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, MAX_TTL_MS)
}

/// `UNLINK` frees the memory on another thread of Redis, where `DEL` would stop it for all others.
pub(crate) fn unlink(key: &[u8]) -> Command {
    Command::new("UNLINK", Expect::Integer).key(key)
}

pub(crate) fn evalsha(run: &Run<'_>, prefix: &[u8]) -> Command {
    eval_as("EVALSHA", &run.script.hash, run, prefix)
}

pub(crate) fn eval(run: &Run<'_>, prefix: &[u8]) -> Command {
    eval_as("EVAL", &run.script.code, run, prefix)
}

fn eval_as(name: &str, script: &str, run: &Run<'_>, prefix: &[u8]) -> Command {
    let mut command = Command::new(name, Expect::Anything).arg(script).arg(run.keys.len());
    for (i, key) in run.keys.iter().enumerate() {
        let key = [prefix, key].concat();
        command = if i == 0 { command.key(&key) } else { command.arg(&key) };
    }
    run.args.iter().fold(command, |command, arg| command.arg(*arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(command: &Command) -> String {
        String::from_utf8(command.cmd.get_packed_command()).unwrap()
    }

    #[test]
    fn values_are_stored_for_as_long_and_when_they_should() {
        let entry = Set { key: b"", value: b"v", ttl: None, condition: SetCondition::Always };
        assert_eq!(packed(&set(b"k", &entry)), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
        let entry = Set { ttl: Some(Duration::from_nanos(1)), condition: SetCondition::IfAbsent, ..entry };
        let sent = packed(&set(b"k", &entry));
        assert!(sent.ends_with("$2\r\nPX\r\n$1\r\n1\r\n$2\r\nNX\r\n"), "{sent}");
    }

    #[test]
    fn scripts_go_to_the_slot_of_their_first_key() {
        let script = Script::new("return 1");
        let run = Run { script: &script, keys: &[b"{a}1", b"{a}2"], args: &[b"x"] };
        let command = evalsha(&run, b"weir:");
        assert_eq!(command.slot, slot::of(b"a"));
        let sent = packed(&command);
        assert!(sent.contains("e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), "{sent}");
        assert!(sent.ends_with("weir:{a}1\r\n$9\r\nweir:{a}2\r\n$1\r\nx\r\n"), "{sent}");
    }
}
