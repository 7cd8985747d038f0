//! Redis as it really is: each test starts servers of its own.

mod single;

use weir_clients::redis::{Redis, RedisConfig, Set, SetCondition};
use weir_config::HumanDuration;

/// As by default, but for a timeout that a busy machine does not reach: what is tested is not how fast
/// it is.
pub(crate) fn config(url: impl Into<String>) -> RedisConfig {
    RedisConfig { timeout: HumanDuration::from_secs(10), ..RedisConfig::single(url) }
}

pub(crate) fn redis(url: impl Into<String>) -> Redis {
    Redis::new(&config(url)).unwrap()
}

/// Stores in any case, for ever.
pub(crate) fn plain<'a>(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
    Set { key, value, ttl: None, condition: SetCondition::Always }
}
