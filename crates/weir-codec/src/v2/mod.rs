//! The Open Inference Protocol V2 as bytes, from both ends: what a server and a client of it
//! share (names of types, tensors as bytes), and the client's half: asking another server
//! ([`write_request`], over gRPC [`write_message`]) and not believing what it answers
//! ([`read_response`], [`read_message`]).
//!
//! The server's half, with its own bounds and words for callers, is in `weir-api`.

#[doc(hidden)] // what the fuzz target calls
pub mod answers;
mod ask;
mod bounded;
mod data;
mod datatype;
mod described;
mod generated;
mod grpc;
mod raw;
mod told;

pub use ask::{Request, write_request};
pub use datatype::{datatype, dtype};
pub use described::{Metadata, ServerDescription, read_max_batch, read_metadata, read_server};
pub use generated::inference;
pub use grpc::{
    Asked, infer_message, read_infer_message, read_max_batch_message, read_message, read_metadata_message,
    read_server_message, write_message,
};
pub use raw::{read_raw, write_raw};
pub use told::read_response;

/// Longest part of somebody else's word that an error repeats, in characters.
const MAX_ECHO_CHARS: usize = 64;

/// Longest reason of a parser that is repeated: those of serde quote what they found.
const MAX_REASON_CHARS: usize = 256;

/// Why something could not be read, as a log may show it.
fn reason(what: &str, error: &dyn std::fmt::Display) -> String {
    format!("it is no {what}: {error}").chars().take(MAX_REASON_CHARS).collect()
}

/// Somebody else's word as an error may repeat it: 16 MB names have been echoed whole.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
