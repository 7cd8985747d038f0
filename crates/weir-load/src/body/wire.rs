//! The bytes of tensors and of the two protobuf messages that a load needs, from and to JSON:
//! that is what bodies are made of and answers compared in.

use bytes::Bytes;
use serde_json::{Number, Value, json};
use weir_codec::v2::{
    infer_message,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    read_infer_message,
};

/// A tensor of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    /// Scalars, row-major.
    pub(crate) data: Vec<Value>,
}

/// Elements in the protocol's binary form: little-endian; BYTES behind their length. `None` for
/// a datatype that we do not write, or a value that is not of it.
pub(crate) fn raw(datatype: &str, data: &[Value]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len() * 8);
    for value in data {
        element(datatype, value, &mut out)?;
    }
    Some(out)
}

fn element(datatype: &str, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    let whole = || value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64));
    match datatype {
        "FP16" => out.extend(half::f16::from_f64(value.as_f64()?).to_le_bytes()),
        "BF16" => out.extend(half::bf16::from_f64(value.as_f64()?).to_le_bytes()),
        "FP32" => out.extend((value.as_f64()? as f32).to_le_bytes()),
        "FP64" => out.extend(value.as_f64()?.to_le_bytes()),
        "BOOL" => out.push(u8::from(value.as_bool().or_else(|| whole().map(|n| n != 0))?)),
        "INT8" => out.extend(i8::try_from(whole()?).ok()?.to_le_bytes()),
        "INT16" => out.extend(i16::try_from(whole()?).ok()?.to_le_bytes()),
        "INT32" => out.extend(i32::try_from(whole()?).ok()?.to_le_bytes()),
        "INT64" => out.extend(whole()?.to_le_bytes()),
        "UINT8" => out.push(u8::try_from(whole()?).ok()?),
        "UINT16" => out.extend(u16::try_from(whole()?).ok()?.to_le_bytes()),
        "UINT32" => out.extend(u32::try_from(whole()?).ok()?.to_le_bytes()),
        "UINT64" => out.extend(u64::try_from(whole()?).ok()?.to_le_bytes()),
        "BYTES" => {
            let text = value.as_str()?;
            out.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
            out.extend(text.as_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// The elements of a tensor in binary form.
pub(crate) fn elements(datatype: &str, bytes: &[u8]) -> Option<Value> {
    macro_rules! numbers {
        ($type:ty, $value:expr) => {{
            let (whole, rest) = bytes.as_chunks::<{ size_of::<$type>() }>();
            let value: fn($type) -> Value = $value;
            rest.is_empty().then(|| whole.iter().map(|b| value(<$type>::from_le_bytes(*b))).collect())
        }};
    }
    match datatype {
        "FP16" => numbers!(half::f16, |n| float(f64::from(n))),
        "BF16" => numbers!(half::bf16, |n| float(f64::from(n))),
        "FP32" => numbers!(f32, |n| float(f64::from(n))),
        "FP64" => numbers!(f64, float),
        "BOOL" => Some(bytes.iter().map(|b| Value::Bool(*b != 0)).collect()),
        "INT8" => numbers!(i8, Value::from),
        "INT16" => numbers!(i16, Value::from),
        "INT32" => numbers!(i32, Value::from),
        "INT64" => numbers!(i64, Value::from),
        "UINT8" => numbers!(u8, Value::from),
        "UINT16" => numbers!(u16, Value::from),
        "UINT32" => numbers!(u32, Value::from),
        "UINT64" => numbers!(u64, Value::from),
        "BYTES" => texts(bytes),
        _ => None,
    }
}

/// A number as JSON; what JSON has no number for as V2 writes it.
fn float(n: f64) -> Value {
    let word = || {
        if n.is_nan() {
            "NaN"
        } else if n > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
    };
    Number::from_f64(n).map_or_else(|| word().into(), Value::Number)
}

fn texts(mut bytes: &[u8]) -> Option<Value> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        out.push(String::from_utf8_lossy(text).into_owned().into());
        bytes = rest;
    }
    Some(Value::Array(out))
}

/// A `ModelInferRequest` with raw contents, behind gRPC's prefix.
pub(crate) fn request(model: &str, version: Option<&str>, tensors: &[Tensor]) -> Option<Vec<u8>> {
    let input = |tensor: &Tensor| InferInputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.clone(),
        shape: tensor.shape.clone(),
        ..InferInputTensor::default()
    };
    let contents = tensors.iter().map(|tensor| raw(&tensor.datatype, &tensor.data).map(Into::into));
    let message = infer_message(&ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.unwrap_or_default().to_owned(),
        inputs: tensors.iter().map(input).collect(),
        raw_input_contents: contents.collect::<Option<_>>()?,
        ..ModelInferRequest::default()
    });
    let mut out = vec![0];
    out.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
    out.extend(message);
    Some(out)
}

