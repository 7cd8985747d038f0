//! One look at a Redis, for who prepares a host: what it is, how far away, and what it refuses.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{Cmd, Value, aio::ConnectionLike, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout};

use super::{
    RedisConfig, RedisConfigError, RedisMode,
    dial::{Dialer, Target},
    settings::Settings,
};
use crate::plain;

/// Round trips of which the shortest counts: the first ones warm up what is on the way.
const ROUND_TRIPS: usize = 5;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is stored under this key, behind the prefix, is gone a second later.
const KEY: &str = "doctor";

/// What a Redis is, as one connection sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisReport {
    /// Where it is, or how its sentinels call it.
    pub address: String,
    /// The shortest of some round trips.
    pub round_trip: Duration,
    /// Its version, such as `7.0.15`.
    pub version: Option<String>,
    /// How far its clock is before (or, if negative, behind) ours, in seconds; `None` where it does not tell.
    pub ahead_seconds: Option<f64>,
    /// Commands that Weir uses and this user may not, and what it says of each.
    pub refused: Vec<(&'static str, String)>,
}

/// Why a Redis cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The table is wrong.
    #[error(transparent)]
    Config(#[from] RedisConfigError),
    /// It knows no such user, or the password is another.
    #[error("{0}")]
    Login(String),
    /// It is not there, or does not answer.
    #[error("{0}")]
    Away(String),
}

/// Looks at the Redis of `config`, at one node of a cluster. `wall` tells the time.
///
/// # Errors
/// Why it cannot be looked at.
pub async fn probe(
    config: &RedisConfig,
    wall: &(dyn Fn() -> SystemTime + Sync),
) -> Result<RedisReport, ProbeError> {
    let settings = Arc::new(Settings::new(config)?);
    let (address, mut connection) = connect(config.mode, &settings).await?;
    let mut round_trip = PATIENCE;
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        // An answer that is a refusal is an answer; which commands are refused is asked below.
        let _ = ask(&mut connection, &redis::cmd("PING")).await?;
        round_trip = round_trip.min(started.elapsed());
    }
    // HELLO is allowed to every user, which INFO is not.
    let version = ask(&mut connection, &redis::cmd("HELLO")).await?.ok().and_then(version);
    let before = wall();
    let time = ask(&mut connection, &redis::cmd("TIME")).await?;
    let ahead_seconds = time.ok().and_then(|time| ahead(time, before, wall()));
    let mut refused = Vec::new();
    for (name, cmd) in commands(config) {
        if let Err(Refusal(text)) = ask(&mut connection, &cmd).await? {
            refused.push((name, text));
        }
    }
    Ok(RedisReport { address, round_trip, version, ahead_seconds, refused })
}

async fn connect(
    mode: RedisMode,
    settings: &Arc<Settings>,
) -> Result<(String, MultiplexedConnection), ProbeError> {
    let targets = match mode {
        RedisMode::Sentinel => vec![Target::Master],
        RedisMode::Single | RedisMode::Cluster => {
            settings.nodes.iter().cloned().map(Target::Server).collect()
        }
    };
    let mut why = ProbeError::Away("no address is configured".to_owned());
    for target in targets {
        let dialer = Dialer { settings: settings.clone(), target };
        match timeout(settings.connect_timeout, dialer.dial()).await {
            Ok(Ok(connection)) => return Ok((dialer.to_string(), connection)),
            Ok(Err(error)) => why = failed(&format!("{dialer}: {error}")),
            Err(_) => {
                let waited = settings.connect_timeout;
                why =
                    ProbeError::Away(format!("{dialer}: no connection within {waited:?} (connect_timeout)"));
            }
        }
    }
    Err(why)
}

fn failed(text: &str) -> ProbeError {
    let login = ["AuthenticationFailed", "WRONGPASS", "NOAUTH"].iter().any(|word| text.contains(word));
    if login { ProbeError::Login(text.to_owned()) } else { ProbeError::Away(text.to_owned()) }
}

/// The server will not do it for this user, in its words.
struct Refusal(String);

/// The answer, where this user may ask. Other errors of the server are no refusals: a script that it has not
/// seen, a key that is elsewhere in a cluster.
async fn ask(
    connection: &mut MultiplexedConnection,
    cmd: &Cmd,
) -> Result<Result<Value, Refusal>, ProbeError> {
    let answer = timeout(PATIENCE, connection.req_packed_command(cmd)).await;
    let answer = answer.map_err(|_| ProbeError::Away(format!("no answer within {PATIENCE:?}")))?;
    match answer.and_then(Value::extract_error) {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_connection_dropped() || error.is_io_error() => {
            Err(ProbeError::Away(plain(&error.to_string())))
        }
        Err(error) if error.code() == Some("NOAUTH") => Err(ProbeError::Login(plain(&error.to_string()))),
        Err(error) if error.code() == Some("NOPERM") => Ok(Err(Refusal(plain(&error.to_string())))),
        Err(_) => Ok(Ok(Value::Nil)),
    }
}

/// One harmless use of each command (docs/reference/redis.md lists the rights).
fn commands(config: &RedisConfig) -> Vec<(&'static str, Cmd)> {
    let prefix = if config.prefix.is_empty() { String::new() } else { format!("{}:", config.prefix) };
    let key = format!("{prefix}{KEY}");
    let words: &[(&'static str, &[&str])] = &[
        ("ping", &["PING"]),
        ("set", &["SET", &key, "1", "PX", "1000"]),
        ("get", &["GET", &key]),
        ("getrange", &["GETRANGE", &key, "0", "0"]),
        ("unlink", &["UNLINK", &key]),
        ("eval", &["EVAL", "return 1", "1", &key]),
        ("evalsha", &["EVALSHA", "0000000000000000000000000000000000000000", "1", &key]),
        ("scan", &["SCAN", "0", "COUNT", "1"]),
    ];
    let cluster: &[(&'static str, &[&str])] =
        &[("cluster|slots", &["CLUSTER", "SLOTS"]), ("asking", &["ASKING"])];
    let more = if config.mode == RedisMode::Cluster { cluster } else { &[] };
    let cmd = |(name, words): &(&'static str, &[&str])| {
        let mut cmd = Cmd::new();
        words.iter().for_each(|word| {
            cmd.arg(*word);
        });
        (*name, cmd)
    };
    words.iter().chain(more).map(cmd).collect()
}

/// The version among the pairs that HELLO answers with.
fn version(hello: Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    match hello {
        Value::Array(parts) => {
            let at = parts.iter().position(|part| text(part).as_deref() == Some("version"))?;
            text(parts.get(at + 1)?)
        }
        Value::Map(pairs) => {
            let (_, version) = pairs.iter().find(|(key, _)| text(key).as_deref() == Some("version"))?;
            text(version)
        }
        _ => None,
    }
}

/// How far the time that TIME answered with is before the middle of when it was asked.
fn ahead(time: Value, before: SystemTime, after: SystemTime) -> Option<f64> {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(time).ok()?;
    let theirs = seconds as f64 + micros as f64 / 1e6;
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    Some(theirs - f64::midpoint(since(before)?, since(after)?))
}
