//! Behaviour of weir-serving with real models on disk.

// Helpers of tests fail tests: clippy's allowance covers `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod features;
mod fetches;
mod graphs;
mod life;
mod reloads;
mod remote;
mod support;
