//! The Open Inference Protocol V2: [`core`] without a transport, and REST over it.
//!
//! Specification: <https://github.com/kserve/open-inference-protocol> and Triton's
//! `docs/protocol/extension_*.md`. What differs is in `docs/reference/v2.md`.

pub mod bodies;
pub(crate) mod core;
mod json;
pub(crate) mod rest;
