//! What the server and its models say about themselves.

use weir_types::{DType, Dim, TensorSpec};

use crate::server::Shared;

/// What is supported beyond the protocol's core, by Triton's names. What is not here does
/// not work, and the other way round.
const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
    "model_configuration",
];

/// `GET /v2`, `ServerMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerMetadata {
    /// The server's name.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// What it supports beyond the core.
    pub(crate) extensions: Vec<&'static str>,
}

/// The server as it describes itself, with those extensions that the operator allows.
pub(crate) fn server_metadata(shared: &Shared) -> ServerMetadata {
    let control = shared.control().is_some();
    let allowed = [
        ("model_repository", control),
        ("trace", control && shared.tracer.can_trace()),
        ("logging", control && shared.log_control().is_some()),
    ];
    let allowed = allowed.into_iter().filter_map(|(name, works)| works.then_some(name));
    let extensions = EXTENSIONS.into_iter().chain(allowed).collect();
    ServerMetadata { name: "weir", version: env!("CARGO_PKG_VERSION"), extensions }
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorMetadata {
    /// Its name.
    pub(crate) name: String,
    /// Element type.
    pub(crate) dtype: DType,
    /// All dimensions, rows first; -1 where the request decides.
    pub(crate) shape: Vec<i64>,
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), dtype: spec.dtype, shape: spec.shape.iter().map(dim).collect() }
    }
}

/// A dimension as the protocol has it.
pub(super) fn dim(dim: &Dim) -> i64 {
    dim.fixed().and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)
}

/// `GET /v2/models/{m}`, `ModelMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelMetadata {
    /// The model's name.
    pub(crate) name: String,
    /// Versions that can answer, oldest first.
    pub(crate) versions: Vec<String>,
    /// Format and engine, for example `onnx_native`.
    pub(crate) platform: String,
    /// Inputs in signature order.
    pub(crate) inputs: Vec<TensorMetadata>,
    /// Outputs in signature order.
    pub(crate) outputs: Vec<TensorMetadata>,
}
