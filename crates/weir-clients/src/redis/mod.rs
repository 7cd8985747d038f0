//! Redis for caches and state: many keys in one round trip, and never in anybody's way.
//!
//! ```text
//! Redis       keys, values, scripts → commands; replies → results          mod, command, reply
//!   Router    which server has the key; rounds for MOVED, ASK, NOSCRIPT    router, cluster
//!     Link    one server: breaker, connection, the keeper that mends it    link, told
//!       dial  address → connection, by way of sentinels, TLS, AUTH         dial
//! ```
//!
//! The library (redis-rs) has the wire format, TLS and the multiplexed connection, on which a dropped call
//! leaves its reply to nobody. Its cluster and sentinel clients are not used: they wait and repeat
//! where a cache should go on without, they repeat commands whose first outcome is not known, and one
//! node that is away costs the requests to all others.

mod cluster;
mod command;
mod config;
mod dial;
mod error;
mod link;
mod probe;
mod reply;
mod router;
mod settings;
mod slot;
mod stats;
mod swap;
mod told;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use self::{
    cluster::Cluster,
    command::{Command, Expect},
    dial::{Dialer, Target},
    link::{Link, Wait},
    router::{Outcome, Router},
    settings::Settings,
    stats::Counts,
};
pub use self::{
    command::{Run, Script, Set, SetCondition},
    config::{RedisConfig, RedisConfigError, RedisMode, RedisProblem},
    error::RedisError,
    probe::{ProbeError, RedisReport, probe},
    reply::Reply,
    stats::{RedisNode, RedisStats},
    swap::{Swap, SwapCondition},
};

/// Longest that [`Redis::store_each`] and one step of [`Redis::delete_matching`] may take: no prediction
/// waits for them.
const STEP: Duration = Duration::from_secs(1);
/// Keys that one step looks at.
const STEP_KEYS: usize = 512;

/// A Redis that is asked many keys at a time. Clones share the connections.
///
/// It connects when it is first called and reconnects by itself, on the tokio runtime of the caller. No
/// call takes longer than the configured timeout, and once the server is known to be away, none takes any
/// time until it is back. Keys are given without the configured prefix. Dropping a call's future at any
/// point takes nothing from other calls; a write that was dropped may have been done.
#[derive(Debug, Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    router: Router,
    /// With its colon; empty for none.
    prefix: Vec<u8>,
    timeout: Duration,
    counts: Counts,
}

impl Redis {
    /// By `config`. Reads the files it names, connects to nothing.
    ///
    /// # Errors
    /// Everything that is wrong with `config`.
    pub fn new(config: &RedisConfig) -> Result<Self, RedisConfigError> {
        let settings = Arc::new(Settings::new(config)?);
        let prefix = match config.prefix.as_str() {
            "" => Vec::new(),
            prefix => format!("{prefix}:").into_bytes(),
        };
        let timeout = settings.timeout;
        let one = |target| Router::One(Link::new(Dialer { settings: settings.clone(), target }));
        let router = match config.mode {
            RedisMode::Single => one(Target::Server(settings.nodes[0].clone())),
            RedisMode::Sentinel => one(Target::Master),
            RedisMode::Cluster => Router::Cluster(Cluster::new(settings.clone())),
        };
        Ok(Self { inner: Arc::new(Inner { router, prefix, timeout, counts: Counts::default() }) })
    }

    /// The values of `keys`, in their order; `None` where there is none. One round trip to each
    /// server that has some of them.
    ///
    /// # Errors
    /// When not all could be looked up.
    pub async fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>, RedisError> {
        self.get_each(keys).await.into_iter().collect()
    }

    /// As [`get_many`](Self::get_many), key by key: with one node of a cluster away, the keys of all others
    /// are found.
    pub async fn get_each(&self, keys: &[impl AsRef<[u8]>]) -> Vec<Result<Option<Bytes>, RedisError>> {
        let commands: Vec<Command> = keys.iter().map(|key| command::get(&self.key(key.as_ref()))).collect();
        self.call(&commands, reply::bulk).await
    }

