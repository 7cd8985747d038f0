//! Whether a batch holds what Pydantic read.

use serde_json::Value;
use weir_codec::RowDecoder;
use weir_types::{Batch, Tensor, TensorData};

/// Compares a batch with Pydantic's rows (one list a row, in field order).
pub(crate) fn same(decoder: &RowDecoder, batch: &Batch, rows: &Value) -> Result<(), String> {
    let rows = rows.as_array().unwrap();
    if batch.rows != rows.len() {
        return Err(format!("{} rows, Pydantic has {}", batch.rows, rows.len()));
    }
    for (r, row) in rows.iter().enumerate() {
        for (f, value) in row.as_array().unwrap().iter().enumerate() {
            let field = &decoder.schema().fields[f];
            let tensor = &batch.inputs[field.input];
            let mut expected = Vec::new();
            flatten(value, &mut expected);
            let start = r * tensor.row_width() + field.offset;
            for (e, want) in expected.iter().enumerate() {
                if !same_element(tensor, start + e, want) {
                    return Err(format!("row {r}, {}[{e}]: {tensor:?}, Pydantic has {want}", field.name));
                }
            }
        }
    }
    Ok(())
}

fn flatten<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        scalar => out.push(scalar),
    }
}

fn same_element(tensor: &Tensor, at: usize, want: &Value) -> bool {
    let int = |n: i128| want.to_string().parse() == Ok(n);
    let float = |x: f64| same_bits(x, number(want));
    match tensor.data() {
        TensorData::Bool(v) => want.as_bool() == Some(v[at]),
        TensorData::Int8(v) => int(v[at].into()),
        TensorData::Int16(v) => int(v[at].into()),
        TensorData::Int32(v) => int(v[at].into()),
        TensorData::Int64(v) => int(v[at].into()),
        TensorData::Uint8(v) => int(v[at].into()),
        TensorData::Uint16(v) => int(v[at].into()),
        TensorData::Uint32(v) => int(v[at].into()),
        TensorData::Uint64(v) => int(v[at].into()),
        TensorData::Float64(v) => float(v[at]),
        TensorData::Float32(v) => same_bits(v[at].into(), f64::from(number(want) as f32)),
        TensorData::Float16(v) => is_nearest(v[at], number(want), 10),
        TensorData::Bfloat16(v) => is_nearest(v[at], number(want), 7),
        TensorData::String(v) => v[at] == want.as_str().unwrap_or_default(),
    }
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(_) => f64::NAN,
        // Absent: null.
        None => value.as_f64().unwrap_or(f64::NAN),
    }
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Whether no 16-bit float is nearer to `x` than `bits`.
fn is_nearest(bits: u16, x: f64, mantissa: i32) -> bool {
    let distance = |bits: u16| (widen(bits, mantissa) - x).abs();
    let other = [bits.wrapping_sub(1), bits.wrapping_add(1)];
    other.into_iter().all(|b| !widen(b, mantissa).is_finite() || distance(bits) <= distance(b))
}

fn widen(bits: u16, mantissa: i32) -> f64 {
    let bias = (1 << (14 - mantissa)) - 1;
    let exponent = i32::from((bits & 0x7fff) >> mantissa);
    let fraction = f64::from(bits & ((1 << mantissa) - 1)) / 2f64.powi(mantissa);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        e if e == 2 * bias + 1 => f64::INFINITY,
        e => (1.0 + fraction) * 2f64.powi(e - bias),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}
