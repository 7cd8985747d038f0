//! What is asked of a server: objectives for a search, thresholds for a check in CI.

use std::{str::FromStr, time::Duration};

use serde::Serialize;

use crate::{outcome::Outcome, result::Measured};

/// What a rate must keep to count as kept up with.
///
/// `p99=50ms` means: of all requests that were due, 99 in 100 were answered rightly within
/// 50 ms. Refusals, errors and requests that were never sent count as slower than any bound, so
/// that a server cannot meet an objective by turning callers away.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// This share of all requests, answered rightly within so many milliseconds.
    Within {
        /// In `(0, 1)`.
        share: f64,
        /// Milliseconds.
        ms: f64,
    },
    /// This share of all requests, answered rightly within the deadline.
    Goodput {
        /// In `(0, 1]`.
        share: f64,
    },
}

impl Objective {
    /// Whether `measured` keeps it.
    pub fn met(&self, measured: &Measured) -> bool {
        measured.requests > 0
            && match self {
                Self::Within { share, ms } => measured.within(*ms) >= *share,
                Self::Goodput { share } => measured.goodput >= *share,
            }
    }

    /// Requests without which it cannot be judged: ten beyond the quantile.
    pub fn samples(&self) -> u64 {
        let (Self::Within { share, .. } | Self::Goodput { share }) = self;
        (10.0 / (1.0 - share).max(1e-5)).ceil() as u64
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no objective: write p99=50ms, p99.9=0.2s or goodput=99%");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let (name, value) = (name.trim(), value.trim());
        if name == "goodput" {
            let share = percent(value).filter(|s| *s > 0.0 && *s <= 1.0).ok_or_else(wrong)?;
            return Ok(Self::Goodput { share });
        }
        let quantile = name.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
        let share = quantile.map(|q| q / 100.0).filter(|q| *q > 0.0 && *q < 1.0).ok_or_else(wrong)?;
        let ms = milliseconds(value).filter(|ms| *ms > 0.0).ok_or_else(wrong)?;
        Ok(Self::Within { share, ms })
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Percentages are typed with a few digits; products of floats have more.
        let percent = |share: f64| (share * 1e6).round() / 1e4;
        match self {
            Self::Within { share, ms } => write!(f, "p{}={ms}ms", percent(*share)),
            Self::Goodput { share } => write!(f, "goodput={}%", percent(*share)),
        }
    }
}

/// `50ms`, `1.5s`, `200us`, as milliseconds.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("ms", 1.0), ("us", 1e-3), ("s", 1e3)];
    let (number, factor) = units.iter().find_map(|(unit, f)| Some((text.strip_suffix(unit)?, f)))?;
    number.trim().parse::<f64>().ok().map(|n| n * factor).filter(|n| n.is_finite() && *n >= 0.0)
}

/// `99%` or `0.99`, as a share.
fn percent(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(number) => number.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse::<f64>().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// What must not be: `p99>50ms`, `errors>1%`, `goodput<99%`, `wrong>0`, `rate<900`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    metric: Metric,
    above: bool,
    limit: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    /// A percentile of right answers, milliseconds.
    Latency(Which),
    /// Shares of requests.
    Goodput,
    Errors,
    Refused,
    /// Wrong answers, a count.
    Wrong,
    /// Right answers a second.
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    P50,
    P90,
    P95,
    P99,
    P999,
    Max,
    Mean,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is no threshold: write p50, p90, p95, p99, p99.9, max, mean, goodput, errors, refused, \
                 wrong or rate, < or >, and a value with its unit, such as 'p99>50ms' or 'errors>1%'"
            )
        };
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (name, rest) = text.split_at(at);
        let value = rest.get(1..).unwrap_or_default().trim();
        let metric = Metric::named(name.trim()).ok_or_else(wrong)?;
        let limit = metric.limit(value).ok_or_else(wrong)?;
        Ok(Self { metric, above: rest.starts_with('>'), limit, text: text.trim().to_owned() })
    }
}

