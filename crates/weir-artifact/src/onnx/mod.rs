//! The ONNX file format: the only home of its protobuf, and the gate in front of every
//! runtime.
//!
//! [`read`] decides whether any runtime may see a file. A runtime's own parser is C++ or
//! Rust written for models from friends; external data alone has been a path-traversal
//! hole again and again (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187). So everything
//! that the file claims is checked here first, against what is really in it.
//!
//! The order of checks: size; a walk over the wire format that counts before anything is
//! built ([`GateLimits`]); decoding; then all rules on the graph, whose violations are
//! reported together.

mod gate;
mod labels;
mod native;
pub mod proto;
mod signature;
mod tensor;
#[cfg(test)]
mod tests;
mod trees;
mod wire;

use prost::{
    Message,
    bytes::{Buf, Bytes},
};
use weir_types::Signature;

pub use native::NATIVE_OPS;
use proto::ModelProto;
pub use tensor::{dtype, tensor};

/// Bounds on an ONNX file. The defaults pass every public model we know of that fits in
/// one file, and keep what decoding builds within a few times the file's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateLimits {
    /// Largest file. Protobuf itself ends at 2 GiB.
    pub max_bytes: usize,
    /// Deepest nesting of protobuf messages (a plain model has 7, each subgraph adds 3).
    pub max_depth: usize,
    /// Deepest nesting of graphs within graphs (branches of `If`, bodies of `Loop`).
    pub max_subgraph_depth: usize,
    /// Most nodes, subgraphs included.
    pub max_nodes: usize,
    /// Most constant tensors, subgraphs and attributes included.
    pub max_tensors: usize,
    /// Most protobuf messages of any kind.
    pub max_messages: usize,
    /// Most strings in lists (names, `nodes_modes` of a forest, string tensors).
    pub max_strings: usize,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_bytes: i32::MAX as usize,
            max_depth: 64,
            max_subgraph_depth: 8,
            max_nodes: 100_000,
            max_tensors: 200_000,
            max_messages: 2_000_000,
            max_strings: 20_000_000,
        }
    }
}

/// An ONNX file that passed the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxModel {
    /// The decoded file.
    pub model: ModelProto,
    /// Inputs that a caller must fill (graph inputs without an initializer) and outputs.
    /// A `ZipMap` output, a sequence of maps in the file, stands here as the float32
    /// tensor `[rows, classes]` that it is made of, under its own name.
    pub signature: Signature,
    /// Name and version of the exporter, for example `skl2onnx 1.20.0`.
    pub producer: String,
    /// Operator sets, one version a domain (`""` is ONNX itself), in the file's order.
    pub opsets: Vec<(String, i64)>,
    /// Whether this is a classic machine-learning graph: it uses `ai.onnx.ml`.
    pub is_classic: bool,
    /// Names of the classes in the order of the score columns, where the file says them;
    /// integer labels in decimal.
    pub class_labels: Option<Vec<String>>,
    /// What the native engine lacks for this graph, sorted: operators as `domain:Op`, and
    /// operator sets that are too old. Empty: it can run the graph.
    pub unsupported_ops_for_native: Vec<String>,
    /// What an operator should know about the file although it is served.
    pub notes: Vec<String>,
}

/// Reads `bytes` as an ONNX file and checks all that can be checked without running it.
///
/// Constants are copied out of `bytes`; [`read_shared`] does without that.
///
/// # Errors
/// All problems at once, one sentence each; only the first one where it hides the rest
/// (the file is cut off, or larger than a limit). Never panics, whatever the bytes.
pub fn read(bytes: &[u8], limits: &GateLimits) -> Result<OnnxModel, Vec<String>> {
    read_from(bytes, bytes, limits)
}

/// Like [`read`]; large constants share the memory of `bytes`.
///
/// # Errors
/// As [`read`].
pub fn read_shared(bytes: &Bytes, limits: &GateLimits) -> Result<OnnxModel, Vec<String>> {
    read_from(bytes, bytes.clone(), limits)
}

fn read_from(bytes: &[u8], buffer: impl Buf, limits: &GateLimits) -> Result<OnnxModel, Vec<String>> {
    let model = decode(bytes, buffer, limits).map_err(|problem| vec![problem])?;
    let mut problems = gate::check(&model, limits);
    let (signature, mut notes) = match signature::signature(&model) {
        Ok(found) => found,
        Err(more) => {
            problems.extend(more);
            Default::default()
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let opsets = gate::opsets(&model, &mut notes);
    Ok(OnnxModel {
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        is_classic: native::is_classic(&model),
        class_labels: labels::class_labels(&model),
        unsupported_ops_for_native: native::unsupported(&model, &opsets),
        signature,
        opsets,
        notes,
        model,
    })
}

fn decode(bytes: &[u8], buffer: impl Buf, limits: &GateLimits) -> Result<ModelProto, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.len() > limits.max_bytes {
        return Err(format!("the file has {} bytes, the limit is {}", bytes.len(), limits.max_bytes));
    }
    wire::scan(bytes, limits)?;
    ModelProto::decode(buffer).map_err(|e| format!("not an ONNX file: {e}"))
}

/// A name from the file as it may stand in a message: bounded, without control characters.
fn show(name: &str) -> String {
    const MOST: usize = 80;
    let mut text: String = name.chars().take(MOST).collect::<String>().escape_debug().to_string();
    if name.chars().nth(MOST).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}
