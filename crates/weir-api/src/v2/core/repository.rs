//! The repository index: each version there is, and why one cannot answer.

use weir_serving::ServingSnapshot;
use weir_types::{Error, ErrorCode};

use super::cut;

/// What Triton's clients say when they unload. It changes nothing: no model depends on another.
pub(crate) const UNLOAD_PARAMETERS: [&str; 1] = ["unload_dependents"];

/// One version in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepositoryEntry {
    /// The model.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: String,
    /// `READY` or `UNAVAILABLE`.
    pub(crate) state: &'static str,
    /// Why the last load of it failed; empty otherwise. A version that is `READY` with a
    /// reason is the one from before, which serves on.
    pub(crate) reason: String,
}

/// Every version in `snapshot` by name and version; only those that can answer if
/// `ready_only`.
pub(crate) fn repository_index(snapshot: &ServingSnapshot, ready_only: bool) -> Vec<RepositoryEntry> {
    let versions = snapshot.models().flat_map(|(_, model)| model.versions());
    let mut entries: Vec<RepositoryEntry> = versions
        .map(|v| RepositoryEntry {
            name: v.spec.name.to_string(),
            version: v.spec.version.to_string(),
            state: "READY",
            reason: String::new(),
        })
        .collect();
    for failure in snapshot.failures() {
        let version = failure.version.as_ref().map(ToString::to_string).unwrap_or_default();
        let serving = entries.iter_mut().find(|e| e.name == failure.model && e.version == version);
        let reason = failure.reason.public().to_owned();
        match serving {
            Some(entry) => entry.reason = reason,
            None if ready_only => {}
            None => entries.push(RepositoryEntry {
                name: failure.model.clone(),
                version,
                state: "UNAVAILABLE",
                reason,
            }),
        }
    }
    // Stable: the versions of a model stay in their own order, those that failed behind them.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// Refuses parameters of an order about the repository, such as a configuration or files of the
/// client's, but for those that change nothing.
///
/// # Errors
/// `Unsupported`, naming the first that is not `harmless`.
pub(crate) fn refuse_parameters<'p>(
    order: &str,
    mut parameters: impl Iterator<Item = &'p str>,
    harmless: &[&str],
) -> Result<(), Error> {
    match parameters.find(|name| !harmless.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!("{order} takes no parameter `{}`: models are loaded from disk", cut(name));
            Err(Error::new(ErrorCode::Unsupported, text))
        }
    }
}
