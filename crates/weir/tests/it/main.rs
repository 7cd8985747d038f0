//! The `weir` binary as its users meet it: over real sockets and as a command.
//!
//! [`scenario`] replays `tests/scenarios/*.yaml`; what needs several connections at once, or
//! another protocol, is a module of its own.

// Helpers of tests are tests too; clippy's `allow-…-in-tests` sees `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
// Tests read the environment that starts them, and wait for threads of their own.
#![allow(clippy::disallowed_methods)]

mod abandoned;
mod bodies;
mod cache;
mod checks;
mod client;
mod configuration;
mod connections;
mod delivery;
mod deploy;
mod doctor;
mod drain;
#[cfg(target_os = "linux")]
mod early;
mod fetch;
mod floods;
mod graphs;
mod grpc;
mod h2c;
mod k6;
mod keys;
mod leaving;
mod load;
mod matching;
mod metrics;
mod mlserver;
mod monitoring;
mod openai;
mod openapi;
mod output;
mod python;
mod reload;
mod remote;
mod rolling;
mod scenario;
mod scenarios;
mod schemathesis;
mod sequences;
mod server;
mod state;
mod telemetry;
mod tune;
mod v2clients;
