//! Redis as it really is: each test starts servers of its own.

mod away;
mod cluster;
mod double;
mod garbage;
mod login;
mod sentinel;
mod single;
mod storm;
mod told;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use weir_clients::redis::{Redis, RedisConfig, Set, SetCondition};
use weir_config::HumanDuration;
use weir_testbed::RedisServer;

/// As by default, but for a timeout that a busy machine does not reach: what is tested is not how fast
/// it is.
fn config(url: impl Into<String>) -> RedisConfig {
    RedisConfig { timeout: HumanDuration::from_secs(10), ..RedisConfig::single(url) }
}

fn redis(url: impl Into<String>) -> Redis {
    Redis::new(&config(url)).unwrap()
}

/// Stores in any case, for ever.
fn plain<'a>(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
    Set { key, value, ttl: None, condition: SetCondition::Always }
}

/// The rights to commands that docs/reference/redis.md says are enough.
const RIGHTS: [&str; 8] = ["+ping", "+get", "+getrange", "+set", "+unlink", "+eval", "+evalsha", "+scan"];

/// Adds the user of `as_user` to a server, who may do those and `more`.
fn add_user(server: &RedisServer, more: &[&str]) {
    server.ask::<()>(&[&["ACL", "SETUSER", "weir", "on", ">geheim"], &RIGHTS[..], more].concat());
}

/// Goes to the server as the user that was added.
fn as_user(server: &RedisServer, config: RedisConfig) -> RedisConfig {
    let password_file = Some(server.file("password", "geheim\n"));
    RedisConfig { username: Some("weir".into()), password_file, ..config }
}

/// Asks again and again, as the requests of a server do, until `good`.
async fn until<T>(mut ask: impl AsyncFnMut() -> T, good: impl Fn(&T) -> bool) {
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if good(&ask().await) {
            return;
        }
    }
}
