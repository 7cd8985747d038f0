//! The report as a page.

use std::time::SystemTime;

use crate::{find::Found, machine::Machine, result::Measured};

/// What a reader has to know beside the figures.
#[derive(Debug, Clone)]
pub struct About {
    /// The command, to be run again.
    pub command: String,
    /// Weir's version.
    pub version: String,
    /// Where the load was generated.
    pub machine: Machine,
    /// Who was asked for what.
    pub target: String,
    /// What was sent and checked.
    pub notes: Vec<String>,
    /// When.
    pub written: SystemTime,
}

/// The page.
pub fn page(_about: &About, _measured: &Measured, _found: Option<&Found>) -> String {
    String::new()
}
