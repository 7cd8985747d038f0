//! What another server says about itself and its models.

use serde::Deserialize;
use weir_types::{Dim, Signature, TensorSpec};

use super::{bounded::Bounded, cut, dtype, reason};

/// Most inputs, outputs or versions of a model.
const MAX_TENSORS: usize = 1_024;
/// Most dimensions of one tensor.
pub(super) const MAX_RANK: usize = 16;

/// `GET /v2`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerDescription {
    /// For example `triton`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it takes tensors as bytes behind the JSON.
    pub binary: bool,
}

/// `GET /v2/models/{m}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Versions that can answer, where it says so.
    pub versions: Vec<String>,
    /// Format and engine, for example `onnxruntime_onnx`.
    pub platform: String,
    /// Inputs and outputs.
    pub signature: Signature,
}

/// Reads `GET /v2`.
///
/// # Errors
/// A sentence where it is something else.
pub fn read_server(body: &[u8]) -> Result<ServerDescription, String> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        name: String,
        #[serde(default)]
        version: String,
        #[serde(default)]
        extensions: Option<Bounded<String, MAX_TENSORS>>,
    }
    let Wire { name, version, extensions } =
        serde_json::from_slice(body).map_err(|e| reason("server metadata", &e))?;
    Ok(server(&name, &version, &extensions.unwrap_or_default().0))
}

/// A server as it calls itself.
pub(super) fn server(name: &str, version: &str, extensions: &[String]) -> ServerDescription {
    let binary = extensions.iter().any(|e| e == "binary_tensor_data");
    ServerDescription { name: cut(name), version: cut(version), binary }
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    datatype: String,
    shape: Bounded<i64, MAX_RANK>,
}

/// Reads `GET /v2/models/{m}`.
///
/// # Errors
/// A sentence where it is something else, or names a type that the protocol does not have.
pub fn read_metadata(body: &[u8]) -> Result<Metadata, String> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        platform: Option<String>,
        #[serde(default)]
        versions: Option<Bounded<String, MAX_TENSORS>>,
        #[serde(default)]
        inputs: Option<Bounded<Tensor, MAX_TENSORS>>,
        #[serde(default)]
        outputs: Option<Bounded<Tensor, MAX_TENSORS>>,
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|e| reason("model metadata", &e))?;
    let side = |tensors: Option<Bounded<Tensor, MAX_TENSORS>>| {
        let read = |t: Tensor| spec(t.name, &t.datatype, &t.shape.0);
        tensors.unwrap_or_default().0.into_iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    let signature = Signature { inputs: side(wire.inputs)?, outputs: side(wire.outputs)? };
    let versions = wire.versions.unwrap_or_default().0;
    Ok(Metadata { versions, platform: cut(&wire.platform.unwrap_or_default()), signature })
}

/// One input or output; -1 is any size.
pub(super) fn spec(name: String, datatype: &str, shape: &[i64]) -> Result<TensorSpec, String> {
    let named = |why: String| format!("tensor {:?}: {why}", cut(&name));
    let dtype = dtype(datatype).map_err(named)?;
    if shape.len() > MAX_RANK {
        return Err(named(format!("it has more than {MAX_RANK} dimensions")));
    }
    let dim = |n: &i64| usize::try_from(*n).map_or(Dim::Any(None), Dim::Fixed);
    Ok(TensorSpec { dtype, shape: shape.iter().map(dim).collect(), name })
}

/// The most rows of one request that `GET /v2/models/{m}/config` (Triton's extension) tells, if
/// it does: 0 there means "no batches", of which the shapes tell more.
pub fn read_max_batch(body: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        max_batch_size: i64,
    }
    let wire: Wire = serde_json::from_slice(body).ok()?;
    usize::try_from(wire.max_batch_size).ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use weir_types::DType;

    use super::*;

    #[test]
    fn a_model_is_described_and_what_is_left_out_is_empty() {
        let metadata = read_metadata(
            br#"{"name":"m","versions":["1"],"platform":"x","inputs":[{"name":"a","datatype":"FP32","shape":[-1,8]}],"outputs":[]}"#,
        );
        let metadata = metadata.unwrap();
        assert_eq!(metadata.signature.inputs[0].to_string(), "a: float32[?, 8]");
        assert_eq!(read_metadata(br#"{"name":"m"}"#), Ok(Metadata::default()));
        assert!(
            read_metadata(br#"{"inputs":[{"name":"a","datatype":"X","shape":[]}]}"#)
                .unwrap_err()
                .contains("\"a\"")
        );
        assert!(read_metadata(b"<html>").is_err());
        assert_eq!(metadata.signature.inputs[0].dtype, DType::Float32);
    }

    #[test]
    fn servers_say_whether_they_take_bytes() {
        let triton = read_server(br#"{"name":"triton","version":"2.1","extensions":["binary_tensor_data"]}"#);
        assert!(triton.unwrap().binary);
        assert!(!read_server(br#"{"name":"mlserver","version":"1.7","extensions":[]}"#).unwrap().binary);
        assert!(read_server(b"<html>").is_err());
    }

    #[test]
    fn the_row_limit_is_read_where_there_is_one() {
        assert_eq!(read_max_batch(br#"{"max_batch_size":8}"#), Some(8));
        assert_eq!(read_max_batch(br#"{"max_batch_size":0}"#), None);
        assert_eq!(read_max_batch(b"no"), None);
    }
}
