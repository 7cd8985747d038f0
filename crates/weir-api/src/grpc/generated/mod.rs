//! Messages of the protocols, made from `crates/weir-api/proto` by `cargo xtask codegen`.

// The .proto files are the documentation; prost writes what it writes.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

/// `grpc.health.v1`.
pub mod health;
/// The Open Inference Protocol: a client of it needs the same messages.
pub use weir_codec::v2::inference;
/// `grpc.reflection.v1`, whose messages are those of v1alpha too.
pub mod reflection;

/// Every file as a serialised `google.protobuf.FileDescriptorSet`, without comments.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");
