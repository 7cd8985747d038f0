//! What a check says.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and something will hurt.
    Warn,
    /// It will not work.
    Fail,
    /// Not looked at.
    Skip,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
            Level::Skip => "skip",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at, in a word or two.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What is there.
    pub(super) found: String,
    /// What to do about it; empty where there is nothing to do.
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), fix: String::new() }
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), fix: fix.into() }
    }

    pub(super) fn fail(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, found: found.into(), fix: fix.into() }
    }

    /// Not looked at for want of a configuration.
    pub(super) fn skip(check: &'static str) -> Self {
        let found = "not looked at: it depends on the configuration, which is wrong";
        Self { check, level: Level::Skip, found: found.to_owned(), fix: String::new() }
    }

    pub(super) fn document(&self) -> Value {
        let fix = (!self.fix.is_empty()).then_some(&self.fix);
        json!({"check": self.check, "level": self.level.name(), "found": self.found, "fix": fix})
    }
}
