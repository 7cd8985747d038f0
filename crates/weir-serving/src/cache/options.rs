//! How the cache is set up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};

/// `[cache]` of `weir.toml`: which models keep answers, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Whether answers are kept at all; `false` overrules every model.
    pub enabled: bool,
    /// Whether every deterministic model of this server keeps answers, instead of those alone
    /// whose `model.toml` has a `[cache]`. Models on other servers, which may change without
    /// telling, still need theirs.
    pub all: bool,
    /// Memory for the entries of all models that have no `budget` of their own; left out, at most
    /// an eighth of the container's memory limit.
    pub budget: ByteSize,
    /// How long one replica may hold the others off while it computes a row that all of them
    /// miss in Redis; 0 turns that off. Models that answer faster than Redis ask for none.
    pub lease: HumanDuration,
    /// How often each replica asks Redis what was purged.
    pub purge_interval: HumanDuration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            all: false,
            budget: ByteSize::mib(64),
            lease: HumanDuration::from_secs(1),
            purge_interval: HumanDuration::from_secs(1),
        }
    }
}
