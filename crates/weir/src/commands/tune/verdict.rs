//! What measurements say: which of two settings is better, and which of three is worth writing.

/// A setting must keep so many times the rate of another to replace it. Rates are known to 5 %.
pub(super) const GAIN: f64 = 1.05;

/// What as many measurements of two settings say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Said {
    /// The first is so many times as good.
    Better(f64),
    /// It is not by enough.
    Equal,
    /// More measurements may tell.
    Unclear,
}

/// How often both are measured: fewest and most.
pub(super) const REPEATS: (usize, usize) = (3, 5);

/// Compares `ours` with `theirs`, as often each, after every pair from [`REPEATS`] on. Better is what has a
/// median above by [`GAIN`], and hardly a measurement that is not above all of the others: none of three
/// or four, two pairs of the 25 that five make. That is the rank-sum test (Mann and Whitney, 1947) with
/// chances of 1/20, 1/70 and 4/252 that equals come out so: one in twelve in all, before the gain.
/// It asks for no distribution, and other work on the machine has none that is known.
pub(super) fn compare(ours: &[f64], theirs: &[f64]) -> Said {
    let (Some(our), Some(their)) = (median(ours), median(theirs)) else { return Said::Unclear };
    let count = ours.len().min(theirs.len());
    let allowed = if count >= REPEATS.1 { 2 } else { 0 };
    let below = ours.iter().flat_map(|our| theirs.iter().filter(move |their| our <= *their)).count();
    match our / their {
        _ if count < REPEATS.0 => Said::Unclear,
        ratio if ratio < GAIN => Said::Equal,
        ratio if below <= allowed => Said::Better(ratio),
        _ if count < REPEATS.1 => Said::Unclear,
        _ => Said::Equal,
    }
}

/// Rates of the best setting, of the one in force, and of the defaults where those are a third.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repeated {
    pub(super) best: Vec<f64>,
    pub(super) in_force: Vec<f64>,
    pub(super) defaults: Option<Vec<f64>>,
}

/// What comes of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Settled {
    /// The best one is so many times as good as the one in force, and better than the defaults.
    Best(f64),
    /// The defaults are so many times as good as the one in force, and the best one is no better.
    Defaults(f64),
    /// Nothing is better than the one in force by enough to tell, or not than the defaults.
    Equal,
    /// More measurements may tell.
    Unclear,
}

impl Repeated {
    /// A setting is worth having where it beats what was there and what would be there without.
    pub(super) fn settle(&self) -> Settled {
        let over_force = compare(&self.best, &self.in_force);
        let Some(defaults) = &self.defaults else {
            return match over_force {
                Said::Better(ratio) => Settled::Best(ratio),
                Said::Equal => Settled::Equal,
                Said::Unclear => Settled::Unclear,
            };
        };
        let (over_defaults, theirs) = (compare(&self.best, defaults), compare(defaults, &self.in_force));
        match (over_force, over_defaults, theirs) {
            (Said::Better(ratio), Said::Better(_), _) => Settled::Best(ratio),
            (_, Said::Equal, Said::Better(ratio)) => Settled::Defaults(ratio),
            (Said::Unclear, ..) | (_, Said::Unclear, _) | (_, _, Said::Unclear) => Settled::Unclear,
            _ => Settled::Equal,
        }
    }
}

/// The middle one; of an even number, the lower of the two.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_hardly_an_accident_is_better() {
        let theirs = [100.0, 101.0, 99.0, 100.5, 98.0];
        let said = |ours: &[f64]| compare(ours, &theirs[..ours.len()]);
        assert_eq!(said(&[120.0, 130.0, 125.0]), Said::Better(1.25));
        assert_eq!((said(&[]), said(&[200.0, 200.0])), (Said::Unclear, Said::Unclear));
        // Above all, but by less than rates are known.
        assert_eq!(said(&[103.0, 104.0, 102.0]), Said::Equal);
        // One below: more may tell, and does or does not.
        assert_eq!(said(&[120.0, 130.0, 99.5]), Said::Unclear);
        assert_eq!(said(&[120.0, 130.0, 99.5, 125.0]), Said::Unclear);
        assert!(matches!(said(&[120.0, 130.0, 100.2, 125.0, 122.0]), Said::Better(_)));
        assert_eq!(said(&[120.0, 130.0, 90.0, 125.0, 122.0]), Said::Equal);
    }

    #[test]
    fn a_setting_must_beat_what_was_there_and_what_would_be_there_without() {
        let settled = |best: [f64; 3], in_force: [f64; 3], defaults: Option<[f64; 3]>| {
            let all =
                Repeated { best: best.into(), in_force: in_force.into(), defaults: defaults.map(Into::into) };
            all.settle()
        };
        let (low, mid, high) = ([100.0, 101.0, 99.0], [150.0, 151.0, 149.0], [200.0, 201.0, 199.0]);
        assert_eq!(settled(high, low, None), Settled::Best(2.0));
        assert_eq!(settled(high, low, Some(mid)), Settled::Best(2.0));
        assert_eq!(settled(mid, low, Some(mid)), Settled::Defaults(1.5), "a setting for nothing");
        assert_eq!(settled(mid, low, Some(high)), Settled::Defaults(2.0));
        assert_eq!(settled(low, low, Some(low)), Settled::Equal);
        assert_eq!(settled(mid, high, Some(low)), Settled::Equal, "worse than in force");
        assert_eq!(settled(high, low, Some([150.0, 151.0, 202.0])), Settled::Unclear);
        assert_eq!(Repeated::default().settle(), Settled::Unclear);
    }

    /// All ways to deal ten ranks to two settings: those that come out as better are as few as is said.
    #[test]
    fn equals_are_rarely_told_apart() {
        for (count, better, all) in [(3usize, 1, 20), (4, 1, 70), (5, 4, 252)] {
            // Ranks far enough apart that the gain is no hurdle.
            let rank = |i: usize| 2f64.powi(i as i32);
            let deals = (0u32..1 << (2 * count)).filter(|deal| deal.count_ones() as usize == count);
            let dealt = deals.map(|deal| {
                let (ours, theirs): (Vec<_>, Vec<_>) = (0..2 * count).partition(|i| deal >> i & 1 == 1);
                let rates = |ranks: Vec<usize>| ranks.into_iter().map(rank).collect::<Vec<_>>();
                matches!(compare(&rates(ours), &rates(theirs)), Said::Better(_))
            });
            let told: Vec<bool> = dealt.collect();
            assert_eq!((told.iter().filter(|better| **better).count(), told.len()), (better, all));
        }
    }
}
