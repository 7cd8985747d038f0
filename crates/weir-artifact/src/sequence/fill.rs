//! Tensors of one value.

use weir_types::{DType, Scalar, Tensor, TensorData, element_count};

use crate::rules::scalar;

/// Most elements of one state tensor: 16 million, 64 MiB of floats.
const MAX_ELEMENTS: usize = 16 << 20;

/// A tensor of `dtype` and `shape` whose elements are all `value`; 0, false or "" without one.
///
/// # Errors
/// A value that is none of `dtype`, a half float other than 0, a tensor beyond the bound.
pub(super) fn filled(dtype: DType, shape: Vec<usize>, value: Option<&Scalar>) -> Result<Tensor, String> {
    let count = element_count(&shape).map_err(|e| e.to_string())?;
    if count > MAX_ELEMENTS {
        return Err(format!("{shape:?} has {count} elements, the limit is {MAX_ELEMENTS}"));
    }
    let data = match value {
        None => zeros(dtype, count),
        Some(value) => elements(dtype, count, &scalar(&plain(value, dtype), dtype)?)?,
    };
    Tensor::new(shape, data).map_err(|e| e.to_string())
}

/// Controls are written 0 and 1 also where the input is boolean.
fn plain(value: &Scalar, dtype: DType) -> Scalar {
    match value {
        Scalar::Int(n @ (0 | 1)) if dtype == DType::Bool => Scalar::Bool(*n == 1),
        Scalar::Bool(b) if dtype != DType::Bool => Scalar::Int(i64::from(*b)),
        other => other.clone(),
    }
}

fn zeros(dtype: DType, n: usize) -> TensorData {
    match dtype {
        DType::Bool => TensorData::Bool(vec![false; n]),
        DType::Int8 => TensorData::Int8(vec![0; n]),
        DType::Int16 => TensorData::Int16(vec![0; n]),
        DType::Int32 => TensorData::Int32(vec![0; n]),
        DType::Int64 => TensorData::Int64(vec![0; n]),
        DType::Uint8 => TensorData::Uint8(vec![0; n]),
        DType::Uint16 => TensorData::Uint16(vec![0; n]),
        DType::Uint32 => TensorData::Uint32(vec![0; n]),
        DType::Uint64 => TensorData::Uint64(vec![0; n]),
        DType::Float16 => TensorData::Float16(vec![0; n]),
        DType::Bfloat16 => TensorData::Bfloat16(vec![0; n]),
        DType::Float32 => TensorData::Float32(vec![0.0; n]),
        DType::Float64 => TensorData::Float64(vec![0.0; n]),
        DType::String => TensorData::String(vec![String::new(); n]),
    }
}

/// `n` times `value`, which `scalar` held to the range of `dtype`.
fn elements(dtype: DType, n: usize, value: &Scalar) -> Result<TensorData, String> {
    Ok(match (value, dtype) {
        (Scalar::Bool(b), _) => TensorData::Bool(vec![*b; n]),
        (Scalar::String(s), _) => TensorData::String(vec![s.clone(); n]),
        (Scalar::Float(x), DType::Float32) => TensorData::Float32(vec![*x as f32; n]),
        (Scalar::Float(x), DType::Float64) => TensorData::Float64(vec![*x; n]),
        (Scalar::Float(x), _) if *x == 0.0 => zeros(dtype, n),
        (Scalar::Float(_), _) => return Err(format!("a {dtype} tensor can only begin as 0")),
        (Scalar::Int(i), DType::Int8) => TensorData::Int8(vec![*i as i8; n]),
        (Scalar::Int(i), DType::Int16) => TensorData::Int16(vec![*i as i16; n]),
        (Scalar::Int(i), DType::Int32) => TensorData::Int32(vec![*i as i32; n]),
        (Scalar::Int(i), DType::Uint8) => TensorData::Uint8(vec![*i as u8; n]),
        (Scalar::Int(i), DType::Uint16) => TensorData::Uint16(vec![*i as u16; n]),
        (Scalar::Int(i), DType::Uint32) => TensorData::Uint32(vec![*i as u32; n]),
        (Scalar::Int(i), DType::Uint64) => TensorData::Uint64(vec![*i as u64; n]),
        (Scalar::Int(i), _) => TensorData::Int64(vec![*i; n]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_can_begin_as_zero_and_says_what_it_is() {
        for dtype in DType::ALL {
            let tensor = filled(dtype, vec![2, 3], None).unwrap();
            assert_eq!((tensor.dtype(), tensor.data().len()), (dtype, 6));
        }
    }

    #[test]
    fn values_are_held_to_their_type() {
        let of = |dtype, value| filled(dtype, vec![1], Some(&value)).map(|t| t.data().clone());
        assert_eq!(of(DType::Float32, Scalar::Int(2)), Ok(TensorData::Float32(vec![2.0])));
        assert_eq!(of(DType::Bool, Scalar::Int(1)), Ok(TensorData::Bool(vec![true])));
        assert_eq!(of(DType::Int8, Scalar::Int(-7)), Ok(TensorData::Int8(vec![-7])));
        assert_eq!(of(DType::Int8, Scalar::Int(200)).unwrap_err(), "200 is no int8");
        assert!(of(DType::Float16, Scalar::Float(0.5)).unwrap_err().contains("only begin as 0"));
        assert!(filled(DType::Int8, vec![1 << 30], None).unwrap_err().contains("limit"));
    }
}
