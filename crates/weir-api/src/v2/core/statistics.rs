//! What was counted for each version, in the terms of Triton's statistics extension.

use std::sync::atomic::Ordering;

use weir_serving::{CacheStats, ServedVersion, Stats, Timing};

/// How often something happened and how long it took in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DurationStatistic {
    /// How often.
    pub(crate) count: u64,
    /// Nanoseconds in all.
    pub(crate) ns: u64,
}

impl From<&Timing> for DurationStatistic {
    fn from(timing: &Timing) -> Self {
        Self { count: timing.count(), ns: timing.ns() }
    }
}

/// The statistics of one version, since it was loaded and through whatever face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelStatistics {
    /// The model.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: String,
    /// When the last request was answered, milliseconds since 1970; 0 before the first.
    pub(crate) last_inference_ms: u64,
    /// Rows answered.
    pub(crate) inference_count: u64,
    /// Calls of the engine.
    pub(crate) execution_count: u64,
    /// Requests answered: decoding, queue, engine and encoding.
    pub(crate) success: DurationStatistic,
    /// Requests that the model did not answer: it failed, it was too busy, the deadline passed
    /// or the caller went away.
    pub(crate) fail: DurationStatistic,
    /// Waiting for a thread.
    pub(crate) queue: DurationStatistic,
    /// Decoding requests.
    pub(crate) compute_input: DurationStatistic,
    /// In the engine.
    pub(crate) compute_infer: DurationStatistic,
    /// Encoding answers.
    pub(crate) compute_output: DurationStatistic,
    /// Requests all of whose rows were stored already; zeros for a model without a cache.
    pub(crate) cache_hit: DurationStatistic,
    /// Requests of which something had to be computed.
    pub(crate) cache_miss: DurationStatistic,
    /// Executions by how many rows they had, ascending.
    pub(crate) batches: Vec<BatchStatistic>,
}

/// Executions of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchStatistic {
    /// Rows.
    pub(crate) rows: u64,
    /// How often, and how long they took.
    pub(crate) compute_infer: DurationStatistic,
}

/// The statistics of `version`.
pub(crate) fn statistics(version: &ServedVersion) -> ModelStatistics {
    let stats = version.executor.stats();
    let mut fail = DurationStatistic::from(&stats.failed);
    let (cache_hit, cache_miss) = version.executor.cached().map(|c| cache(&c.stats())).unwrap_or_default();
    let unanswered = [&stats.refused, &stats.abandoned, &stats.expired];
    fail.count += unanswered.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>();
    ModelStatistics {
        name: version.spec.name.to_string(),
        version: version.spec.version.to_string(),
        last_inference_ms: stats.last_answer_ms.load(Ordering::Relaxed),
        inference_count: stats.rows.load(Ordering::Relaxed),
        execution_count: stats.executed.load(Ordering::Relaxed),
        success: (&stats.answered).into(),
        fail,
        queue: (&stats.queued).into(),
        compute_input: (&stats.decoded).into(),
        compute_infer: (&stats.ran).into(),
        compute_output: (&stats.encoded).into(),
        cache_hit,
        cache_miss,
        batches: batches(version.executor.stats()),
    }
}

/// Hits and misses. Look-ups are timed together, so that each kind gets its share of them by
/// number.
fn cache(stats: &CacheStats) -> (DurationStatistic, DurationStatistic) {
    let (hits, misses) = (stats.hit, stats.partial + stats.miss);
    let ns = u128::from(stats.memory.lookup_ns) + u128::from(stats.redis.lookup_ns);
    let share = |count: u64| {
        let part = ns * u128::from(count) / u128::from(hits + misses).max(1);
        DurationStatistic { count, ns: u64::try_from(part).unwrap_or(u64::MAX) }
    };
    (share(hits), share(misses))
}

fn batches(stats: &Stats) -> Vec<BatchStatistic> {
    let one = |(rows, count, ns): (usize, u64, u64)| BatchStatistic {
        rows: rows as u64,
        compute_infer: DurationStatistic { count, ns },
    };
    stats.batches.sizes().into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_and_misses_share_the_time_of_look_ups() {
        assert_eq!(cache(&CacheStats::default()), Default::default());
        let mut stats = CacheStats { hit: 3, partial: 1, miss: 1, bypassed: 9, ..CacheStats::default() };
        (stats.memory.lookup_ns, stats.redis.lookup_ns) = (4, 6);
        let found = cache(&stats);
        assert_eq!(found.0, DurationStatistic { count: 3, ns: 6 });
        assert_eq!(found.1, DurationStatistic { count: 2, ns: 4 });
    }
}
