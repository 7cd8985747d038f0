//! `Cast`.

use weir_artifact::onnx::dtype;
use weir_types::{DType, TensorData};

use super::op::{Op, Outcome, Source, input_error, needed, one, unsupported};

/// Compiles a cast to the type that attribute `to` names.
pub(super) fn cast(source: &Source<'_>) -> Outcome<Op> {
    let to = source.node.int("to").and_then(|n| i32::try_from(n).ok()).and_then(dtype);
    let to = to.ok_or_else(|| source.unsupported("a cast to this type"))?;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        one(x.shape().to_vec(), convert(x.data(), to)?)
    }))
}

/// Numbers to numbers by Rust's `as`: floats are cut toward zero, out of range ends at the
/// bounds (onnxruntime leaves that to the processor), NaN becomes 0.
fn convert(data: &TensorData, to: DType) -> Outcome<TensorData> {
    macro_rules! number {
        ($v:expr) => {
            match to {
                DType::Float32 => TensorData::Float32($v.iter().map(|&x| x as f32).collect()),
                DType::Float64 => TensorData::Float64($v.iter().map(|&x| x as f64).collect()),
                DType::Int8 => TensorData::Int8($v.iter().map(|&x| x as i8).collect()),
                DType::Int16 => TensorData::Int16($v.iter().map(|&x| x as i16).collect()),
                DType::Int32 => TensorData::Int32($v.iter().map(|&x| x as i32).collect()),
                DType::Int64 => TensorData::Int64($v.iter().map(|&x| x as i64).collect()),
                DType::Uint8 => TensorData::Uint8($v.iter().map(|&x| x as u8).collect()),
                DType::Uint16 => TensorData::Uint16($v.iter().map(|&x| x as u16).collect()),
                DType::Uint32 => TensorData::Uint32($v.iter().map(|&x| x as u32).collect()),
                DType::Uint64 => TensorData::Uint64($v.iter().map(|&x| x as u64).collect()),
                DType::Bool => TensorData::Bool($v.iter().map(|&x| x as f64 != 0.0).collect()),
                DType::String => TensorData::String($v.iter().map(|x| x.to_string()).collect()),
                DType::Float16 | DType::Bfloat16 => return Err(unsupported(format!("a cast to {to}"))),
            }
        };
    }
    Ok(match data {
        _ if data.dtype() == to => data.clone(),
        TensorData::Float32(v) if to == DType::String => {
            TensorData::String(v.iter().map(|&x| general(x.into(), 8)).collect())
        }
        TensorData::Float64(v) if to == DType::String => {
            TensorData::String(v.iter().map(|&x| general(x, 17)).collect())
        }
        TensorData::Float32(v) => number!(v),
        TensorData::Float64(v) => number!(v),
        TensorData::Int8(v) => number!(v),
        TensorData::Int16(v) => number!(v),
        TensorData::Int32(v) => number!(v),
        TensorData::Int64(v) => number!(v),
        TensorData::Uint8(v) => number!(v),
        TensorData::Uint16(v) => number!(v),
        TensorData::Uint32(v) => number!(v),
        TensorData::Uint64(v) => number!(v),
        TensorData::Bool(v) => {
            let bits: Vec<u8> = v.iter().map(|&b| b.into()).collect();
            number!(bits)
        }
        TensorData::String(v) => parse(v, to)?,
        TensorData::Float16(_) | TensorData::Bfloat16(_) => {
            return Err(unsupported(format!("a cast from {}", data.dtype())));
        }
    })
}

/// Strings to numbers; what is no number is the caller's mistake.
fn parse(texts: &[String], to: DType) -> Outcome<TensorData> {
    macro_rules! all {
        ($variant:ident, $ty:ty) => {{
            let number = |text: &String| {
                let bad = |_| {
                    input_error(format!("`{}` is not a number", text.chars().take(40).collect::<String>()))
                };
                text.trim().parse::<$ty>().map_err(bad)
            };
            TensorData::$variant(texts.iter().map(number).collect::<Outcome<_>>()?)
        }};
    }
    Ok(match to {
        DType::Float32 => all!(Float32, f32),
        DType::Float64 => all!(Float64, f64),
        DType::Int64 => all!(Int64, i64),
        DType::Int32 => all!(Int32, i32),
        _ => return Err(unsupported(format!("a cast from string to {to}"))),
    })
}

/// C's `%.{digits}g`, which is how onnxruntime writes floats.
fn general(x: f64, digits: usize) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = format!("{x:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{x:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_c_writes_them() {
        let known = [
            (0.1f32, "0.1"),
            (1e10, "1e+10"),
            (1e-5, "9.9999997e-06"),
            (2.5e-3, "0.0024999999"),
            (123_456.79, "123456.79"),
            (-0.25, "-0.25"),
            (100.0, "100"),
        ];
        for (x, text) in known {
            assert_eq!(general(x.into(), 8), text);
        }
    }
}
