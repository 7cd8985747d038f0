//! Buckets of a latency histogram, and quantiles of what came within an interval.

/// Cumulative counts by upper bound, in order of the bounds; the last bound is infinite.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Buckets(Vec<(f64, f64)>);

/// A quantile, as far as buckets tell it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantile {
    /// Within the first bucket: no more than this.
    AtMost(f64),
    /// Interpolated between the bounds of its bucket.
    Near(f64),
    /// Beyond the last finite bound.
    MoreThan(f64),
}

impl Buckets {
    /// Adds a count to the bucket of this bound.
    pub(super) fn add(&mut self, bound: f64, count: f64) {
        if bound.is_nan() {
            return;
        }
        match self.0.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bound, count)),
        }
    }

    /// What came since `earlier`; everything where the counts went back, for then the server
    /// started anew.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| earlier.at(bound).unwrap_or(0.0);
        if self.0.iter().any(|(bound, count)| *count < before(*bound)) {
            return self.clone();
        }
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// Both together, by the bounds that both have: cumulative counts are exact there, and nowhere
    /// else. Replicas of two releases may differ.
    pub(super) fn and(&self, other: &Self) -> Self {
        if self.0.is_empty() || other.0.is_empty() {
            return if self.0.is_empty() { other.clone() } else { self.clone() };
        }
        let both = self.0.iter().filter_map(|(bound, count)| Some((*bound, count + other.at(*bound)?)));
        Self(both.collect())
    }

    fn at(&self, bound: f64) -> Option<f64> {
        self.0.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map(|(_, count)| *count)
    }

    /// The `q`-quantile, as PromQL's `histogram_quantile` interpolates it; `None` where nothing
    /// came.
    pub(super) fn quantile(&self, q: f64) -> Option<Quantile> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = q * total;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (upper, count) = self.0[at];
        let below = at.checked_sub(1).map(|before| self.0[before]);
        Some(match below {
            None if upper.is_infinite() => Quantile::MoreThan(0.0),
            None => Quantile::AtMost(upper),
            Some((lower, _)) if upper.is_infinite() => Quantile::MoreThan(lower),
            Some((lower, before)) => {
                Quantile::Near(lower + (upper - lower) * ((rank - before) / (count - before)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(counts: &[(f64, f64)]) -> Buckets {
        let mut buckets = Buckets::default();
        counts.iter().for_each(|(bound, count)| buckets.add(*bound, *count));
        buckets
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        // promql: histogram_quantile over buckets 1: 10, 2: 30, 4: 40, +Inf: 41.
        let b = buckets(&[(4.0, 40.0), (1.0, 10.0), (f64::INFINITY, 41.0), (2.0, 30.0)]);
        assert_eq!(b.quantile(0.5), Some(Quantile::Near(1.525)));
        assert_eq!(b.quantile(0.9), Some(Quantile::Near(2.0 + 2.0 * (36.9 - 30.0) / 10.0)));
        assert_eq!(b.quantile(0.1), Some(Quantile::AtMost(1.0)), "the first bucket tells no more");
        assert_eq!(b.quantile(0.999), Some(Quantile::MoreThan(4.0)), "nor does the last");
        assert_eq!(buckets(&[(1.0, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(Buckets::default().quantile(0.5), None);
        assert_eq!(buckets(&[(f64::INFINITY, 3.0)]).quantile(0.5), Some(Quantile::MoreThan(0.0)));
    }

    #[test]
    fn a_restart_counts_from_nothing() {
        let before = buckets(&[(1.0, 10.0), (f64::INFINITY, 12.0)]);
        let after = buckets(&[(1.0, 3.0), (f64::INFINITY, 3.0)]);
        assert_eq!(after.since(&before), after);
        assert_eq!(before.since(&after), buckets(&[(1.0, 7.0), (f64::INFINITY, 9.0)]));
    }

    #[test]
    fn replicas_of_two_releases_meet_where_both_have_a_bound() {
        let one = buckets(&[(1.0, 1.0), (2.0, 5.0), (f64::INFINITY, 6.0)]);
        let other = buckets(&[(2.0, 3.0), (3.0, 4.0), (f64::INFINITY, 4.0)]);
        assert_eq!(one.and(&other), buckets(&[(2.0, 8.0), (f64::INFINITY, 10.0)]));
        assert_eq!(one.and(&Buckets::default()), one);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_its_rank(values in prop::collection::vec(0.0..20.0f64, 1..50), q in 0.01..1.0f64) {
            let bounds = [1.0, 2.0, 4.0, 8.0, 16.0, f64::INFINITY];
            let mut b = Buckets::default();
            for bound in bounds {
                b.add(bound, values.iter().filter(|v| **v <= bound).count() as f64);
            }
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
            let bucket = bounds.iter().position(|bound| exact <= *bound).unwrap();
            match b.quantile(q).unwrap() {
                Quantile::AtMost(bound) => prop_assert_eq!((bucket, bound), (0, 1.0)),
                Quantile::MoreThan(bound) => prop_assert_eq!((bucket, bound), (5, 16.0)),
                Quantile::Near(value) => {
                    prop_assert!(bounds[bucket - 1] <= value && value <= bounds[bucket], "{value} {exact}");
                }
            }
        }
    }
}
