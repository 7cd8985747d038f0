//! The vocabulary of Weir: what every other crate talks about and none of them owns.
//!
//! No I/O, no environment, no wall clock. A type lives here when two sibling crates
//! must agree on it; everything else lives with its owner.

mod access;
mod answer;
mod batch;
mod dtype;
mod error;
mod feature;
mod name;
mod schema;
mod sequence;
mod signature;
mod tensor;
mod time;
pub mod trace;
mod unique;

pub use access::{Access, AllowLocal, Authorizer, Credentials, Grant, Principal};
pub use answer::Answer;
pub use batch::{Batch, Outputs};
pub use dtype::DType;
pub use error::{Error, ErrorCode, Result};
pub use feature::{EntityKey, FeatureCatalogue, FeatureSource, ViewShape};
pub use name::{ModelName, NameError, Version};
pub use schema::{Coercion, Extra, Field, InputSlot, Rules, Scalar, Schema, SchemaError};
pub use sequence::{SequenceId, SequenceStep};
pub use signature::{Dim, Signature, TensorSpec};
pub use tensor::{Tensor, TensorData, TensorError, element_count};
pub use time::{Clock, Deadline, SystemClock};
pub use unique::{Unique, unique, unique_wide};
