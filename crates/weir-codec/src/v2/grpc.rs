//! Asking another server over gRPC, and not believing what it answers.

use std::{collections::BTreeMap, time::Duration};

use prost::{
    Message,
    bytes::Bytes,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use weir_types::{Batch, Outputs, Signature};

use super::{
    Metadata, ServerDescription, datatype,
    described::{self, MAX_RANK},
    inference::{
        InferParameter, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelMetadataResponse, ServerMetadataResponse,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    read_raw, reason,
    told::{Collected, check},
    write_raw,
};

/// Most outputs, raw contents and parameters of one answer.
const MAX_ENTRIES: usize = 4_096;
/// Bytes of the largest number.
const MAX_VARINT_BYTES: usize = 10;

/// Which model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub model: String,
    /// Its version; empty for the one that the server chooses.
    pub version: String,
}

impl Asked {
    /// A serialised `ModelMetadataRequest` about it.
    pub fn metadata_message(&self) -> Vec<u8> {
        ModelMetadataRequest { name: self.model.clone(), version: self.version.clone() }.encode_to_vec()
    }

    /// A serialised `ModelConfigRequest` about it.
    pub fn config_message(&self) -> Vec<u8> {
        ModelConfigRequest { name: self.model.clone(), version: self.version.clone() }.encode_to_vec()
    }
}

/// A serialised `ModelInferRequest` for all outputs of `signature`, tensors as raw contents.
/// `timeout` is the time left, which Triton and Weir take as a parameter too.
pub fn write_message(
    asked: &Asked,
    signature: &Signature,
    batch: &Batch,
    id: &str,
    timeout: Duration,
) -> Vec<u8> {
    let micros = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
    let timeout = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(micros)) };
    let mut raw = Vec::new();
    let input = |(spec, tensor): (&weir_types::TensorSpec, &weir_types::Tensor)| {
        let mut bytes = Vec::new();
        write_raw(tensor.data(), &mut bytes);
        raw.push(Bytes::from(bytes));
        InferInputTensor {
            name: spec.name.clone(),
            datatype: datatype(tensor.dtype()).to_owned(),
            // A dimension of a tensor in memory fits.
            shape: tensor.shape().iter().map(|n| *n as i64).collect(),
            ..InferInputTensor::default()
        }
    };
    let inputs = signature.inputs.iter().zip(&batch.inputs).map(input).collect();
    let output = |spec: &weir_types::TensorSpec| InferRequestedOutputTensor {
        name: spec.name.clone(),
        ..InferRequestedOutputTensor::default()
    };
    infer_message(&ModelInferRequest {
        model_name: asked.model.clone(),
        model_version: asked.version.clone(),
        id: id.to_owned(),
        parameters: BTreeMap::from([("timeout".to_owned(), timeout)]),
        inputs,
        outputs: signature.outputs.iter().map(output).collect(),
        raw_input_contents: raw,
    })
}

/// A `ModelInferRequest` serialised, without gRPC's prefix.
pub fn infer_message(request: &ModelInferRequest) -> Vec<u8> {
    request.encode_to_vec()
}

/// A serialised `ModelInferResponse`, as it is: whether it is an answer to what was asked is for
/// the reader to see. What decoding builds is bounded beforehand.
///
/// # Errors
/// Where it is no such message, or larger in memory than its bytes warrant.
pub fn read_infer_message(message: Bytes) -> Result<ModelInferResponse, String> {
    weigh(&message)?;
    ModelInferResponse::decode(message).map_err(|e| reason("inference response", &e))
}

