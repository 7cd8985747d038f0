//! The elements of tensors as protobuf has them: one list for several types.

use bytes::Bytes;
use weir_types::{DType, Error, TensorData, element_count};

use super::generated::inference::InferTensorContents;
use crate::v2::core::{cut, datatype};

/// Reads typed contents. `name` is for errors.
///
/// # Errors
/// `InvalidArgument` where they are not exactly the tensor that type and shape say.
pub(super) fn read(
    name: &str,
    dtype: DType,
    shape: &[usize],
    mut contents: InferTensorContents,
) -> Result<TensorData, Error> {
    let wrong = |why: String| Error::invalid(format!("input `{}`: {why}", cut(name)));
    let word = datatype(dtype);
    let data = take(dtype, &mut contents).map_err(&wrong)?;
    if contents != InferTensorContents::default() {
        return Err(wrong(format!("only the list for {word} may have elements")));
    }
    let count = element_count(shape).map_err(|e| wrong(e.to_string()))?;
    if data.len() != count {
        let got = data.len();
        return Err(wrong(format!("shape {shape:?} takes {count} elements of {word}, got {got}")));
    }
    Ok(data)
}

/// Takes the list that is for `dtype`.
fn take(dtype: DType, contents: &mut InferTensorContents) -> Result<TensorData, String> {
    use std::mem::take;
    fn narrow<F: Copy + ToString, T: TryFrom<F>>(wide: Vec<F>, dtype: DType) -> Result<Vec<T>, String> {
        let one = |x: F| T::try_from(x).map_err(|_| format!("{} is no {}", x.to_string(), datatype(dtype)));
        wide.into_iter().map(one).collect()
    }
    let InferTensorContents { int_contents: ints, uint_contents: uints, .. } = contents;
    Ok(match dtype {
        DType::Bool => TensorData::Bool(take(&mut contents.bool_contents)),
        DType::Int8 => TensorData::Int8(narrow(take(ints), dtype)?),
        DType::Int16 => TensorData::Int16(narrow(take(ints), dtype)?),
        DType::Int32 => TensorData::Int32(take(ints)),
        DType::Int64 => TensorData::Int64(take(&mut contents.int64_contents)),
        DType::Uint8 => TensorData::Uint8(narrow(take(uints), dtype)?),
        DType::Uint16 => TensorData::Uint16(narrow(take(uints), dtype)?),
        DType::Uint32 => TensorData::Uint32(take(uints)),
        DType::Uint64 => TensorData::Uint64(take(&mut contents.uint64_contents)),
        DType::Float32 => TensorData::Float32(take(&mut contents.fp32_contents)),
        DType::Float64 => TensorData::Float64(take(&mut contents.fp64_contents)),
        DType::String => TensorData::String(texts(take(&mut contents.bytes_contents))?),
        DType::Float16 | DType::Bfloat16 => {
            return Err(format!("{} has no typed contents: send raw_input_contents", datatype(dtype)));
        }
    })
}

fn texts(elements: Vec<Bytes>) -> Result<Vec<String>, String> {
    let text = |element: Bytes| String::from_utf8(element.into());
    let texts: Result<_, _> = elements.into_iter().map(text).collect();
    texts.map_err(|_| "an element of BYTES is not UTF-8, and the model takes text".to_owned())
}

/// Whether `dtype` has typed contents.
pub(super) fn has_typed(dtype: DType) -> bool {
    !matches!(dtype, DType::Float16 | DType::Bfloat16)
}

/// `data` as typed contents; empty for types that [have none](has_typed).
pub(super) fn write(data: TensorData) -> InferTensorContents {
    fn wide<F, T: From<F>>(narrow: Vec<F>) -> Vec<T> {
        narrow.into_iter().map(T::from).collect()
    }
    let mut contents = InferTensorContents::default();
    match data {
        TensorData::Bool(v) => contents.bool_contents = v,
        TensorData::Int8(v) => contents.int_contents = wide(v),
        TensorData::Int16(v) => contents.int_contents = wide(v),
        TensorData::Int32(v) => contents.int_contents = v,
        TensorData::Int64(v) => contents.int64_contents = v,
        TensorData::Uint8(v) => contents.uint_contents = wide(v),
        TensorData::Uint16(v) => contents.uint_contents = wide(v),
        TensorData::Uint32(v) => contents.uint_contents = v,
        TensorData::Uint64(v) => contents.uint64_contents = v,
        TensorData::Float32(v) => contents.fp32_contents = v,
        TensorData::Float64(v) => contents.fp64_contents = v,
        TensorData::String(v) => contents.bytes_contents = wide(v),
        TensorData::Float16(_) | TensorData::Bfloat16(_) => {}
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<TensorData> {
        vec![
            TensorData::Bool(vec![true, false]),
            TensorData::Int8(vec![i8::MIN, i8::MAX]),
            TensorData::Int16(vec![i16::MIN, i16::MAX]),
            TensorData::Int32(vec![i32::MIN, i32::MAX]),
            TensorData::Int64(vec![i64::MIN, i64::MAX]),
            TensorData::Uint8(vec![0, u8::MAX]),
            TensorData::Uint16(vec![0, u16::MAX]),
            TensorData::Uint32(vec![0, u32::MAX]),
            TensorData::Uint64(vec![0, u64::MAX]),
            TensorData::Float32(vec![-0.0, f32::INFINITY]),
            TensorData::Float64(vec![-0.0, f64::NEG_INFINITY]),
            TensorData::String(vec!["".into(), "ä".into()]),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for data in examples() {
            assert!(has_typed(data.dtype()));
            assert_eq!(read("x", data.dtype(), &[2], write(data.clone())), Ok(data));
        }
        assert_eq!(examples().len(), DType::ALL.into_iter().filter(|d| has_typed(*d)).count());
    }

    #[test]
    fn contents_that_are_another_tensor_are_refused() {
        let refused = |dtype, shape: &[usize], contents| {
            let error = read("x", dtype, shape, contents).unwrap_err();
            assert_eq!(error.code, weir_types::ErrorCode::InvalidArgument);
            error.message.into_owned()
        };
        let ints = |v: Vec<i32>| InferTensorContents { int_contents: v, ..Default::default() };
        assert!(refused(DType::Int8, &[1], ints(vec![128])).contains("128 is no INT8"));
        assert!(refused(DType::Int32, &[2], ints(vec![1])).contains("takes 2 elements of INT32, got 1"));
        assert!(refused(DType::Float32, &[0], ints(vec![1])).contains("only the list for FP32"));
        assert!(refused(DType::Float16, &[1], ints(vec![1])).contains("raw_input_contents"));
        assert!(refused(DType::Int32, &[1 << 40, 1 << 40], ints(vec![1])).contains("more elements"));
        let broken =
            InferTensorContents { bytes_contents: vec![Bytes::from_static(b"\xff")], ..Default::default() };
        assert!(refused(DType::String, &[1], broken).contains("UTF-8"));
        for (got, want) in examples().iter().zip(examples().iter().skip(1)) {
            let text = read("x", want.dtype(), &[2], write(got.clone()));
            // INT8 to INT32 share a list, as do UINT8 to UINT32; there it is the range.
            assert!(text.is_err() || want.dtype() > got.dtype(), "{want:?} from {got:?}");
        }
    }
}
