//! When requests are due: stages of constant or ramping rate, arrivals even or Poisson.

use std::{str::FromStr, time::Duration};

use serde::Serialize;
use weir_config::HumanDuration;

use crate::rng::Rng;

/// Highest rate, requests a second.
pub(crate) const MAX_RATE: f64 = 10_000_000.0;
/// Longest schedule.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(7 * 86_400);

/// A stretch of time and the rate at its start and at its end, requests a second; between
/// them the rate is linear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stage {
    /// How long, seconds.
    pub seconds: f64,
    /// Rate at the start.
    pub from: f64,
    /// Rate at the end.
    pub to: f64,
}

impl Stage {
    /// A stretch of one rate.
    pub fn constant(duration: Duration, rate: f64) -> Self {
        Self { seconds: duration.as_secs_f64(), from: rate, to: rate }
    }

    /// How many requests are due in it, on average.
    pub fn requests(&self) -> f64 {
        self.seconds * (self.from + self.to) / 2.0
    }

    /// The moment by which `count` requests are due, seconds from the stage's start: the inverse
    /// of `from·t + (to−from)/(2·seconds)·t²`, in the form that does not cancel for flat ramps.
    fn moment(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        let sum = self.from + root;
        if sum <= 0.0 { self.seconds } else { (2.0 * count / sum).min(self.seconds) }
    }
}

impl FromStr for Stage {
    type Err = String;

    /// `30s@1000`, or `30s@100..1000` for a ramp.
    fn from_str(text: &str) -> Result<Self, String> {
        let (duration, rates) = text
            .split_once('@')
            .ok_or_else(|| format!("\"{text}\" is no stage: write 30s@1000, or 30s@100..1000 for a ramp"))?;
        let duration: HumanDuration = duration.trim().parse()?;
        let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
        let stage =
            Self { seconds: duration.get().as_secs_f64(), from: parse_rate(from)?, to: parse_rate(to)? };
        if duration.get().is_zero() || duration.get() > MAX_DURATION {
            return Err(format!("\"{text}\": a stage takes more than nothing and at most 7 days"));
        }
        if stage.from.max(stage.to) <= 0.0 {
            return Err(format!("\"{text}\": a stage needs a rate above 0"));
        }
        Ok(stage)
    }
}

/// A rate in requests a second, `0.5` to 10 million; `k` for thousands.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (digits, factor) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1000.0),
        None => (text, 1.0),
    };
    let rate = digits.parse::<f64>().map(|rate| rate * factor).ok();
    rate.filter(|rate| (0.0..=MAX_RATE).contains(rate))
        .ok_or_else(|| format!("\"{text}\" is no rate: write requests a second, such as 500, 0.5 or 20k"))
}

/// Stages in a row, as `10s@100,30s@1000`.
///
/// # Errors
/// What is wrong with each stage.
pub fn parse_stages(text: &str) -> Result<Vec<Stage>, String> {
    let (good, bad): (Vec<_>, Vec<_>) =
        text.split(',').map(|stage| stage.trim().parse::<Stage>()).partition(Result::is_ok);
    let problems: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    let stages: Vec<Stage> = good.into_iter().filter_map(Result::ok).collect();
    let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
    match problems.is_empty() {
        false => Err(problems.join("; ")),
        true if total > MAX_DURATION.as_secs_f64() => Err("all stages together take at most 7 days".into()),
        true => Ok(stages),
    }
}

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Evenly: each the same time after the one before.
    Constant,
    /// As independent callers come: exponential gaps. Bursts are part of it.
    Poisson,
}

/// The moments at which requests are due, in order.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    stages: Vec<Stage>,
    at: usize,
    /// Seconds before stage `at`, and requests that were due before it.
    elapsed: f64,
    counted: f64,
    /// The next request's place in expected requests: even steps of 1, or exponential ones.
    place: f64,
    poisson: Option<Rng>,
}

