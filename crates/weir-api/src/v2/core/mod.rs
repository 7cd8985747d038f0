//! The Open Inference Protocol V2 without a transport: what REST and gRPC share, so that
//! the two cannot answer the same request differently.
//!
//! A transport decodes bytes into an [`InferRequest`], finds the [`ModelView`] it names in
//! [`Models`], and hands both to [`infer`]; everything that is checked about tensors is
//! checked here. Metadata, configuration, statistics and the repository index are plain
//! structs that each transport writes in its own form.

mod cast;
mod classify;
mod columns;
mod config;
mod datatype;
mod infer;
mod logging;
mod metadata;
mod models;
mod parameters;
mod repository;
mod rules;
mod settings;
mod statistics;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod trace;
mod view;

pub(crate) use config::ModelConfig;
pub(crate) use datatype::{dtype, read_raw};
pub(crate) use infer::{
    InferRequest, InferResponse, NamedTensor, OutputTensor, Refused, RequestedOutput, infer,
};
pub use logging::{LogControl, LogSettings};
pub(crate) use metadata::{ModelMetadata, ServerMetadata, TensorMetadata, server_metadata};
pub(crate) use models::{Models, model_name};
pub(crate) use parameters::{Parameter, Parameters};
pub(crate) use repository::{RepositoryEntry, UNLOAD_PARAMETERS, refuse_parameters, repository_index};
pub(crate) use settings::{
    LogChange, LogValue, change_log, change_trace, control, log_settings, trace_settings,
};
pub(crate) use statistics::{BatchStatistic, DurationStatistic, ModelStatistics, statistics};
pub(crate) use timeline::Timeline;
pub(crate) use trace::{Change, Shown, TraceCounters, Tracer, Transport};
pub(crate) use view::ModelView;
pub(crate) use weir_codec::v2::{cut, datatype, write_raw};

/// Most dimensions of a tensor.
pub(crate) const MAX_RANK: usize = 32;
/// Longest request id, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 1024;
