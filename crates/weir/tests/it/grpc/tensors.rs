//! Tensors as each form of a request has them, written without the server's own code.

use serde_json::{Value, json};
use weir_api::grpc::wire::inference::InferTensorContents;

/// A tensor, its elements as JSON: floats by their bits, so that NaN is itself and -0 is not 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
    pub(super) values: Vec<Value>,
}

impl Tensor {
    /// As the protocol's JSON has it. Nested lists are flattened.
    pub(super) fn from_json(json: &Value) -> Self {
        fn flat(value: &Value, into: &mut Vec<Value>) {
            match value {
                Value::Array(items) => items.iter().for_each(|item| flat(item, into)),
                other => into.push(other.clone()),
            }
        }
        let mut values = Vec::new();
        flat(&json["data"], &mut values);
        if json.get("data").is_none() {
            values.clear();
        }
        let datatype = json["datatype"].as_str().unwrap_or_default();
        Self { values: values.into_iter().map(|v| canonical(datatype, v)).collect(), ..Self::head(json) }
    }

    /// Its elements as bytes.
    pub(super) fn from_bytes(json: &Value, bytes: &[u8]) -> Self {
        let head = Self::head(json);
        Self { values: Self::values_from_bytes(&head.datatype, bytes), ..head }
    }

    fn head(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let shape = json["shape"].as_array().into_iter().flatten().map(|n| n.as_i64().unwrap()).collect();
        Self { name: text("name"), datatype: text("datatype"), shape, values: Vec::new() }
    }

    pub(super) fn values_from_bytes(datatype: &str, bytes: &[u8]) -> Vec<Value> {
        if datatype == "BYTES" {
            return texts(bytes);
        }
        let one = |chunk: &[u8]| -> Value {
            let mut wide = [0; 8];
            wide[..chunk.len()].copy_from_slice(chunk);
            let bits = u64::from_le_bytes(wide);
            match datatype {
                "BOOL" => json!(bits == 1),
                "INT8" => json!(bits as u8 as i8),
                "INT16" => json!(bits as u16 as i16),
                "INT32" => json!(bits as u32 as i32),
                "INT64" => json!(bits as i64),
                "FP32" => real(f32::from_bits(bits as u32).into()),
                "FP64" => real(f64::from_bits(bits)),
                "FP16" => real(half(bits as u16)),
                "BF16" => real(f32::from_bits((bits as u32) << 16).into()),
                _ => json!(bits),
            }
        };
        bytes.chunks_exact(size(datatype).unwrap()).map(one).collect()
    }
}

fn texts(mut bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at(4);
        let (text, rest) = rest.split_at(u32::from_le_bytes(length.try_into().unwrap()) as usize);
        values.push(json!(std::str::from_utf8(text).unwrap()));
        bytes = rest;
    }
    values
}

