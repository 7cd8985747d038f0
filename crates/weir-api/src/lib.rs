//! The HTTP faces.

pub mod config;
pub mod docs;
pub mod openapi;
pub mod operation;
