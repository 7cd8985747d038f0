//! What an operator is told about a file, word for word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test says that it cannot go on

mod golden;
mod layers;
mod overrides;
mod shape;
mod template;
