//! Forgetting on demand.

use weir_types::{ModelName, Version};

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PurgeScope {
    /// All versions of a model.
    Model(ModelName),
    /// One version of a model.
    Version(ModelName, Version),
    /// All models whose `[cache] tags` have this one.
    Tag(String),
}

/// What a purge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Entries that left this process's memory.
    pub memory: u64,
    /// Entries that left Redis; `None` without one. The text says why they could not be reached.
    pub redis: Option<Result<u64, String>>,
}
