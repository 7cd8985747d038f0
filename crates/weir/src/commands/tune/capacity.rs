//! The highest rate that one setting keeps, in few measurements.
//!
//! `weir load --find-max` doubles from far below, for it knows nothing of the server. Here the rate of
//! another setting is known, which is a good guess, and of a setting that cannot win it is of no
//! interest how badly it loses.

/// Most rates that are tried of one setting.
const MOST_STEPS: usize = 16;
/// How close the answer is, as a share of the rate.
pub(super) const PRECISION: f64 = 0.05;

/// Where to look, and how far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    /// The first rate, requests a second.
    pub(super) start: f64,
    /// A rate that is not kept is followed by one so many times lower, one that is by a higher one.
    pub(super) factor: f64,
    /// A setting that does not keep this is of no interest.
    pub(super) beat: Option<f64>,
}

/// The highest rate that `keeps` holds of, to [`PRECISION`]; `None` where none was found that is.
///
/// # Errors
/// Whatever `keeps` fails with.
pub(super) fn capacity<E>(
    range: Range,
    mut keeps: impl FnMut(f64) -> Result<bool, E>,
) -> Result<Option<f64>, E> {
    let (mut rate, mut kept, mut missed) = (range.start, None, None);
    for step in 1..=MOST_STEPS {
        let side = if keeps(rate)? { &mut kept } else { &mut missed };
        *side = Some(rate);
        // One lower rate of a setting that loses, so that there is something to show.
        let lost = missed.zip(range.beat).is_some_and(|(missed, beat)| missed <= beat * (1.0 + PRECISION));
        if lost && (kept.is_some() || step > 1) {
            break;
        }
        rate = match (kept, missed) {
            (Some(kept), Some(missed)) if missed / kept <= 1.0 + PRECISION => break,
            (Some(kept), Some(missed)) => f64::sqrt(kept * missed),
            (Some(kept), None) => kept * range.factor,
            (None, Some(missed)) => missed / range.factor,
            (None, None) => break,
        };
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The answer for a server of capacity `truth`, and how many rates were tried.
    fn found(range: Range, truth: f64) -> (Option<f64>, usize) {
        let mut steps = 0;
        let keeps = |rate| {
            steps += 1;
            Ok::<_, ()>(rate <= truth)
        };
        let rate = capacity(range, keeps).unwrap();
        (rate, steps)
    }

    proptest! {
        #[test]
        fn the_capacity_is_found_from_a_guess(truth in 1.0f64..1e5, off in 0.05f64..20.0, factor in 1.1f64..2.0) {
            let (rate, steps) = found(Range { start: truth * off, factor, beat: None }, truth);
            prop_assert!(steps <= MOST_STEPS);
            // A poor guess with small strides may end early, but never above the truth.
            if let Some(rate) = rate {
                prop_assert!(rate <= truth);
                prop_assert!(steps == MOST_STEPS || rate >= truth / (1.0 + PRECISION) * 0.999, "{rate} of {truth}");
            }
            prop_assert!(rate.is_some() || factor.powi(MOST_STEPS as i32) < off * factor);
        }

        #[test]
        fn a_setting_that_loses_costs_two_measurements(beat in 1.0f64..1e5, share in 0.01f64..0.99) {
            let (rate, steps) = found(Range { start: beat, factor: 1.5, beat: Some(beat) }, beat * share);
            prop_assert!(steps == 2 && rate.is_none_or(|rate| rate < beat));
        }

        #[test]
        fn one_that_wins_is_measured_to_the_end(beat in 1.0f64..1e5, more in 1.06f64..10.0) {
            let (rate, _) = found(Range { start: beat, factor: 1.5, beat: Some(beat) }, beat * more);
            prop_assert!(rate.unwrap() >= beat * more / (1.0 + PRECISION) * 0.999);
        }
    }

    #[test]
    fn what_fails_ends_it() {
        let range = Range { start: 1.0, factor: 2.0, beat: None };
        assert_eq!(capacity(range, |_| Err("gone")), Err("gone"));
    }
}