/// Reads a serialised `ModelInferResponse`, as [`read_response`](super::read_response) reads
/// JSON.
///
/// # Errors
/// What is wrong with the answer, for the log.
pub fn read_message(signature: &Signature, rows: usize, id: &str, message: Bytes) -> Result<Outputs, String> {
    let response = read_infer_message(message)?;
    let mut collected = Collected::new(signature, rows);
    collected.check_id(Some(response.id.as_str()).filter(|other| !other.is_empty()), id)?;
    let (outputs, raw) = (response.outputs, response.raw_output_contents);
    if outputs.len() != raw.len() {
        return Err(format!("it has {} outputs and {} raw_output_contents", outputs.len(), raw.len()));
    }
    for (output, bytes) in outputs.into_iter().zip(raw) {
        let shape = output.shape.iter().map(|n| usize::try_from(*n)).collect::<Result<Vec<usize>, _>>();
        let shape = shape.map_err(|_| "a dimension is negative".to_owned())?;
        collected.put(&output.name, |spec| {
            check(spec, rows, &output.datatype, &shape)?;
            let data = read_raw(spec.dtype, &shape, &bytes)?;
            Ok((shape, data))
        })?;
    }
    collected.finish()
}

/// What decoding would take must be in proportion to the message: two bytes can be an empty
/// tensor, which takes a hundred times as much in memory. Typed contents are refused: those who
/// ask with raw contents are answered with such.
fn weigh(message: &[u8]) -> Result<(), String> {
    const PARAMETERS: u32 = 4;
    const OUTPUTS: u32 = 5;
    let mut entries = 0;
    let mut count = || {
        entries += 1;
        if entries > MAX_ENTRIES { Err(format!("it has more than {MAX_ENTRIES} entries")) } else { Ok(()) }
    };
    walk(message, &mut |field, value| {
        count()?;
        if field != OUTPUTS {
            return Ok(());
        }
        walk(value, &mut |field, value| match field {
            3 if value.len() > MAX_RANK * MAX_VARINT_BYTES => Err("a tensor has too many dimensions".into()),
            3 | PARAMETERS => count(),
            5 => Err("its tensors are typed contents, raw ones were asked for".into()),
            _ => Ok(()),
        })
    })
}

/// Visits the fields of a message without keeping any; numbers are visited as no bytes.
fn walk<'a>(
    mut message: &'a [u8],
    visit: &mut dyn FnMut(u32, &'a [u8]) -> Result<(), String>,
) -> Result<(), String> {
    let unreadable = |e: prost::DecodeError| reason("inference response", &e);
    while !message.is_empty() {
        let (field, wire) = decode_key(&mut message).map_err(unreadable)?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, field, &mut message, DecodeContext::default()).map_err(unreadable)?;
            visit(field, &[])?;
            continue;
        }
        let length = decode_varint(&mut message).map_err(unreadable)?;
        let split = usize::try_from(length).ok().and_then(|n| message.split_at_checked(n));
        let (value, rest) = split.ok_or("it ends within a field")?;
        message = rest;
        visit(field, value)?;
    }
    Ok(())
}

/// Reads a serialised `ServerMetadataResponse`.
///
/// # Errors
/// A sentence where it is something else.
pub fn read_server_message(message: Bytes) -> Result<ServerDescription, String> {
    let told = ServerMetadataResponse::decode(message).map_err(|e| reason("server metadata", &e))?;
    Ok(described::server(&told.name, &told.version, &told.extensions))
}

/// Reads a serialised `ModelMetadataResponse`.
///
/// # Errors
/// As [`read_metadata`](super::read_metadata).
pub fn read_metadata_message(message: Bytes) -> Result<Metadata, String> {
    let told = ModelMetadataResponse::decode(message).map_err(|e| reason("model metadata", &e))?;
    let side = |tensors: Vec<super::inference::model_metadata_response::TensorMetadata>| {
        tensors
            .into_iter()
            .map(|t| described::spec(t.name, &t.datatype, &t.shape))
            .collect::<Result<Vec<_>, _>>()
    };
    let signature = Signature { inputs: side(told.inputs)?, outputs: side(told.outputs)? };
    Ok(Metadata { versions: told.versions, platform: super::cut(&told.platform), signature })
}

