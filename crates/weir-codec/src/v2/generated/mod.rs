//! Messages of the protocol over gRPC, made from `crates/weir-api/proto` by
//! `cargo xtask codegen`.

// The .proto files are the documentation; prost writes what it writes.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

/// The Open Inference Protocol.
pub mod inference;
