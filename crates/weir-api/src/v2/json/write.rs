//! Answers as JSON, with the blobs behind it where binary data was asked for.

use half::f16;
use serde_json::{Value, json};
use weir_codec::write_string;
use weir_types::{DType, Error, TensorData};

use crate::v2::core::{
    BatchStatistic, InferResponse, LogValue, ModelConfig, ModelMetadata, ModelStatistics, OutputTensor,
    RepositoryEntry, ServerMetadata, Shown, TensorMetadata, datatype, write_raw,
};

/// An answer's body: the JSON's length, where blobs follow it.
pub(crate) struct Encoded {
    /// JSON and blobs.
    pub(crate) body: Vec<u8>,
    /// Bytes of the JSON, if there are blobs.
    pub(crate) json: Option<usize>,
}

/// Writes an answer; `binary` says of each output whether it goes behind the JSON.
///
/// # Errors
/// `InvalidArgument` for a BF16 output that is asked for as JSON.
pub(crate) fn write_response(response: &InferResponse, binary: &[bool]) -> Result<Encoded, Error> {
    let mut out = b"{".to_vec();
    if let Some(id) = &response.id {
        key("id", &mut out);
        write_string(id, &mut out);
        out.push(b',');
    }
    key("model_name", &mut out);
    write_string(&response.model, &mut out);
    out.extend_from_slice(b",\"model_version\":");
    write_string(&response.version, &mut out);
    out.extend_from_slice(b",\"outputs\":[");
    let mut blobs = Vec::new();
    let mut any = false;
    for (i, output) in response.outputs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let binary = binary.get(i).copied().unwrap_or(false);
        write_output(output, binary.then_some(&mut blobs), &mut out)?;
        any |= binary;
    }
    out.extend_from_slice(b"]}");
    let json = any.then_some(out.len());
    out.extend_from_slice(&blobs);
    Ok(Encoded { body: out, json })
}

/// Writes one output, its elements into `blobs` if there are some.
fn write_output(output: &OutputTensor, blobs: Option<&mut Vec<u8>>, out: &mut Vec<u8>) -> Result<(), Error> {
    let OutputTensor { name, tensor } = output;
    out.extend_from_slice(b"{\"name\":");
    write_string(name, out);
    out.extend_from_slice(b",\"datatype\":");
    write_string(datatype(tensor.dtype()), out);
    out.extend_from_slice(b",\"shape\":");
    list(tensor.shape(), out, |n, out| int(*n, out));
    match blobs {
        Some(blobs) => {
            let before = blobs.len();
            write_raw(tensor.data(), blobs);
            out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            int(blobs.len() - before, out);
            out.push(b'}');
        }
        None if tensor.dtype() == DType::Bfloat16 => {
            let text = format!("JSON has no BF16: ask for `{name}` with \"binary_data\": true");
            return Err(Error::invalid(text));
        }
        None => {
            out.extend_from_slice(b",\"data\":");
            data(tensor.data(), out);
        }
    }
    out.push(b'}');
    Ok(())
}

fn key(name: &str, out: &mut Vec<u8>) {
    write_string(name, out);
    out.push(b':');
}

