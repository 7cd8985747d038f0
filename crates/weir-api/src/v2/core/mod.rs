//! The Open Inference Protocol V2 without a transport: what REST and gRPC share, so that
//! the two cannot answer the same request differently.
//!
//! A transport decodes bytes into an [`InferRequest`], finds the [`ModelView`] it names in
//! [`Models`], and hands both to [`infer`]; everything that is checked about tensors is
//! checked here. Metadata, configuration, statistics and the repository index are plain
//! structs that each transport writes in its own form.

mod classify;
mod columns;
mod config;
mod datatype;
mod infer;
mod metadata;
mod models;
mod parameters;
mod repository;
mod rules;
mod statistics;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub(crate) use config::ModelConfig;
pub(crate) use datatype::{dtype, read_raw};
pub(crate) use infer::{InferRequest, InferResponse, NamedTensor, OutputTensor, RequestedOutput, infer};
pub(crate) use metadata::{ModelMetadata, ServerMetadata, TensorMetadata, server_metadata};
pub(crate) use models::Models;
pub(crate) use parameters::{Parameter, Parameters};
pub(crate) use repository::{RepositoryEntry, repository_index};
pub(crate) use statistics::{DurationStatistic, ModelStatistics, statistics};
pub(crate) use view::ModelView;
pub(crate) use weir_codec::v2::{cut, datatype, write_raw};
