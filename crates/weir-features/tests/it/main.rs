//! Stores, features, aggregates and idempotency keys, as the crates above use them.

mod aggregates;
mod contract;
mod durable;
mod features;
mod idempotency;
mod support;
