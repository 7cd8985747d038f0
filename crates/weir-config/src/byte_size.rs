//! Sizes as people write them.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    duration::{Unread, largest, read},
    problem::echo,
};

/// Units, largest first. Only powers of two (IEC 80000-13): "MB" means 10^6 to some and
/// 2^20 to others, and a limit must not depend on who reads it.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes as people write it: `"64KiB"`, `"16MiB"`. A whole number and one of
/// `B`, `KiB`, `MiB`, `GiB`, `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The `format` in the JSON Schema.
    pub(crate) const FORMAT: &str = "weir-byte-size";

    /// Kibibytes (2^10).
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// Mebibytes (2^20).
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes as a length in memory, the largest there is if it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text, &UNITS).map(Self).map_err(|unread| match unread {
            Unread::Form => {
                let takes = "a whole number and one of B, KiB, MiB, GiB, TiB, such as \"16MiB\"";
                format!("\"{}\" is no size: write {takes}", echo(text))
            }
            Unread::Range => format!("\"{}\" is too large: at most 16777215TiB", echo(text)),
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = if self.0 == 0 { ("B", 1) } else { largest(self.0, &UNITS) };
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": Self::FORMAT, "pattern": "^[0-9]+ *([KMGT]i)?B$", "examples": ["64KiB", "16MiB"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_units() {
        for (text, bytes) in [
            ("0B", 0),
            ("1B", 1),
            ("1000B", 1000),
            ("64KiB", 65_536),
            ("16MiB", 16_777_216),
            ("3GiB", 3 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!("16 MiB".parse(), Ok(ByteSize::mib(16)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "16", "MiB", "16MB", "16mib", "-1B", "1.5MiB", "16777216TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_largest_is_told_where_one_is_larger() {
        assert!("16777215TiB".parse::<ByteSize>().is_ok());
        for text in ["16777216TiB", "99999999999999999999B", "99999999999TiB"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(error, format!("\"{text}\" is too large: at most 16777215TiB"));
        }
    }
}