/// A `ModelInferResponse` with raw contents, in V2's JSON form.
pub(crate) fn read_response(message: &[u8]) -> Option<Value> {
    let response = read_infer_message(Bytes::copy_from_slice(message)).ok()?;
    let mut contents = response.raw_output_contents.iter();
    let outputs = response.outputs.iter().map(|output| {
        let mut value = json!({"name": output.name, "datatype": output.datatype, "shape": output.shape});
        if let Some(raw) = contents.next() {
            value["data"] = elements(&output.datatype, raw)?;
        }
        Some(value)
    });
    Some(json!({"outputs": outputs.collect::<Option<Vec<_>>>()?}))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_the_bytes_that_protobuf_writes() {
        let tensor = Tensor {
            name: "x".into(),
            datatype: "INT32".into(),
            shape: vec![1, 200],
            data: vec![json!(1), json!(-1.0)],
        };
        // protoc --encode=inference.ModelInferRequest of the same message.
        let message = b"\x0a\x01m\x12\x011\x2a\x0f\x0a\x01x\x12\x05INT32\x1a\x03\x01\xc8\x01\x3a\x08\x01\0\0\0\xff\xff\xff\xff";
        let mut want = vec![0, 0, 0, 0, message.len() as u8];
        want.extend(message);
        assert_eq!(request("m", Some("1"), &[tensor]), Some(want));
    }

    #[test]
    fn an_answer_is_read_and_a_broken_one_is_not() {
        // protoc --encode=inference.ModelInferResponse of the same message.
        let message =
            b"\x0a\x01m\x2a\x0d\x0a\x01y\x12\x04FP32\x1a\x02\x01\x02\x32\x08\0\0\xc0\x3f\0\0\x80\x7f";
        let want = json!({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, "Infinity"]}]});
        assert_eq!(read_response(message), Some(want));
        assert_eq!(read_response(&message[..message.len() - 1]), None);
        assert_eq!(read_response(&[0x0b]), None);
        assert_eq!(read_response(&[0xff; 12]), None);
    }

    #[test]
    fn values_that_are_not_of_their_type_are_not_written() {
        for (datatype, value) in [
            ("INT8", json!(128)),
            ("UINT8", json!(-1)),
            ("INT32", json!(0.5)),
            ("FP32", json!("x")),
            ("BYTES", json!(1)),
            ("FP8", json!(1)),
        ] {
            assert_eq!(raw(datatype, std::slice::from_ref(&value)), None, "{datatype} {value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(numbers in proptest::collection::vec(any::<i32>(), 0..9), texts in proptest::collection::vec(".{0,9}", 0..5)) {
            for (datatype, data) in [
                ("INT64", numbers.iter().map(|n| json!(n)).collect::<Vec<_>>()),
                ("FP16", numbers.iter().map(|n| json!(f64::from(n % 1024))).collect()),
                ("BF16", numbers.iter().map(|n| json!(f64::from(n % 256))).collect()),
                ("FP64", numbers.iter().map(|n| json!(f64::from(*n) / 7.0)).collect()),
                ("BYTES", texts.iter().map(|t| json!(t)).collect()),
            ] {
                prop_assert_eq!(elements(datatype, &raw(datatype, &data).unwrap()), Some(Value::Array(data)));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = read_response(&bytes);
            let _ = elements("BYTES", &bytes);
        }
    }
}
