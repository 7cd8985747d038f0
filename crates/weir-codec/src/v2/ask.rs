//! Asking another server.

use std::time::Duration;

use half::f16;
use weir_types::{Batch, DType, Error, Signature, Tensor, TensorData};

use super::{datatype, write_raw};
use crate::write_string;

/// An inference request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// JSON, and the blobs behind it.
    pub body: Vec<u8>,
    /// Bytes of the JSON, if there are blobs: `Inference-Header-Content-Length`.
    pub json: Option<usize>,
}

/// Writes an inference request for all outputs of `signature`, whose inputs `batch` holds.
/// `timeout` is the time left, which Triton and Weir take as the parameter `timeout` in
/// microseconds; with `binary` tensors stand behind the JSON, in both directions.
///
/// # Errors
/// `InvalidArgument` for what JSON cannot carry: NaN, infinities, and BF16 altogether.
pub fn write_request(
    signature: &Signature,
    batch: &Batch,
    id: &str,
    timeout: Duration,
    binary: bool,
) -> Result<Request, Error> {
    let (mut out, mut blobs) = (b"{\"id\":".to_vec(), Vec::new());
    write_string(id, &mut out);
    let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    let parameters =
        format!(",\"parameters\":{{\"timeout\":{micros},\"binary_data_output\":{binary}}},\"inputs\":[");
    out.extend_from_slice(parameters.as_bytes());
    for (i, (spec, tensor)) in signature.inputs.iter().zip(&batch.inputs).enumerate() {
        comma(i, &mut out);
        write_input(&spec.name, tensor, binary.then_some(&mut blobs), &mut out)?;
    }
    out.extend_from_slice(b"],\"outputs\":[");
    for (i, spec) in signature.outputs.iter().enumerate() {
        comma(i, &mut out);
        out.extend_from_slice(b"{\"name\":");
        write_string(&spec.name, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    let json = binary.then_some(out.len());
    out.append(&mut blobs);
    Ok(Request { body: out, json })
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn write_input(
    name: &str,
    tensor: &Tensor,
    blobs: Option<&mut Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.extend_from_slice(b"{\"name\":");
    write_string(name, out);
    let head = format!(",\"datatype\":\"{}\",\"shape\":{:?}", datatype(tensor.dtype()), tensor.shape());
    out.extend_from_slice(head.as_bytes());
    match blobs {
        Some(blobs) => {
            let before = blobs.len();
            write_raw(tensor.data(), blobs);
            let size = format!(",\"parameters\":{{\"binary_data_size\":{}}}", blobs.len() - before);
            out.extend_from_slice(size.as_bytes());
        }
        None => {
            out.extend_from_slice(b",\"data\":");
            write_data(name, tensor.data(), out)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_data(name: &str, data: &TensorData, out: &mut Vec<u8>) -> Result<(), Error> {
    macro_rules! whole {
        ($v:expr) => {
            elements($v, out, |x, out| {
                out.extend_from_slice(itoa::Buffer::new().format(*x).as_bytes());
                Ok(())
            })
        };
    }
    let float = |x: f64, text: &str, out: &mut Vec<u8>| {
        if !x.is_finite() {
            let text = format!("input `{name}`: NaN and infinities cannot be sent to this model's server");
            return Err(Error::invalid(text));
        }
        out.extend_from_slice(text.as_bytes());
        Ok(())
    };
    let single = |x: f32, out: &mut Vec<u8>| float(x.into(), ryu::Buffer::new().format(x), out);
    match data {
        TensorData::Bool(v) => elements(v, out, |x, out| {
            out.extend_from_slice(if *x { b"true" } else { b"false" });
            Ok(())
        }),
        TensorData::Int8(v) => whole!(v),
        TensorData::Int16(v) => whole!(v),
        TensorData::Int32(v) => whole!(v),
        TensorData::Int64(v) => whole!(v),
        TensorData::Uint8(v) => whole!(v),
        TensorData::Uint16(v) => whole!(v),
        TensorData::Uint32(v) => whole!(v),
        TensorData::Uint64(v) => whole!(v),
        TensorData::Float16(v) => elements(v, out, |bits, out| single(f16::from_bits(*bits).to_f32(), out)),
        TensorData::Float32(v) => elements(v, out, |x, out| single(*x, out)),
        TensorData::Float64(v) => elements(v, out, |x, out| float(*x, ryu::Buffer::new().format(*x), out)),
        TensorData::String(v) => elements(v, out, |x, out| {
            write_string(x, out);
            Ok(())
        }),
        TensorData::Bfloat16(_) => {
            Err(Error::invalid(format!("input `{name}`: {} cannot be sent as JSON", DType::Bfloat16)))
        }
    }
}

fn elements<T>(
    values: &[T],
    out: &mut Vec<u8>,
    one: impl Fn(&T, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(b'[');
    for (i, value) in values.iter().enumerate() {
        comma(i, out);
        one(value, out)?;
    }
    out.push(b']');
    Ok(())
}
