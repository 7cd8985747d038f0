//! `[cache]`: for how long and where answers of a model are kept.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};

use crate::report::Report;

/// How answers of the model are kept, row by row. The table alone, empty, turns the cache on;
/// see docs/concepts/caching.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheTable {
    /// How long an answer is fresh.
    pub ttl: HumanDuration,
    /// Share of `ttl` by which each entry's own is shortened at random, 0 to 1: entries that
    /// came together do not go together.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// How long after `ttl` an answer is still given, at once, while it is computed anew in the
    /// background (`stale-while-revalidate`, RFC 5861). Default: not at all.
    pub stale: HumanDuration,
    /// Memory for this model's entries alone. Default: a part of the server's `[cache] budget`,
    /// which all models share that say nothing.
    pub budget: Option<ByteSize>,
    /// Where entries are kept; Redis only where the server has a `[redis]`.
    pub tiers: Vec<CacheTier>,
    /// Names by which entries of several models are purged together.
    pub tags: Vec<String>,
    /// What a request asks of the cache that says nothing of it in `Cache-Control`.
    pub default: CacheDefault,
}

/// What a request asks of the cache that says nothing of it; the words of `Cache-Control` (RFC 9111,
/// section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheDefault {
    /// Stored answers are given, new ones are stored.
    #[default]
    Use,
    /// Every row is computed, and stored for those who ask with `max-age`.
    NoCache,
    /// Only who asks with `max-age` is given stored answers, and has his own stored.
    NoStore,
    /// Only what was stored is given: by `weir cache warm`, or for those who ask with `no-cache`.
    OnlyIfCached,
}

/// Where entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheTier {
    /// In this process.
    Memory,
    /// In Redis, shared by all replicas.
    Redis,
}

impl Default for CacheTable {
    fn default() -> Self {
        Self {
            ttl: HumanDuration::from_secs(3_600),
            jitter: 0.1,
            stale: HumanDuration::from_secs(0),
            budget: None,
            tiers: vec![CacheTier::Memory, CacheTier::Redis],
            tags: Vec::new(),
            default: CacheDefault::default(),
        }
    }
}

/// Longest `ttl` and `stale`: beyond a year, an entry that nobody purges is a mistake.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);
/// Least `budget`: below it hardly anything fits.
const MIN_BUDGET: u64 = 1 << 20;
/// Most tags, and most bytes of one.
const MAX_TAGS: (usize, usize) = (16, 64);

impl CacheTable {
    /// Whether entries are kept in `tier`.
    pub fn has(&self, tier: CacheTier) -> bool {
        self.tiers.contains(&tier)
    }

    /// Reports every setting that cannot be obeyed, besides the ranges, which the schema holds.
    pub(crate) fn check(&self, (deterministic, stateful): (bool, bool), report: &mut Report) {
        if !deterministic || stateful {
            let text = "a model that is `stateful` or not `deterministic` has no cache: leave `[cache]` out";
            report.at("cache", text);
        }
        for (key, time) in [("cache.ttl", self.ttl), ("cache.stale", self.stale)] {
            if time.get() > MAX_TIME {
                report.at(key, format!("`{key}` is at most 366d"));
            }
        }
        if self.ttl.get().is_zero() {
            report.at("cache.ttl", "`cache.ttl` is more than 0: leave `[cache]` out to keep nothing");
        }
        if self.budget.is_some_and(|budget| budget.get() < MIN_BUDGET) {
            report.at("cache.budget", "`cache.budget` is at least 1MiB");
        }
        if self.tiers.is_empty() {
            report.at("cache.tiers", "`cache.tiers` names \"memory\", \"redis\" or both");
        }
        let (most, longest) = MAX_TAGS;
        let odd = |tag: &String| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            tag.is_empty() || tag.len() > longest || !tag.bytes().all(plain)
        };
        if self.tags.len() > most || self.tags.iter().any(odd) {
            let text = format!(
                "`cache.tags` are at most {most} names of letters, digits, `.`, `_` and `-`, up to {longest} long"
            );
            report.at("cache.tags", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn problems(table: &CacheTable, deterministic: bool, stateful: bool) -> Vec<String> {
        let mut report = Report::new(Path::new("model.toml"), None);
        table.check((deterministic, stateful), &mut report);
        report.problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn what_cannot_be_obeyed_is_told_at_once() {
        assert_eq!(problems(&CacheTable::default(), true, false), [""; 0]);
        let table = CacheTable {
            ttl: HumanDuration::from_secs(0),
            stale: HumanDuration(Duration::from_secs(400 * 86_400)),
            budget: Some(ByteSize(1)),
            tiers: vec![],
            tags: vec!["a b".into()],
            ..CacheTable::default()
        };
        let told = problems(&table, false, true);
        assert_eq!(told.len(), 6, "{told:?}");
        for word in ["deterministic", "ttl", "stale", "budget", "tiers", "tags"] {
            assert!(told.iter().any(|message| message.contains(word)), "{word}: {told:?}");
        }
    }
}
