//! The pools against hyper's own server, and Redis against `redis-server`, over real sockets.

// Helpers of tests fail tests: clippy's allowance covers `#[test]` functions only.
#![allow(clippy::unwrap_used)]

mod calls;
mod download;
mod redis;
mod server;
