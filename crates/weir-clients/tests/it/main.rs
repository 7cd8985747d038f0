//! The pools against hyper's own server, over real sockets.

// Helpers of tests fail tests: clippy's allowance covers `#[test]` functions only.
#![allow(clippy::unwrap_used)]

mod calls;
mod server;
