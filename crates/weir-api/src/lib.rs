//! The HTTP faces.

pub mod config;
pub mod operation;
