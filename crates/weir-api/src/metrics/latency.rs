//! Latencies, counted without a lock.
//!
//! prometheus-client's histogram is a mutex around its numbers, and the one with exemplars a lock around
//! that one: every request of a route would meet all others there, and wait while a scrape writes. Here
//! an observation is two additions, and a scrape reads what they add to.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds of all latency buckets, nanoseconds: from a tree ensemble to a deadline, and each
/// objective that people set (5, 10, 25, 50, 100, 250, 500 ms, 1, 2, 2.5, 5 s) is one of them, so
/// that the share within it is counted, not interpolated (ADR 0019). Whole numbers: an observation at
/// an objective is within it, without a float's rounding.
const BOUNDS: [u64; 19] = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How many buckets there are: one a bound, and one for what is beyond all.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

const NANOS_PER_SECOND: f64 = 1e9;

/// A histogram of latencies. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Arc<Counts>);

/// Alone on its cache lines (two are fetched at a time), so that writing to anything else slows no
/// request that counts here.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    /// Observations in each bucket alone.
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds in all; 2^64 of them are 584 years.
    sum: AtomicU64,
}

/// What was counted at one moment.
pub(super) struct Counted {
    /// Upper bound in seconds, and the observations of the bucket alone.
    pub(super) buckets: [(f64, u64); BUCKETS],
    /// All of them: what the buckets say, so that the two never disagree.
    pub(super) count: u64,
    /// Seconds in all. May miss an observation that the count has, if it is made at that moment.
    pub(super) sum: f64,
}

impl Latencies {
    /// Counts one.
    pub(crate) fn observe(&self, took: Duration) {
        self.count(took);
    }

    /// Counts one; gives its bucket.
    pub(super) fn count(&self, took: Duration) -> usize {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        // There is one more bucket than bounds.
        if let Some(count) = self.0.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(nanos, Ordering::Relaxed);
        bucket
    }

    pub(super) fn read(&self) -> Counted {
        let bound = |i: usize| BOUNDS.get(i).map_or(f64::INFINITY, |nanos| *nanos as f64 / NANOS_PER_SECOND);
        let sum = self.0.sum.load(Ordering::Relaxed) as f64 / NANOS_PER_SECOND;
        let buckets = std::array::from_fn(|i| (bound(i), self.0.buckets[i].load(Ordering::Relaxed)));
        Counted { buckets, count: buckets.iter().map(|(_, count)| count).sum(), sum }
    }

    /// The addresses of what is written to.
    #[cfg(test)]
    pub(super) fn place(&self) -> std::ops::Range<usize> {
        let start = Arc::as_ptr(&self.0).addr();
        start..start + size_of::<Counts>()
    }
}

impl TypedMetric for Latencies {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Counted { buckets, count, sum } = self.read();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_one_layout_with_the_objectives_among_them() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
        for objective in [5, 10, 25, 50, 100, 250, 500, 1_000, 2_000, 2_500, 5_000, 10_000] {
            let latencies = Latencies::default();
            let exactly = Duration::from_millis(objective);
            let bucket = latencies.count(exactly);
            assert_eq!(latencies.read().buckets[bucket].0, exactly.as_secs_f64(), "within the objective");
            assert_eq!(latencies.count(exactly + Duration::from_nanos(1)), bucket + 1);
        }
    }

    #[test]
    fn the_longest_is_counted_too() {
        let latencies = Latencies::default();
        latencies.observe(Duration::MAX);
        let counted = latencies.read();
        assert_eq!((counted.count, counted.buckets[BUCKETS - 1]), (1, (f64::INFINITY, 1)));
    }

    #[test]
    fn threads_lose_no_observation() {
        let latencies = Latencies::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|i| latencies.observe(Duration::from_micros(i))));
            }
        });
        let counted = latencies.read();
        assert_eq!(counted.count, 40_000);
        assert!((counted.sum - 4.0 * 49.995).abs() < 1e-9, "{}", counted.sum);
    }

    /// As prometheus-client's histogram counts, whose place it takes: by seconds as floats.
    #[test]
    fn counts_as_a_histogram_of_floats_does() {
        let latencies = Latencies::default();
        let spread = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 40);
        let all: Vec<_> = (1..2_000).map(|i| Duration::from_nanos(spread(i) % 20_000_000_000)).collect();
        all.iter().for_each(|took| latencies.observe(*took));
        let (counted, mut below) = (latencies.read(), 0);
        for (bound, count) in counted.buckets {
            below += count;
            assert_eq!(
                below as usize,
                all.iter().filter(|took| took.as_secs_f64() <= bound).count(),
                "{bound}"
            );
        }
        assert_eq!(counted.count as usize, all.len());
        let sum: Duration = all.iter().sum();
        assert!((counted.sum - sum.as_secs_f64()).abs() < 1e-6, "{}", counted.sum);
    }
}
