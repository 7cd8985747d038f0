//! Durations as people write them.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::problem::echo;

/// Units, largest first: name and nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A duration as people write it: `"500ms"`, `"10s"`, `"2m"`. A whole number and one of
/// `ns`, `us`, `ms`, `s`, `m`, `h`, `d`; a bare number is refused, because its reader
/// would have to guess the unit. At most 2^64 nanoseconds (584 years).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The `format` in the JSON Schema.
    pub(crate) const FORMAT: &str = "weir-duration";

    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nanoseconds = read(text, &UNITS).map_err(|unread| match unread {
            Unread::Form => {
                let takes = "a whole number and one of ns, us, ms, s, m, h, d, such as \"10s\"";
                format!("\"{}\" is no duration: write {takes}", echo(text))
            }
            Unread::Range => format!("\"{}\" is too long: at most 213503d", echo(text)),
        })?;
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (unit, size) = if nanoseconds == 0 { ("s", 1) } else { largest(nanoseconds, &UNITS) };
        write!(f, "{}{unit}", nanoseconds / size)
    }
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is not of the form.
    Form,
    /// It is, and more than 64 bits hold.
    Range,
}

/// A whole number followed by one of `units`, without anything else.
pub(crate) fn read(text: &str, units: &[(&str, u64)]) -> Result<u64, Unread> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '));
    let (_, size) = unit.filter(|_| digits > 0).ok_or(Unread::Form)?;
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).ok_or(Unread::Range)
}

/// The largest unit that divides `n`; units go down to 1.
pub(crate) fn largest(n: u64, units: &[(&'static str, u64)]) -> (&'static str, u64) {
    units.iter().copied().find(|(_, size)| n.is_multiple_of(*size)).unwrap_or(("", 1))
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": Self::FORMAT, "pattern": "^[0-9]+ *(ns|us|ms|s|m|h|d)$", "examples": ["10s", "500ms"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_units() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("500ms", 500_000_000),
            ("10s", 10_000_000_000),
            ("90s", 90_000_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("7us", 7_000),
            ("3ns", 3),
            ("1d", 86_400_000_000_000),
        ] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration.0, Duration::from_nanos(nanoseconds), "{text}");
            assert_eq!(duration.to_string(), text);
        }
        assert_eq!("10 s".parse(), Ok(HumanDuration::from_secs(10)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "10", "s", "-1s", "1.5s", "10sec", " 10s", "10s ", "1m30s", "99999999999d", "１s"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
        let error = "10".parse::<HumanDuration>().unwrap_err();
        assert_eq!(
            error,
            "\"10\" is no duration: write a whole number and one of ns, us, ms, s, m, h, d, such as \"10s\""
        );
    }
}
