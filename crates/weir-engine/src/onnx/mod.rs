//! Engines that run any ONNX graph, each over a runtime of somebody else's.
//!
//! Both take bytes that went through the gate of `weir-artifact`. What a runtime may be
//! given and what it gave back is checked here, in one place (`plan`); the engines only
//! translate.

mod location;
mod ort;
mod ort_call;
mod ort_value;
mod plan;
mod rten;
mod rten_operators;
mod rten_value;

pub use location::{LibraryHints, MIN_VERSION, OrtLocation, candidates};
pub use ort::{OrtEngine, OrtLibrary};
pub(crate) use plan::{Plan, guarded, tensors};
pub use rten::RtenEngine;