/// The most rows of one request that a serialised `ModelConfigResponse` tells, if it does.
pub fn read_max_batch_message(message: Bytes) -> Option<usize> {
    let config = ModelConfigResponse::decode(message).ok()?.config?;
    usize::try_from(config.max_batch_size).ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_types::{DType, Dim, Tensor, TensorData, TensorSpec};

    use super::{super::inference::model_infer_response::InferOutputTensor, *};

    fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), dtype, shape: vec![Dim::Any(None)] };
        let both = vec![spec("a", DType::Float32), spec("t", DType::String)];
        Signature { inputs: both.clone(), outputs: both }
    }

    fn tensors() -> Vec<Tensor> {
        let texts = ["ä", ""].map(String::from).to_vec();
        [TensorData::Float32(vec![f32::NAN, -0.5]), TensorData::String(texts)]
            .map(|data| Tensor::new(vec![2], data).unwrap())
            .to_vec()
    }

    /// What a server answers that gives back what it got, changed by `change`.
    fn echo(change: impl FnOnce(&mut ModelInferResponse)) -> Bytes {
        let asked = Asked { model: "m".into(), version: "3".into() };
        let batch = Batch { rows: 2, inputs: tensors() };
        let message = write_message(&asked, &signature(), &batch, "7", Duration::from_millis(5));
        let request = ModelInferRequest::decode(message.as_slice()).unwrap();
        assert_eq!((request.model_name.as_str(), request.model_version.as_str()), ("m", "3"));
        let output = |i: InferInputTensor| InferOutputTensor {
            name: i.name,
            datatype: i.datatype,
            shape: i.shape,
            ..InferOutputTensor::default()
        };
        let mut response = ModelInferResponse {
            id: request.id,
            outputs: request.inputs.into_iter().map(output).collect(),
            raw_output_contents: request.raw_input_contents,
            ..ModelInferResponse::default()
        };
        change(&mut response);
        response.encode_to_vec().into()
    }

    fn read(message: Bytes) -> Result<Outputs, String> {
        read_message(&signature(), 2, "7", message)
    }

    #[test]
    fn an_echo_comes_back_in_whatever_order() {
        for change in [
            |_: &mut ModelInferResponse| (),
            |r: &mut ModelInferResponse| {
                r.outputs.reverse();
                r.raw_output_contents.reverse();
            },
        ] {
            let outputs = read(echo(change)).unwrap();
            assert_eq!(outputs.tensors[1], tensors()[1]);
            assert!(outputs.tensors[0].as_f32().unwrap()[0].is_nan());
        }
    }

    #[test]
    fn every_lie_is_told_apart() {
        let refused = |change: fn(&mut ModelInferResponse)| read(echo(change)).unwrap_err();
        assert!(refused(|r| r.id = "8".into()).contains("answers the request"));
        assert!(refused(|r| r.outputs[0].name = "z".into()).contains("nobody asked"));
        assert!(refused(|r| r.outputs[1].name = "a".into()).contains("was float32"));
        assert!(refused(|r| r.outputs[0].shape = vec![3]).contains("for 2 rows"));
        assert!(refused(|r| r.outputs[0].shape = vec![-2]).contains("negative"));
        assert!(refused(|r| r.outputs[0].shape = vec![1; 200]).contains("too many dimensions"));
        assert!(refused(|r| r.raw_output_contents.truncate(1)).contains("2 outputs and 1"));
        assert!(refused(|r| r.raw_output_contents[0] = Bytes::from_static(b"123")).contains("takes 8 bytes"));
        assert!(
            refused(|r| {
                r.outputs.pop();
                r.raw_output_contents.pop();
            })
            .contains("`t` is missing")
        );
        assert!(refused(|r| r.outputs[0].contents = Some(Default::default())).contains("typed contents"));
        assert!(refused(|r| r.outputs = vec![InferOutputTensor::default(); 5_000]).contains("4096"));
        assert!(read(Bytes::from_static(b"\x2a\x05")).is_err());
    }

    proptest! {
        #[test]
        fn noise_and_flipped_bytes_never_break_it(at in any::<prop::sample::Index>(), to in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(noise.into());
            let mut body = echo(|_| ()).to_vec();
            let at = at.index(body.len());
            body[at] = to;
            if let Ok(outputs) = read(body.into()) {
                prop_assert!(outputs.tensors.iter().all(|t| t.rows() == 2));
            }
        }
    }
}
