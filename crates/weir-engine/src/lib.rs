//! Running models.
//!
//! Engines are synchronous and never see a request: they take a [`Batch`](weir_types::Batch) and
//! give [`Outputs`](weir_types::Outputs). Which thread calls them, and how many requests one call holds, is decided
//! in `weir-serving`.

mod classic;
mod engine;
pub mod onnx;
mod select;
mod sequence;
pub mod text;

pub use classic::ClassicEngine;
pub use engine::{
    CancelFlag, Context, Cost, Engine, EngineError, EngineInfo, Payload, Place, Places, Prepared, State,
    Step, TokenBatch,
};
pub use select::{EngineOptions, load};
pub use sequence::SequenceEngine;
