//! Entities, event times, and values as features take them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_types::{DType, Scalar};

/// Longest key of an entity, in bytes.
pub const MAX_ENTITY_BYTES: usize = 256;

/// Longest string value, in bytes.
pub const MAX_STRING_BYTES: usize = 4096;

/// The key of an entity: what a row of a view is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// 1 to [`MAX_ENTITY_BYTES`] of text.
    String(Box<str>),
    /// A whole number.
    Int(i64),
}

impl From<&str> for Entity {
    fn from(key: &str) -> Self {
        Entity::String(key.into())
    }
}

impl From<i64> for Entity {
    fn from(key: i64) -> Self {
        Entity::Int(key)
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entity::String(key) => f.write_str(key),
            Entity::Int(key) => key.fmt(f),
        }
    }
}

/// When something was so: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EventTime(i64);

impl EventTime {
    /// The years 1678 to 2261: what nanoseconds in 64 bits hold, so that no arithmetic here
    /// and no client's type overflows.
    const MOST: i64 = i64::MAX / 1000;

    /// From microseconds since the epoch; `None` outside the years 1678 to 2261.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (-Self::MOST..=Self::MOST).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// How long ago at `now`; zero if it lies ahead.
    pub fn age(self, now: EventTime) -> Duration {
        Duration::from_micros(u64::try_from(now.0 - self.0).unwrap_or(0))
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(Self::MOST);
        Self(self.0.saturating_add(micros).min(Self::MOST))
    }

    pub(crate) fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(Self::MOST);
        Self(self.0.saturating_sub(micros).max(-Self::MOST))
    }
}

impl From<SystemTime> for EventTime {
    fn from(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(Self::MOST).min(Self::MOST);
        Self(time.duration_since(UNIX_EPOCH).map_or_else(|e| -micros(e.duration()), micros))
    }
}

/// `value` as `dtype` has it, or what would fit. Numbers that are equal convert (`3` and
/// `3.0`), floats round to the nearest `float32`; nothing else does: a feature feeds many
/// models, and text that looks like a number is more likely a mistake upstream.
pub(crate) fn cast(value: &Scalar, dtype: DType) -> Result<Scalar, String> {
    match (value, dtype) {
        (Scalar::Bool(b), DType::Bool) => Ok(Scalar::Bool(*b)),
        (Scalar::String(s), DType::String) if s.len() <= MAX_STRING_BYTES => Ok(Scalar::String(s.clone())),
        (Scalar::String(s), DType::String) => {
            Err(format!("has {} bytes, at most {MAX_STRING_BYTES} are kept", s.len()))
        }
        (Scalar::Int(i), _) if dtype.is_float() => to_float(*i as f64, dtype),
        (Scalar::Float(f), _) if dtype.is_float() => to_float(*f, dtype),
        (Scalar::Int(i), _) => to_int(i128::from(*i), dtype).ok_or_else(|| misfit(value, dtype)),
        (Scalar::Float(f), _) if f.fract() == 0.0 && f.abs() < 2f64.powi(63) => {
            to_int(*f as i128, dtype).ok_or_else(|| misfit(value, dtype))
        }
        _ => Err(misfit(value, dtype)),
    }
}

fn to_float(f: f64, dtype: DType) -> Result<Scalar, String> {
    let rounded = if dtype == DType::Float32 { f64::from(f as f32) } else { f };
    let finite = rounded.is_finite().then_some(Scalar::Float(rounded));
    finite.ok_or_else(|| format!("{f:?} is no finite {dtype}"))
}

fn to_int(i: i128, dtype: DType) -> Option<Scalar> {
    let (least, most) = dtype.int_bounds()?;
    (least..=most).contains(&i).then(|| i64::try_from(i).ok().map(Scalar::Int)).flatten()
}

fn misfit(value: &Scalar, dtype: DType) -> String {
    let got = match value {
        Scalar::Bool(b) => b.to_string(),
        Scalar::Int(i) => i.to_string(),
        // As `Debug` has it, with an exponent: not in up to 300 digits.
        Scalar::Float(f) => format!("{f:?}"),
        Scalar::String(_) => "a string".into(),
    };
    match dtype.int_bounds() {
        Some((least, most)) => format!("{got} is no {dtype}: send a whole number from {least} to {most}"),
        None => format!("{got} is no {dtype}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_convert_and_nothing_else_does() {
        let int = |i| Ok(Scalar::Int(i));
        assert_eq!(cast(&Scalar::Int(3), DType::Float32), Ok(Scalar::Float(3.0)));
        assert_eq!(cast(&Scalar::Float(3.0), DType::Int8), int(3));
        assert_eq!(cast(&Scalar::Float(0.1), DType::Float32), Ok(Scalar::Float(f64::from(0.1f32))));
        for (value, dtype) in [
            (Scalar::Int(128), DType::Int8),
            (Scalar::Int(-1), DType::Uint32),
            (Scalar::Float(0.5), DType::Int64),
            (Scalar::Float(9.3e18), DType::Int64),
            (Scalar::Float(f64::NAN), DType::Float64),
            (Scalar::Float(1e39), DType::Float32),
            (Scalar::String("3".into()), DType::Int64),
            (Scalar::Bool(true), DType::Float64),
            (Scalar::Int(1), DType::Bool),
            (Scalar::String("x".repeat(MAX_STRING_BYTES + 1)), DType::String),
        ] {
            assert!(cast(&value, dtype).is_err(), "{value:?} as {dtype}");
        }
        let error = cast(&Scalar::Int(300), DType::Uint8).unwrap_err();
        assert_eq!(error, "300 is no uint8: send a whole number from 0 to 255");
        let huge = |dtype| cast(&Scalar::Float(1e300), dtype).unwrap_err();
        assert_eq!(huge(DType::Int8), "1e300 is no int8: send a whole number from -128 to 127");
        assert_eq!(huge(DType::Float32), "1e300 is no finite float32");
    }

    #[test]
    fn event_times_keep_to_their_years() {
        assert_eq!(EventTime::from_micros(i64::MAX), None);
        let time = EventTime::from(UNIX_EPOCH + Duration::from_secs(3));
        assert_eq!(time.micros(), 3_000_000);
        assert_eq!(EventTime::from(UNIX_EPOCH - Duration::from_secs(3)).micros(), -3_000_000);
        assert_eq!(time.plus(Duration::MAX).micros(), EventTime::MOST);
        assert_eq!(time.age(time.minus(Duration::from_secs(1))), Duration::ZERO);
    }
}