fn list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn int(n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// The shortest text that reads back as the same float of the same width. What JSON has no
/// number for goes in quotes: the body is JSON whatever the model says.
fn float<F: ryu::Float + Into<f64>>(value: F, out: &mut Vec<u8>) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if wide.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if wide > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

fn data(data: &TensorData, out: &mut Vec<u8>) {
    match data {
        TensorData::Bool(v) => {
            list(v, out, |b, out| out.extend_from_slice(if *b { b"true" } else { b"false" }))
        }
        TensorData::Int8(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Int16(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Int32(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Int64(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Uint8(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Uint16(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Uint32(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Uint64(v) => list(v, out, |n, out| int(*n, out)),
        TensorData::Float16(v) => list(v, out, |n, out| float(f16::from_bits(*n).to_f32(), out)),
        // Refused before.
        TensorData::Bfloat16(_) => out.extend_from_slice(b"[]"),
        TensorData::Float32(v) => list(v, out, |x, out| float(*x, out)),
        TensorData::Float64(v) => list(v, out, |x, out| float(*x, out)),
        TensorData::String(v) => list(v, out, |text, out| write_string(text, out)),
    }
}

/// `{"error": …}`, the protocol's form of every error.
pub(crate) fn write_error(text: &str) -> Vec<u8> {
    let mut out = b"{\"error\":".to_vec();
    write_string(text, &mut out);
    out.push(b'}');
    out
}

/// `GET /v2`.
pub(crate) fn server(metadata: &ServerMetadata) -> Value {
    json!({"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions})
}

/// `GET /v2/models/{m}`.
pub(crate) fn model(metadata: &ModelMetadata) -> Value {
    let tensor =
        |t: &TensorMetadata| json!({"name": t.name, "datatype": datatype(t.dtype), "shape": t.shape});
    json!({
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": metadata.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": metadata.outputs.iter().map(tensor).collect::<Vec<_>>(),
    })
}

/// `GET /v2/models/{m}/config`.
pub(crate) fn config(config: &ModelConfig) -> Value {
    let kind = |dtype: DType| match dtype {
        DType::String => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", datatype(other)),
    };
    let tensor = |t: &TensorMetadata| json!({"name": t.name, "data_type": kind(t.dtype), "dims": t.shape});
    json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": config.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": config.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "version_policy": {"specific": {"versions": [config.version]}},
    })
}

/// `GET …/stats`.
pub(crate) fn statistics(all: &[ModelStatistics]) -> Value {
    // Decoding and encoding are done a request, not an execution.
    let batch = |b: &BatchStatistic| {
        json!({
            "batch_size": b.rows,
            "compute_input": {"count": 0, "ns": 0},
            "compute_infer": {"count": b.compute_infer.count, "ns": b.compute_infer.ns},
            "compute_output": {"count": 0, "ns": 0},
        })
    };
    let one = |s: &ModelStatistics| {
        json!({
            "name": s.name,
            "version": s.version,
            "last_inference": s.last_inference_ms,
            "inference_count": s.inference_count,
            "execution_count": s.execution_count,
            "inference_stats": {
                "success": {"count": s.success.count, "ns": s.success.ns},
                "fail": {"count": s.fail.count, "ns": s.fail.ns},
                "queue": {"count": s.queue.count, "ns": s.queue.ns},
                "compute_input": {"count": s.compute_input.count, "ns": s.compute_input.ns},
                "compute_infer": {"count": s.compute_infer.count, "ns": s.compute_infer.ns},
                "compute_output": {"count": s.compute_output.count, "ns": s.compute_output.ns},
                "cache_hit": {"count": s.cache_hit.count, "ns": s.cache_hit.ns},
                "cache_miss": {"count": s.cache_miss.count, "ns": s.cache_miss.ns},
            },
            "batch_stats": s.batches.iter().map(batch).collect::<Vec<_>>(),
        })
    };
    json!({"model_stats": all.iter().map(one).collect::<Vec<_>>()})
}

/// `POST /v2/repository/index`.
pub(crate) fn index(entries: &[RepositoryEntry]) -> Value {
    let one = |e: &RepositoryEntry| json!({"name": e.name, "version": e.version, "state": e.state, "reason": e.reason});
    entries.iter().map(one).collect()
}

/// Trace settings. The level is a list, the others are text, as Triton has them.
pub(crate) fn trace(shown: Shown) -> Value {
    let one = |(name, values): (&str, Vec<String>)| {
        let value = match name {
            "trace_level" => Value::from(values),
            _ => values.into_iter().next().unwrap_or_default().into(),
        };
        (name.to_owned(), value)
    };
    shown.into_iter().map(one).collect()
}

/// Log settings.
pub(crate) fn log(shown: Vec<(&'static str, LogValue)>) -> Value {
    let one = |(name, value): (&str, LogValue)| {
        let value = match value {
            LogValue::Flag(on) => Value::from(on),
            LogValue::Number(n) => n.into(),
            LogValue::Text(text) => text.into(),
        };
        (name.to_owned(), value)
    };
    shown.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use weir_types::Tensor;

    use super::*;

    fn response(data: TensorData) -> InferResponse {
        let tensor = Tensor::new(vec![data.len()], data).unwrap();
        let outputs = vec![OutputTensor { name: "y".into(), tensor }];
        InferResponse {
            model: "m".into(),
            version: "1".into(),
            id: Some("a\"b".into()),
            outputs,
            cache: None,
            feature_asof: None,
        }
    }

    #[test]
    fn an_answer_is_json_whatever_the_numbers_are() {
        let values = vec![0.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30];
        let encoded = write_response(&response(TensorData::Float32(values)), &[]).unwrap();
        assert_eq!(encoded.json, None);
        let value: Value = serde_json::from_slice(&encoded.body).unwrap();
        let expected = json!({"id": "a\"b", "model_name": "m", "model_version": "1", "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [5],
             "data": [0.1, "NaN", "Infinity", "-Infinity", 1e30]}]});
        assert_eq!(value, expected);
    }

    #[test]
    fn blobs_come_behind_the_json_which_says_their_size() {
        let encoded = write_response(&response(TensorData::Int16(vec![1, -1])), &[true]).unwrap();
        let length = encoded.json.unwrap();
        assert_eq!(&encoded.body[length..], [1, 0, 0xff, 0xff]);
        let value: Value = serde_json::from_slice(&encoded.body[..length]).unwrap();
        assert_eq!(value["outputs"][0]["parameters"]["binary_data_size"], 4);
        assert!(value["outputs"][0].get("data").is_none());
    }

    #[test]
    fn bf16_is_binary_or_refused() {
        let bf16 = || response(TensorData::Bfloat16(vec![0x3f80]));
        assert!(write_response(&bf16(), &[false]).is_err());
        assert!(write_response(&bf16(), &[true]).is_ok());
    }
}
