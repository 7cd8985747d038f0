//! What a person points Weir at, and what comes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test says that it cannot go on

mod archive;
mod demo;
mod discovery;
mod drafts;
mod formats;
mod golden;
mod graphs;
mod hostile;
mod lookups;
mod notes;
mod sequences;
mod support;