impl Metric {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "p50" => Self::Latency(Which::P50),
            "p90" => Self::Latency(Which::P90),
            "p95" => Self::Latency(Which::P95),
            "p99" => Self::Latency(Which::P99),
            "p99.9" => Self::Latency(Which::P999),
            "max" => Self::Latency(Which::Max),
            "mean" => Self::Latency(Which::Mean),
            "goodput" => Self::Goodput,
            "errors" => Self::Errors,
            "refused" => Self::Refused,
            "wrong" => Self::Wrong,
            "rate" => Self::Rate,
            _ => return None,
        })
    }

    fn limit(self, text: &str) -> Option<f64> {
        match self {
            Self::Latency(_) => milliseconds(text),
            Self::Goodput | Self::Errors | Self::Refused => percent(text),
            Self::Wrong | Self::Rate => text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0),
        }
    }

    fn of(self, measured: &Measured) -> f64 {
        let latency = &measured.latency;
        match self {
            Self::Latency(Which::P50) => latency.p50_ms,
            Self::Latency(Which::P90) => latency.p90_ms,
            Self::Latency(Which::P95) => latency.p95_ms,
            Self::Latency(Which::P99) => latency.p99_ms,
            Self::Latency(Which::P999) => latency.p999_ms,
            Self::Latency(Which::Max) => latency.max_ms,
            Self::Latency(Which::Mean) => latency.mean_ms,
            Self::Goodput => measured.goodput,
            Self::Errors => 1.0 - measured.share(Outcome::Ok) - measured.share(Outcome::Refused),
            Self::Refused => measured.share(Outcome::Refused),
            Self::Wrong => measured.count(Outcome::Wrong) as f64,
            Self::Rate => measured.ok_per_s,
        }
    }

    fn told(self, value: f64) -> String {
        match self {
            Self::Latency(_) => format!("{value:.3} ms"),
            Self::Goodput | Self::Errors | Self::Refused => format!("{:.2} %", value * 100.0),
            Self::Wrong | Self::Rate => format!("{value:.1}"),
        }
    }
}

impl Threshold {
    /// What is crossed, in words; `None` where all is well. A latency of no right answer at all
    /// crosses every bound above.
    pub fn crossed(&self, measured: &Measured) -> Option<String> {
        let value = self.metric.of(measured);
        let none = matches!(self.metric, Metric::Latency(_)) && measured.latency.count == 0;
        if none {
            return Some(format!("{}: there was no right answer", self.text));
        }
        let crossed = if self.above { value > self.limit } else { value < self.limit };
        crossed.then(|| format!("{}: it is {}", self.text, self.metric.told(value)))
    }

    /// The deadline that a share of good answers is about.
    pub fn needs_deadline(&self) -> bool {
        self.metric == Metric::Goodput
    }
}

impl Objective {
    /// Whether it is about the deadline.
    pub fn needs_deadline(&self) -> bool {
        matches!(self, Self::Goodput { .. })
    }

    /// The bound on latency, if it is one.
    pub fn bound(&self) -> Option<Duration> {
        match self {
            Self::Within { ms, .. } => Some(Duration::from_secs_f64(ms / 1e3)),
            Self::Goodput { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::fake;

    #[test]
    fn objectives_are_read_and_written() {
        for (text, objective) in [
            ("p99=50ms", Objective::Within { share: 0.99, ms: 50.0 }),
            ("p99.9=0.2s", Objective::Within { share: 0.9990000000000001, ms: 200.0 }),
            ("goodput=99.5%", Objective::Goodput { share: 0.995 }),
        ] {
            assert_eq!(text.parse(), Ok(objective));
        }
        assert_eq!("p99.9=200us".parse::<Objective>().unwrap().to_string(), "p99.9=0.2ms");
        assert_eq!("p99=50ms".parse::<Objective>().unwrap().samples(), 1000);
        for bad in [
            "",
            "p99",
            "p100=1ms",
            "p0=1ms",
            "p99=50",
            "p99=-1ms",
            "goodput=101%",
            "goodput=0",
            "x=1ms",
            "p99=NaNms",
        ] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
    }

    #[test]
    fn turning_callers_away_meets_no_objective() {
        // 900 answers of 10 ms, 100 refusals of 1 ms.
        let measured = fake(900, 10, 100, 1);
        let met = |text: &str| text.parse::<Objective>().unwrap().met(&measured);
        assert!(met("p50=10.1ms") && met("p90=10.1ms") && met("goodput=90%"));
        assert!(!met("p95=10.1ms") && !met("p50=9ms") && !met("goodput=91%"));
    }

    #[test]
    fn thresholds_are_crossed_or_not() {
        let measured = fake(900, 10, 100, 1);
        let crossed = |text: &str| text.parse::<Threshold>().unwrap().crossed(&measured);
        for well in [
            "p99>11ms",
            "p99.9>0.1s",
            "refused>10%",
            "errors>0%",
            "wrong>0",
            "rate<90",
            "goodput<90%",
            "max < 9ms",
        ] {
            assert_eq!(crossed(well), None, "{well}");
        }
        assert_eq!(crossed("p99>9ms").unwrap().split(':').next(), Some("p99>9ms"));
        for bad in ["mean>9.9ms", "refused>9%", "rate<91", "goodput<0.95", "max>1ms"] {
            assert!(crossed(bad).is_some(), "{bad}");
        }
        assert!("p99>1s".parse::<Threshold>().unwrap().crossed(&fake(0, 1, 5, 1)).is_some());
    }

    #[test]
    fn what_is_no_threshold_is_told_with_what_is() {
        for bad in ["", "p99", "p98>1ms", "p99>50", "errors>200%", "wrong>x", "rate<-1", "p99>", ">1ms"] {
            assert!(bad.parse::<Threshold>().unwrap_err().contains("p99>50ms"), "{bad}");
        }
    }
}
