//! The highest rate that keeps an objective, found by trying rates.

use serde::Serialize;

use crate::{result::Measured, slo::Objective};

/// Most rates that are tried. Doubling from 1 to the highest rate takes 24, halving the rest to a
/// hundredth takes 7.
const MOST_STEPS: usize = 48;

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All objectives were kept.
    Met,
    /// Not all were.
    Missed,
    /// The generator could not send as fast: nothing is known about the server.
    Unknown,
}

/// One rate that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Requests a second.
    pub rate: f64,
    /// What it found.
    pub verdict: Verdict,
    /// What was measured.
    pub measured: Measured,
}

/// What a search found.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The highest rate that was met; `None` where not even the lowest was.
    pub rate: Option<f64>,
    /// Whether a higher one was missed. If not, the server may be faster than this.
    pub bounded: bool,
    /// Every step, in order.
    pub steps: Vec<Step>,
}

impl Found {
    /// The step with the highest rate that was met.
    pub fn best(&self) -> Option<&Step> {
        let met = self.steps.iter().filter(|step| step.verdict == Verdict::Met);
        met.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }
}

/// Judges a step: by the objectives alone, unless the generator was late. A missed step of a
/// late generator is unknown; a met one is met all the same, for lateness is in the latency.
pub fn judge(objectives: &[Objective], measured: &Measured) -> Verdict {
    let met = objectives.iter().all(|objective| objective.met(measured));
    match (met, &measured.generator.bottleneck) {
        (true, _) => Verdict::Met,
        (false, None) => Verdict::Missed,
        (false, Some(_)) => Verdict::Unknown,
    }
}

/// Doubles the rate from `start` until a step is not met, then halves the interval between the
/// highest rate that was and the lowest that was not, until they are closer than `precision`
/// (a share of the rate). If `start` itself is missed, it is halved until one is met, seven times
/// at most.
///
/// `attempt` measures a rate; `told` hears of each step.
///
/// # Errors
/// Whatever `attempt` fails with.
pub fn find_max<E>(
    objectives: &[Objective],
    start: f64,
    precision: f64,
    mut attempt: impl FnMut(f64) -> Result<Measured, E>,
    mut told: impl FnMut(&Step),
) -> Result<Found, E> {
    let mut search = Search { rate: start, lowest: start / 128.0, met: None, missed: None };
    let mut steps = Vec::new();
    while steps.len() < MOST_STEPS {
        let measured = attempt(search.rate)?;
        let step = Step { rate: search.rate, verdict: judge(objectives, &measured), measured };
        told(&step);
        let verdict = step.verdict;
        steps.push(step);
        if !search.advance(verdict, precision) {
            break;
        }
    }
    let missed = steps.iter().filter(|step| step.verdict == Verdict::Missed).map(|step| step.rate);
    let bounded = missed.fold(f64::INFINITY, f64::min).is_finite()
        && search.missed.is_some_and(|(_, verdict)| verdict == Verdict::Missed);
    Ok(Found { rate: search.met, bounded, steps })
}

/// Where a search stands.
struct Search {
    rate: f64,
    /// Below it a server that keeps nothing is given up.
    lowest: f64,
    met: Option<f64>,
    /// The lowest rate that was not met, and why.
    missed: Option<(f64, Verdict)>,
}

impl Search {
    /// Takes a verdict on the current rate and sets the next; whether there is one.
    fn advance(&mut self, verdict: Verdict, precision: f64) -> bool {
        match verdict {
            Verdict::Met => self.met = Some(self.rate),
            other => self.missed = Some((self.rate, other)),
        }
        self.rate = match (self.met, self.missed) {
            (Some(met), None) => met * 2.0,
            (None, Some((missed, _))) => missed / 2.0,
            (Some(met), Some((missed, _))) if missed / met > 1.0 + precision => f64::midpoint(met, missed),
            _ => return false,
        };
        (self.lowest..=crate::schedule::MAX_RATE).contains(&self.rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::result::fake;

    const SLO: Objective = Objective::Within { share: 0.99, ms: 50.0 };

    /// A server that answers in 10 ms up to `capacity`, and above it answers what it can and
    /// refuses the rest.
    fn server(capacity: f64, rate: f64) -> Measured {
        let ok = (capacity / rate).min(1.0);
        fake((ok * 1000.0).round() as u64, 10, ((1.0 - ok) * 1000.0).round() as u64, 1)
    }

    fn search(capacity: f64, start: f64, precision: f64) -> Found {
        find_max(&[SLO], start, precision, |rate| Ok::<_, ()>(server(capacity, rate)), |_| {}).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_capacity_is_found_from_any_start(
            capacity in 1.0f64..1e6, below in 0.001f64..100.0, precision in 0.01f64..0.2,
        ) {
            let found = search(capacity, capacity * below, precision);
            let rate = found.rate.unwrap();
            // 99 in 100 must be answered: capacity / 0.99 is the truth.
            let truth = capacity / 0.99;
            prop_assert!(rate <= truth * 1.002 && rate >= truth / (1.0 + precision) * 0.998, "{rate} of {truth}");
            prop_assert!(found.bounded && found.steps.len() <= MOST_STEPS);
        }
    }

    #[test]
    fn a_server_that_keeps_nothing_is_given_up() {
        let found = find_max(&[SLO], 100.0, 0.05, |_| Ok::<_, ()>(fake(0, 1, 10, 1)), |_| {}).unwrap();
        assert_eq!(found.rate, None);
        assert_eq!(found.steps.last().map(|step| step.rate), Some(100.0 / 128.0));
    }

    #[test]
    fn a_generator_that_cannot_keep_up_bounds_nothing() {
        let attempt = |rate: f64| {
            let mut measured = server(1e9, rate);
            if rate > 1000.0 {
                measured = fake(1000, 500, 0, 1);
                measured.generator.bottleneck = Some("late".into());
            }
            Ok::<_, ()>(measured)
        };
        let found = find_max(&[SLO], 100.0, 0.05, attempt, |_| {}).unwrap();
        assert!(!found.bounded);
        assert!((950.0..=1000.0).contains(&found.rate.unwrap()), "{:?}", found.rate);
    }

    #[test]
    fn every_step_is_told_once_and_in_order() {
        let mut told = Vec::new();
        let found =
            find_max(&[SLO], 100.0, 0.5, |rate| Ok::<_, ()>(server(300.0, rate)), |s| told.push(s.rate))
                .unwrap();
        assert_eq!(told, [100.0, 200.0, 400.0, 300.0]);
        assert_eq!(found.steps.len(), 4);
    }

    #[test]
    fn what_fails_ends_the_search() {
        assert_eq!(find_max(&[SLO], 1.0, 0.1, |_| Err("gone"), |_| {}).unwrap_err(), "gone");
    }
}
