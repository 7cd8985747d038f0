//! What a model on disk is.
//!
//! Reads `model.toml`, bare files and model folders into a [`ModelSpec`] and the checked
//! bytes that an engine loads. Nothing here runs a model.

pub mod onnx;
mod spec;

pub use spec::{EngineChoice, ModelLimits, ModelSpec, Pooling, Sample, Task, TextSpec};
pub use weir_config::Problem;
