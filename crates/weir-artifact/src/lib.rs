//! What a model on disk is.
//!
//! [`discover`] finds models, [`load`] reads one of them into a [`ModelSpec`] and the
//! checked bytes that an engine loads, [`draft`] writes a first `model.toml`. Nothing here
//! runs a model.

mod answers;
pub mod archive;
mod batching;
mod cache;
mod digest;
mod discover;
mod draft;
mod example;
mod fields;
mod files;
mod formats;
mod graph;
mod load;
mod lookups;
mod manifest;
mod notes;
pub mod onnx;
mod remote;
mod report;
mod rules;
mod samples;
mod sequence;
mod spec;
mod task;
mod text;

pub use batching::BatchingTable;
pub use cache::{CacheDefault, CacheTable, CacheTier};
pub use discover::{Candidate, Discovery, FolderProblem, Kind, MANIFEST_FILE, discover, is_empty_folder};
pub use draft::draft;
pub use example::scalar_json;
pub use formats::{Foreign, Format};
pub use graph::{
    Branch, CaseTable, GraphDraft, GraphPlan, GraphTable, Lookup, Member, Operation, PlannedStep, Selector,
    Source, StepKind, StepTable, Test, Wanted, read_graph,
};
pub use load::{LoadedModel, load};
pub use lookups::Lookups;
pub use manifest::{
    CoerceWord, DTypeWord, ExtraWord, FieldTable, InputTable, KeyTable, LimitsTable, Manifest, OutputTable,
    TextTable, V2Table,
};
pub use remote::{
    BreakerTable, EncodingWord, LimitTable, RemoteDraft, RemoteFacts, RemoteTable, RetryTable, TensorTable,
    read_remote,
};
pub use sequence::{
    ConstantTable, Control, ControlTable, ControlWord, Feed, SequenceSpec, SequenceStoreWord, SequenceTable,
    StateSpec, StateTable,
};
pub use spec::{
    Activation, Aggregation, EngineChoice, ModelLimits, ModelSpec, Pooling, Sample, Task, TextSpec,
};
pub use text::{Reading, encoder_output};
pub use weir_config::Problem;
