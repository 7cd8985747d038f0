//! Redis as it really is: each test starts servers of its own.

mod away;
mod cluster;
mod double;
mod garbage;
mod login;
mod sentinel;
mod single;
mod storm;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use weir_clients::redis::{Redis, RedisConfig, Set, SetCondition};
use weir_config::HumanDuration;

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