fn size(datatype: &str) -> Option<usize> {
    Some(match datatype {
        "BOOL" | "INT8" | "UINT8" => 1,
        "INT16" | "UINT16" | "FP16" | "BF16" => 2,
        "INT32" | "UINT32" | "FP32" => 4,
        "INT64" | "UINT64" | "FP64" => 8,
        _ => return None,
    })
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, f64::from(bits & 0x3ff) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        e => (1.0 + fraction) * 2f64.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// A float that compares by its value, but for NaN and the sign of zero.
fn real(x: f64) -> Value {
    if x.is_nan() {
        json!("NaN")
    } else if x.is_infinite() {
        json!(if x > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(x)
    }
}

/// An element of JSON as the types keep it.
fn canonical(datatype: &str, value: Value) -> Value {
    match (datatype, value.as_f64()) {
        ("FP32", Some(x)) => real((x as f32).into()),
        ("FP16" | "BF16" | "FP64", Some(x)) => real(x),
        _ => value,
    }
}

/// The float that an element stands for.
fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// The elements as bytes; `None` for what the type does not hold.
pub(super) fn bytes_of(tensor: &Tensor) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for value in &tensor.values {
        let whole = || value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        match tensor.datatype.as_str() {
            "BOOL" => out.push(value.as_bool()?.into()),
            "BYTES" => {
                let text = value.as_str()?;
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
            }
            "FP32" => out.extend((float(value)? as f32).to_le_bytes()),
            "FP64" => out.extend(float(value)?.to_le_bytes()),
            "FP16" => out.extend(half_bits(float(value)?)?.to_le_bytes()),
            "BF16" => out.extend(((float(value)? as f32).to_bits() >> 16).to_le_bytes()[..2].iter()),
            "INT8" => out.extend(i8::try_from(whole()?).ok()?.to_le_bytes()),
            "INT16" => out.extend(i16::try_from(whole()?).ok()?.to_le_bytes()),
            "INT32" => out.extend(i32::try_from(whole()?).ok()?.to_le_bytes()),
            "INT64" => out.extend(i64::try_from(whole()?).ok()?.to_le_bytes()),
            "UINT8" => out.extend(u8::try_from(whole()?).ok()?.to_le_bytes()),
            "UINT16" => out.extend(u16::try_from(whole()?).ok()?.to_le_bytes()),
            "UINT32" => out.extend(u32::try_from(whole()?).ok()?.to_le_bytes()),
            "UINT64" => out.extend(u64::try_from(whole()?).ok()?.to_le_bytes()),
            // A type that there is not: whatever is sent is refused.
            _ => out.push(0),
        }
    }
    Some(out)
}

/// The bits of the half that is exactly `x`.
fn half_bits(x: f64) -> Option<u16> {
    (0..=u16::MAX).find(|bits| {
        let y = half(*bits);
        (y == x && y.is_sign_negative() == x.is_sign_negative()) || (y.is_nan() && x.is_nan())
    })
}

/// The elements as typed contents; `None` for types that have none.
pub(super) fn typed_of(tensor: &Tensor) -> Option<InferTensorContents> {
    let mut out = InferTensorContents::default();
    for value in &tensor.values {
        match tensor.datatype.as_str() {
            "BOOL" => out.bool_contents.push(value.as_bool()?),
            "BYTES" => out.bytes_contents.push(value.as_str()?.as_bytes().to_vec().into()),
            "FP32" => out.fp32_contents.push(float(value)? as f32),
            "FP64" => out.fp64_contents.push(float(value)?),
            "INT8" | "INT16" | "INT32" => out.int_contents.push(i32::try_from(value.as_i64()?).ok()?),
            "INT64" => out.int64_contents.push(value.as_i64()?),
            "UINT8" | "UINT16" | "UINT32" => out.uint_contents.push(u32::try_from(value.as_u64()?).ok()?),
            "UINT64" => out.uint64_contents.push(value.as_u64()?),
            _ => return None,
        }
    }
    Some(out)
}

/// The elements of typed contents.
pub(super) fn values_of(datatype: &str, contents: &InferTensorContents) -> Vec<Value> {
    let c = contents;
    match datatype {
        "BOOL" => c.bool_contents.iter().map(|b| json!(b)).collect(),
        "BYTES" => c.bytes_contents.iter().map(|b| json!(std::str::from_utf8(b).unwrap())).collect(),
        "FP32" => c.fp32_contents.iter().map(|x| real((*x).into())).collect(),
        "FP64" => c.fp64_contents.iter().map(|x| real(*x)).collect(),
        "INT64" => c.int64_contents.iter().map(|n| json!(n)).collect(),
        "UINT64" => c.uint64_contents.iter().map(|n| json!(n)).collect(),
        "UINT8" | "UINT16" | "UINT32" => c.uint_contents.iter().map(|n| json!(n)).collect(),
        _ => c.int_contents.iter().map(|n| json!(n)).collect(),
    }
}