impl Arrivals {
    /// The arrivals of `stages`; the same seed gives the same ones.
    pub(crate) fn new(stages: &[Stage], spread: Spread, seed: u64) -> Self {
        let mut poisson = (spread == Spread::Poisson).then(|| Rng::new(seed, 0xA11));
        let place = poisson.as_mut().map_or(0.0, Rng::exponential);
        Self { stages: stages.to_vec(), at: 0, elapsed: 0.0, counted: 0.0, place, poisson }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    /// Time is warped, not thinned: unit-rate arrivals are mapped through the inverse of the
    /// expected count, which is exact for ramps too (Çinlar 1975, non-homogeneous Poisson).
    fn next(&mut self) -> Option<Duration> {
        loop {
            let stage = self.stages.get(self.at)?;
            let inside = self.place - self.counted;
            if inside < stage.requests() {
                let moment = self.elapsed + stage.moment(inside);
                self.place += self.poisson.as_mut().map_or(1.0, Rng::exponential);
                return Some(Duration::from_secs_f64(moment));
            }
            self.elapsed += stage.seconds;
            self.counted += stage.requests();
            self.at += 1;
        }
    }
}

/// How long all stages take.
pub(crate) fn total(stages: &[Stage]) -> Duration {
    Duration::from_secs_f64(stages.iter().map(|stage| stage.seconds).sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stage(seconds: f64, from: f64, to: f64) -> Stage {
        Stage { seconds, from, to }
    }

    fn arrivals(stages: &[Stage], spread: Spread) -> Vec<f64> {
        Arrivals::new(stages, spread, 3).map(|t| t.as_secs_f64()).collect()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_from_the_start() {
        let moments = arrivals(&[stage(1.0, 4.0, 4.0)], Spread::Constant);
        assert_eq!(moments, [0.0, 0.25, 0.5, 0.75]);
    }

    #[test]
    fn a_ramp_has_half_of_its_requests_after_seven_tenths() {
        let moments = arrivals(&[stage(10.0, 0.0, 200.0)], Spread::Constant);
        assert_eq!(moments.len(), 1000);
        assert!((moments[500] - 10.0 * 0.5f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let moments = arrivals(&[stage(1000.0, 50.0, 50.0)], Spread::Poisson);
        let gaps: Vec<f64> = moments.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.02).abs() < 0.0005, "{mean}");
        // Of an exponential the deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{}", variance.sqrt() / mean);
    }

    #[test]
    fn stages_are_read_and_every_mistake_is_told() {
        let read = parse_stages("10s@100, 30s@0.1k..1000").unwrap();
        assert_eq!(read, [stage(10.0, 100.0, 100.0), stage(30.0, 100.0, 1000.0)]);
        let told = parse_stages("10@5,3s,2s@x,1s@0").unwrap_err();
        for part in ["\"10\"", "\"3s\"", "\"x\"", "above 0"] {
            assert!(told.contains(part), "{told}");
        }
        for bad in ["", "1s@-1", "1s@NaN", "1s@inf", "0s@1", "8d@1", "4d@1,4d@1", "1s@1..", "1s@99999k"] {
            assert!(parse_stages(bad).is_err(), "{bad}");
        }
    }

    fn any_stage() -> impl Strategy<Value = Stage> {
        (0.001f64..20.0, 0.0f64..500.0, 0.0f64..500.0)
            .prop_filter("a rate", |(_, from, to)| from.max(*to) > 0.01)
            .prop_map(|(seconds, from, to)| stage(seconds, from, to))
    }

    proptest! {
        /// However the stages are, moments never go back, stay within their time, and are as many
        /// as the rates say, up to any moment: the count against the integral.
        #[test]
        fn the_count_up_to_any_moment_is_the_integral_of_the_rate(
            stages in proptest::collection::vec(any_stage(), 1..6),
            share in 0.0f64..1.0,
        ) {
            let moments = arrivals(&stages, Spread::Constant);
            prop_assert!(moments.windows(2).all(|w| w[0] <= w[1]));
            let whole = total(&stages).as_secs_f64();
            prop_assert!(moments.iter().all(|m| *m <= whole + 1e-6));
            let until = whole * share;
            let (mut due, mut before) = (0.0, 0.0);
            for s in &stages {
                let inside = (until - before).clamp(0.0, s.seconds);
                due += s.from * inside + (s.to - s.from) / s.seconds * inside * inside / 2.0;
                before += s.seconds;
            }
            let counted = moments.iter().filter(|m| **m < until).count() as f64;
            prop_assert!((counted - due).abs() <= 1.001, "{counted} {due}");
        }

        #[test]
        fn poisson_moments_never_go_back(
            stages in proptest::collection::vec(any_stage(), 1..4), seed in any::<u64>(),
        ) {
            let moments: Vec<_> = Arrivals::new(&stages, Spread::Poisson, seed).collect();
            prop_assert!(moments.windows(2).all(|w| w[0] <= w[1]));
            let again: Vec<_> = Arrivals::new(&stages, Spread::Poisson, seed).collect();
            prop_assert_eq!(moments, again);
        }
    }
}
