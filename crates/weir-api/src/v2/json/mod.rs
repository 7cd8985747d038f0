//! The protocol's JSON: requests in, answers out.
//!
//! A reader of its own, for two things that serde_json cannot do: clients send the bare
//! tokens `NaN`, `Infinity` and `-Infinity` (Python's `json` writes them), and `data` must
//! go straight into a tensor although `datatype` and `shape` may come behind it.

mod control;
mod data;
mod lexer;
mod parameters;
mod request;
mod settings;
pub(crate) mod write;

pub(crate) use control::{is_json, read_index, read_order};
pub(crate) use request::{Most, read};
pub(crate) use settings::{read_log_changes, read_trace_changes};
pub(crate) use write::{Encoded, write_error, write_response};
