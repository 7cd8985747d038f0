//! Models that are fetched: archives named by address and SHA-256, kept by digest in a folder.
//!
//! What an archive is and how it is unpacked is weir-artifact's, how bytes come over a network is
//! weir-clients'; here is when, where to, and what it means for the models that serve.

mod config;
mod fetcher;
mod list;
mod not_fetched;
mod store;

pub use config::{ArchiveConfig, FetchConfig};
pub(crate) use fetcher::Bringing;
pub use fetcher::{Archives, Bring, FetchParts, Fetcher, Missing};
pub use list::FetchProblem;
pub(crate) use not_fetched::NotFetched;
