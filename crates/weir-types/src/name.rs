//! Names and versions of models.

use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

/// Longest allowed model name or version, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A model's name: `[a-z0-9][a-z0-9._-]{0,127}`, so that it is safe in a path, a URL and
/// a metric label without escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

/// A model's version: a folder name such as `3`. Numbers order numerically and above
/// all other names, so that 10 is later than 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

/// A name or version that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no valid name: 1 to 128 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit")]
pub struct NameError(String);

fn check(name: &str) -> Result<Arc<str>, NameError> {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let rest = |b: u8| first(b) || matches!(b, b'.' | b'_' | b'-');
    let valid = name.len() <= MAX_NAME_BYTES
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(rest)
        && !name.contains("..");
    if valid { Ok(name.into()) } else { Err(NameError(name.chars().take(64).collect())) }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        check(s).map(Self)
    }
}

impl FromStr for Version {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        check(s).map(Self)
    }
}

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl Default for Version {
    fn default() -> Self {
        Self("1".into())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_folder() {
        for bad in ["", ".", "..", "a/b", "a\\b", "%2e", "A", "a\0", "é", "a..b", "-a", &"a".repeat(129)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
        }
        for good in ["a", "0", "housing", "all-minilm-l6_v2.1", &"a".repeat(128)] {
            assert_eq!(good.parse::<ModelName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn versions_order_numerically_and_above_names() {
        let mut versions: Vec<Version> = ["10", "2", "beta", "01"].map(|v| v.parse().unwrap()).to_vec();
        versions.sort();
        assert_eq!(versions.iter().map(Version::as_str).collect::<Vec<_>>(), ["beta", "01", "2", "10"]);
    }
}
