//! Stores, features, aggregates and idempotency keys, as the crates above use them.

// Helpers of tests fail tests: clippy's allowance covers `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod aggregates;
mod contract;
mod durable;
mod features;
mod idempotency;
mod support;
