//! Integration tests of the engines, one binary.

// Helpers of tests are tests too; clippy's `allow-…-in-tests` sees `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod formats;
mod native;
mod ort;
mod runtimes;
mod select;
mod sentiment;
mod sequences;
mod support;
mod text;
