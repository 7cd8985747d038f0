//! From values to places on a plot, and the values worth writing at its edge.

/// One direction of a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    /// Each power of ten takes the same room.
    Log,
    /// Of shares in `[0, 1)`: 0, 90 %, 99 %, 99.9 % take the same room.
    Nines,
}

impl Axis {
    /// From `low` to a round number at or above `high`.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = step(high - low);
        Self { low, high: low + ((high - low) / step).ceil() * step, kind: Kind::Linear }
    }

    /// From `low` to `high` exactly.
    pub(super) fn time(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, kind: Kind::Linear }
    }

    /// Around positive values, out to the next 1, 2 or 5 of a power of ten.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let low = if low.is_finite() && low > 0.0 { low } else { 1e-3 };
        let high = if high.is_finite() { high.max(low * 1.001) } else { low * 10.0 };
        let marks = marks(low.log10().floor() as i32 - 1, high.log10().ceil() as i32 + 1);
        let below = marks.iter().rev().find(|m| **m <= low).copied().unwrap_or(low);
        let above = marks.iter().find(|m| **m >= high).copied().unwrap_or(high);
        Self { low: below, high: above, kind: Kind::Log }
    }

    /// For shares up to `high`.
    pub(super) fn nines(high: f64) -> Self {
        Self { low: 0.0, high: high.clamp(0.9, 0.999_999), kind: Kind::Nines }
    }

    /// Where a value is, 0 at the low end and 1 at the high one; values beyond are at the ends.
    pub(super) fn place(&self, value: f64) -> f64 {
        let warp = |v: f64| match self.kind {
            Kind::Linear => v,
            Kind::Log => v.max(f64::MIN_POSITIVE).log10(),
            Kind::Nines => -(1.0 - v.min(self.high)).log10(),
        };
        ((warp(value) - warp(self.low)) / (warp(self.high) - warp(self.low))).clamp(0.0, 1.0)
    }

    /// Values to write, with their words.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.kind {
            Kind::Linear => {
                let step = step(self.high - self.low);
                let count = ((self.high - self.low) / step + 1e-9).floor() as usize;
                (0..=count).map(|i| self.low + i as f64 * step).map(|v| (v, number(v))).collect()
            }
            Kind::Log => {
                let range = self.low * 0.999..=self.high * 1.001;
                let all = marks(self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
                let inside: Vec<f64> = all.into_iter().filter(|m| range.contains(m)).collect();
                // Too many for the room: powers of ten alone.
                let tens = inside.len() > 11;
                let keep = |v: &f64| !tens || (v.log10() - v.log10().round()).abs() < 1e-9;
                inside.into_iter().filter(keep).map(|v| (v, number(v))).collect()
            }
            Kind::Nines => {
                let shares = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
                let inside = shares.into_iter().filter(|s| *s <= self.high + 1e-12);
                inside.map(|s| (s, format!("{}%", (s * 1e6).round() / 1e4))).collect()
            }
        }
    }
}

/// 1, 2 and 5 of each power of ten.
fn marks(from: i32, to: i32) -> Vec<f64> {
    (from..=to).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e))).collect()
}

/// A round step that cuts `span` into four to eight parts.
fn step(span: f64) -> f64 {
    let rough = (span / 6.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A value in few characters: thousands as k, millions as M.
pub(super) fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // At most three digits after the point, without zeros at the end.
    let digits = if scaled.abs() >= 100.0 { 0 } else { 3 };
    let text = format!("{scaled:.digits$}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short}{unit}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(axis: Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(words(Axis::linear(0.0, 970.0)), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!(words(Axis::time(0.0, 30.0)), ["0", "5", "10", "15", "20", "25", "30"]);
        assert_eq!(words(Axis::log(0.13, 41.0)), ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"]);
        assert_eq!(words(Axis::log(0.13, 4100.0)), ["0.1", "1", "10", "100", "1000"]);
        assert_eq!(words(Axis::nines(0.9995)), ["0%", "50%", "90%", "99%", "99.9%"]);
        assert_eq!([0.05, 12_500.0, 2e6].map(number), ["0.05", "12.5k", "2M"]);
    }

    proptest! {
        #[test]
        fn values_stay_on_the_plot_and_in_order(low in 1e-4f64..1e5, span in 0.0f64..1e6, a in 0.0f64..1.0, b in 0.0f64..1.0) {
            for axis in [Axis::linear(low, low + span), Axis::log(low, low + span), Axis::time(low, low + span)] {
                let (a, b) = (low + span * a.min(b), low + span * a.max(b));
                prop_assert!(axis.place(a) <= axis.place(b) + 1e-9);
                prop_assert!((0.0..=1.0).contains(&axis.place(a)));
                let ticks = axis.ticks();
                prop_assert!(ticks.len() <= 12, "{:?}", ticks);
            }
        }
    }
}