    /// Stores `entries`; `false` where the condition did not hold. One round trip to each server that has
    /// some of the keys.
    ///
    /// # Errors
    /// When not all were stored; some may have been.
    pub async fn set_many(&self, entries: &[Set<'_>]) -> Result<Vec<bool>, RedisError> {
        self.call(&self.sets(entries), reply::done).await.into_iter().collect()
    }

    /// As [`set_many`](Self::set_many), entry by entry and for what nobody waits: the call may take a
    /// second, so that what takes long for its size is not taken for a server that is away.
    pub async fn store_each(&self, entries: &[Set<'_>]) -> Vec<Result<bool, RedisError>> {
        let commands = self.sets(entries);
        let started = Instant::now();
        let outcomes = self.ask(&commands, Wait::Patient(started + STEP)).await;
        self.read(outcomes, started, reply::done)
    }

    /// Forgets `keys`; how many of them there were.
    ///
    /// # Errors
    /// When not all are forgotten; some may be.
    pub async fn delete_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<u64, RedisError> {
        let commands: Vec<Command> =
            keys.iter().map(|key| command::unlink(&self.key(key.as_ref()))).collect();
        self.call(&commands, reply::number).await.into_iter().sum()
    }

    /// Runs a script on keys of one slot; see [`Run`].
    ///
    /// # Errors
    /// [`RedisError::Refused`] is what the script itself failed with; after [`RedisError::Timeout`] it may
    /// have run, once. It is never run twice.
    pub async fn run(&self, script: &Script, keys: &[&[u8]], args: &[&[u8]]) -> Result<Reply, RedisError> {
        let mut replies = self.run_many(&[Run { script, keys, args }]).await;
        replies.pop().unwrap_or_else(|| Err(RedisError::Garbage("no reply".to_owned())))
    }

    /// Runs scripts, each by itself; one round trip to each server that has some of the keys, two where a
    /// server has not seen a script yet. Runs of one script on one server are in the order given; those of
    /// a script that it has not seen come after those of the others.
    pub async fn run_many(&self, runs: &[Run<'_>]) -> Vec<Result<Reply, RedisError>> {
        let prefix = &self.inner.prefix;
        let commands: Vec<Command> = runs.iter().map(|run| command::evalsha(run, prefix)).collect();
        let started = Instant::now();
        let wait = self.wait(started);
        let mut outcomes = self.ask(&commands, wait).await;
        let unseen: Vec<usize> = (0..outcomes.len()).filter(|&i| reply::is_unseen(&outcomes[i])).collect();
        let commands: Vec<Command> = unseen.iter().map(|&i| command::eval(&runs[i], prefix)).collect();
        let second = self.ask(&commands, wait).await;
        unseen.into_iter().zip(second).for_each(|(i, outcome)| outcomes[i] = outcome);
        self.read(outcomes, started, Reply::new)
    }

    /// Forgets every key that begins with `prefix` (behind the configured one), server by server and
    /// some hundreds at a time; how many there were. Keys that are stored meanwhile may stay.
    ///
    /// # Errors
    /// When not all are forgotten; some may be.
    pub async fn delete_matching(&self, prefix: &[u8]) -> Result<u64, RedisError> {
        let pattern = [escaped(&self.key(prefix)), b"*".to_vec()].concat();
        let mut deleted = 0;
        for master in self.inner.router.masters(Instant::now() + STEP).await? {
            deleted += sweep(&master, &pattern).await?;
        }
        Ok(deleted)
    }

    /// How the calls went, and how the servers are.
    pub fn stats(&self) -> RedisStats {
        self.inner.counts.stats(&self.inner.router.links())
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.inner.prefix, key].concat()
    }

    fn sets(&self, entries: &[Set<'_>]) -> Vec<Command> {
        entries.iter().map(|set| command::set(&self.key(set.key), set)).collect()
    }

    async fn call<T>(&self, commands: &[Command], read: Read<T>) -> Vec<Result<T, RedisError>> {
        let started = Instant::now();
        let outcomes = self.ask(commands, self.wait(started)).await;
        self.read(outcomes, started, read)
    }

    fn wait(&self, started: Instant) -> Wait {
        Wait::Call(started + self.inner.timeout)
    }

    async fn ask(&self, commands: &[Command], wait: Wait) -> Vec<Outcome> {
        match commands {
            [] => Vec::new(),
            some => self.inner.router.call(some, wait).await,
        }
    }

    fn read<T>(&self, outcomes: Vec<Outcome>, started: Instant, read: Read<T>) -> Vec<Result<T, RedisError>> {
        let results: Vec<_> = outcomes.into_iter().map(|outcome| outcome.and_then(read)).collect();
        self.inner.counts.add(started.elapsed(), &results);
        results
    }
}

/// From what came over the wire to what was asked for.
type Read<T> = fn(Value) -> Result<T, RedisError>;

/// Deletes what matches on one server.
async fn sweep(master: &Arc<Link>, pattern: &[u8]) -> Result<u64, RedisError> {
    let (mut cursor, mut deleted) = (b"0".to_vec(), 0);
    loop {
        let scan = Command::new("SCAN", Expect::List).arg(&cursor).arg("MATCH").arg(pattern);
        let scan = scan.arg("COUNT").arg(STEP_KEYS);
        let found = master.call_patiently(&[&scan], Instant::now() + STEP).await?;
        let (next, keys) = reply::page(found.into_iter().next().unwrap_or_default())?;
        let unlinks: Vec<Command> = keys.iter().map(|key| command::unlink(key)).collect();
        if !unlinks.is_empty() {
            let all: Vec<&Command> = unlinks.iter().collect();
            for value in master.call_patiently(&all, Instant::now() + STEP).await? {
                deleted += reply::number(value)?;
            }
        }
        if next == b"0" {
            return Ok(deleted);
        }
        cursor = next;
    }
}

/// `text` as a pattern that matches nothing else.
fn escaped(text: &[u8]) -> Vec<u8> {
    let special = |byte: &u8| b"*?[]^-\\".contains(byte);
    text.iter().flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_was_made_of() {
        assert_eq!(escaped(b"weir:a*[b]?\\"), b"weir:a\\*\\[b\\]\\?\\\\");
    }
}
