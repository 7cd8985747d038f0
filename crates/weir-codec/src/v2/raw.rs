//! Tensors as bytes: row-major, little-endian; each element of BYTES behind its length as
//! four bytes (Triton's binary tensor data extension; gRPC's raw contents are the same).

use weir_types::{DType, TensorData, element_count};

use super::datatype;

/// Bytes of the length before each element of BYTES.
const LENGTH_BYTES: usize = 4;

/// Reads a tensor of `dtype` and `shape` from all of `bytes`. Nothing is allocated before the
/// bytes are known to hold it.
///
/// # Errors
/// A sentence where the bytes are not exactly that tensor.
pub fn read_raw(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<TensorData, String> {
    let count = element_count(shape).map_err(|e| e.to_string())?;
    match dtype.size_bytes() {
        Some(size) => {
            // `element_count` has seen to it that this product fits.
            if count * size != bytes.len() {
                return Err(format!(
                    "shape {shape:?} of {} takes {} bytes, got {}",
                    datatype(dtype),
                    count * size,
                    bytes.len()
                ));
            }
            numbers(dtype, bytes).ok_or_else(|| "a BOOL is the byte 0 or 1".to_owned())
        }
        None => strings(count, bytes).map(TensorData::String),
    }
}

/// `None` for a boolean that is neither 0 nor 1.
fn numbers(dtype: DType, bytes: &[u8]) -> Option<TensorData> {
    macro_rules! le {
        ($variant:ident, $t:ty) => {
            TensorData::$variant(
                bytes.as_chunks::<{ size_of::<$t>() }>().0.iter().map(|c| <$t>::from_le_bytes(*c)).collect(),
            )
        };
    }
    Some(match dtype {
        DType::Bool => {
            let bit = |b: &u8| (*b < 2).then_some(*b == 1);
            TensorData::Bool(bytes.iter().map(bit).collect::<Option<_>>()?)
        }
        DType::Int8 => le!(Int8, i8),
        DType::Int16 => le!(Int16, i16),
        DType::Int32 => le!(Int32, i32),
        DType::Int64 => le!(Int64, i64),
        DType::Uint8 => le!(Uint8, u8),
        DType::Uint16 => le!(Uint16, u16),
        DType::Uint32 => le!(Uint32, u32),
        DType::Uint64 => le!(Uint64, u64),
        DType::Float16 => le!(Float16, u16),
        DType::Bfloat16 => le!(Bfloat16, u16),
        DType::Float32 => le!(Float32, f32),
        DType::Float64 => le!(Float64, f64),
        DType::String => return None,
    })
}

fn strings(count: usize, bytes: &[u8]) -> Result<Vec<String>, String> {
    let wrong = str::to_owned;
    // What the bytes can hold at most, whatever the shape says.
    if count > bytes.len() / LENGTH_BYTES {
        return Err(wrong("there are fewer elements of BYTES than the shape takes"));
    }
    let mut values = Vec::with_capacity(count);
    let mut rest = bytes;
    for _ in 0..count {
        let (length, after) =
            rest.split_first_chunk().ok_or_else(|| wrong("the bytes end within an element's length"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (value, after) = after
            .split_at_checked(length)
            .ok_or_else(|| wrong("an element is longer than the bytes left"))?;
        let text = std::str::from_utf8(value)
            .map_err(|_| wrong("an element of BYTES is not UTF-8, and the model takes text"))?;
        values.push(text.to_owned());
        rest = after;
    }
    if rest.is_empty() { Ok(values) } else { Err(wrong("there are bytes after the last element")) }
}

/// Appends `data` as bytes.
pub fn write_raw(data: &TensorData, out: &mut Vec<u8>) {
    macro_rules! le {
        ($v:expr) => {{
            out.reserve(size_of_val($v.as_slice()));
            $v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        }};
    }
    match data {
        TensorData::Bool(v) => out.extend(v.iter().map(|b| u8::from(*b))),
        TensorData::Int8(v) => le!(v),
        TensorData::Int16(v) => le!(v),
        TensorData::Int32(v) => le!(v),
        TensorData::Int64(v) => le!(v),
        TensorData::Uint8(v) => out.extend_from_slice(v),
        TensorData::Uint16(v) | TensorData::Float16(v) | TensorData::Bfloat16(v) => le!(v),
        TensorData::Uint32(v) => le!(v),
        TensorData::Uint64(v) => le!(v),
        TensorData::Float32(v) => le!(v),
        TensorData::Float64(v) => le!(v),
        TensorData::String(v) => {
            for text in v {
                // An element beyond 4 GiB cannot be told in four bytes; outputs are far below.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let strings = ["", "ä", "long enough"].map(String::from).to_vec();
        for data in [
            TensorData::Bool(vec![true, false, true]),
            TensorData::Int8(vec![-1, 0, 127]),
            TensorData::Uint16(vec![0, 1, u16::MAX]),
            TensorData::Float16(vec![0x3c00, 0x7e00, 0xfc00]),
            TensorData::Int64(vec![i64::MIN, 0, i64::MAX]),
            TensorData::Float32(vec![1.5, f32::INFINITY, -0.0]),
            TensorData::String(strings),
        ] {
            let mut bytes = Vec::new();
            write_raw(&data, &mut bytes);
            assert_eq!(read_raw(data.dtype(), &[3], &bytes), Ok(data));
        }
    }

    #[test]
    fn bytes_that_are_another_tensor_are_refused() {
        let refused = |dtype, shape: &[usize], bytes: &[u8]| read_raw(dtype, shape, bytes).unwrap_err();
        assert!(refused(DType::Float32, &[2], &[0; 7]).contains("takes 8 bytes, got 7"));
        assert!(refused(DType::Bool, &[1], &[2]).contains("0 or 1"));
        assert!(refused(DType::Int8, &[10_000_000_000, 10_000_000_000], &[0]).contains("more elements"));
        assert!(refused(DType::String, &[1 << 40], &[0; 8]).contains("fewer elements"));
        assert!(refused(DType::String, &[1], &[9, 0, 0, 0, 1]).contains("longer than"));
        assert!(refused(DType::String, &[1], &[1, 0, 0, 0, 0xff]).contains("UTF-8"));
        assert!(refused(DType::String, &[1], &[0; 8]).contains("after the last"));
        assert!(refused(DType::String, &[2], &[4, 0, 0, 0, 65, 65, 65, 65, 1, 0]).contains("end within"));
    }
}
