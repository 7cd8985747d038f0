//! A model's configuration, in the terms of Triton's `ModelConfig`.

use super::{ModelView, TensorMetadata};

/// `GET /v2/models/{m}/config`, `ModelConfig`. Transports leave `dynamic_batching` out:
/// clients read its presence as the scheduler's kind, and no model has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelConfig {
    /// The model's name.
    pub(crate) name: String,
    /// Format and engine, as in the metadata.
    pub(crate) platform: String,
    /// The engine.
    pub(crate) backend: String,
    /// The version that this is the configuration of.
    pub(crate) version: String,
    /// Most rows in one request.
    pub(crate) max_batch_size: i32,
    /// Inputs; `dims` without the rows, as Triton has it for models with a batch dimension.
    pub(crate) inputs: Vec<TensorMetadata>,
    /// Outputs, likewise.
    pub(crate) outputs: Vec<TensorMetadata>,
}

impl ModelConfig {
    pub(super) fn new(view: &ModelView) -> Self {
        let metadata = view.metadata(Vec::new());
        let inner = |t: TensorMetadata| TensorMetadata { shape: t.shape.into_iter().skip(1).collect(), ..t };
        let spec = &view.version().spec;
        Self {
            name: metadata.name,
            platform: metadata.platform,
            backend: view.version().engine.name.to_owned(),
            version: spec.version.to_string(),
            max_batch_size: i32::try_from(spec.limits.max_rows).unwrap_or(i32::MAX),
            inputs: metadata.inputs.into_iter().map(inner).collect(),
            outputs: metadata.outputs.into_iter().map(inner).collect(),
        }
    }
}
