//! What a request wants of the cache, and what the cache did for it.

use std::time::Duration;

use weir_artifact::CacheDefault;
use weir_types::{Error, ErrorCode};

/// What a request wants of the cache: the directives of `Cache-Control` in requests (RFC 9111,
/// section 5.2.1) that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum CacheMode {
    /// Stored answers are given, new ones are stored.
    #[default]
    Use,
    /// `no-cache`: every row is computed, and stored.
    NoCache,
    /// `no-store`: every row is computed, and none is stored.
    NoStore,
    /// `only-if-cached`: nothing is computed; a row that is not there is an error of
    /// [`ErrorCode::NotCached`].
    OnlyIfCached,
}

impl From<CacheDefault> for CacheMode {
    fn from(default: CacheDefault) -> Self {
        match default {
            CacheDefault::Use => CacheMode::Use,
            CacheDefault::NoCache => CacheMode::NoCache,
            CacheDefault::NoStore => CacheMode::NoStore,
            CacheDefault::OnlyIfCached => CacheMode::OnlyIfCached,
        }
    }
}

/// What a request says of the cache. Where it says nothing, the model's `[cache] default` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheControl {
    /// What it wants; `None` where it says nothing of that.
    pub mode: Option<CacheMode>,
    /// Greatest age of a stored answer that it takes (`max-age`, RFC 9111 section 5.2.1.1).
    pub max_age: Option<Duration>,
}

impl From<CacheMode> for CacheControl {
    fn from(mode: CacheMode) -> Self {
        Self { mode: Some(mode), max_age: None }
    }
}

impl CacheControl {
    /// What it comes to for a model with this default. Who says how old an answer may be asks for
    /// stored ones.
    pub(crate) fn mode(self, default: CacheMode) -> CacheMode {
        self.mode.unwrap_or(if self.max_age.is_some() { CacheMode::Use } else { default })
    }

    /// What a model is asked with that another one is made of. What is only to be given if it
    /// is stored never gets that far.
    pub(crate) fn inherited(self) -> Self {
        let mode = self.mode.map(|mode| match mode {
            CacheMode::OnlyIfCached => CacheMode::Use,
            mode => mode,
        });
        Self { mode, ..self }
    }
}

/// What the cache did for one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOutcome {
    /// Rows that were stored already.
    pub hits: usize,
    /// Rows of the request.
    pub rows: usize,
    /// Age of the oldest of those that were; `None` without one.
    pub age: Option<Duration>,
}

impl CacheOutcome {
    /// The same in one word.
    pub fn verdict(&self) -> CacheVerdict {
        match self.hits {
            0 => CacheVerdict::Miss,
            hits if hits >= self.rows => CacheVerdict::Hit,
            _ => CacheVerdict::Partial,
        }
    }
}

/// Whether an answer came from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheVerdict {
    /// All of it.
    Hit,
    /// Some rows of it.
    Partial,
    /// Nothing of it.
    Miss,
}

impl CacheVerdict {
    /// The word that headers and metrics carry.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheVerdict::Hit => "hit",
            CacheVerdict::Partial => "partial",
            CacheVerdict::Miss => "miss",
        }
    }
}

/// The answer to `only-if-cached` where something would have to be computed.
pub(crate) fn not_cached() -> Error {
    let text = "the answer is not stored, and `only-if-cached` forbids to compute it";
    Error::new(ErrorCode::NotCached, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_hit_with_all_its_rows_only() {
        let verdict = |hits| CacheOutcome { hits, rows: 3, age: None }.verdict();
        assert_eq!([0, 1, 3].map(verdict), [CacheVerdict::Miss, CacheVerdict::Partial, CacheVerdict::Hit]);
    }
}
