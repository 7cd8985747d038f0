//! Models that are fetched: archives named by address and SHA-256, kept by digest in a folder.

mod config;

pub use config::{ArchiveConfig, FetchConfig};
