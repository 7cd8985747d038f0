//! Constant tensors: what they must hold, and what they hold.

use weir_types::{DType, Tensor, TensorData, element_count};

use super::proto::TensorProto;

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// Where the specification keeps the elements of a type when not in `raw_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Float,
    Int32,
    Int64,
    Double,
    Uint64,
    String,
}

/// How `TensorProto.DataType` number `data_type` is stored: name, bits an element, typed
/// field, entries an element in that field. `None` for numbers that ONNX does not have.
fn layout(data_type: i32) -> Option<(&'static str, usize, Store, usize)> {
    Some(match data_type {
        1 => ("float32", 32, Store::Float, 1),
        2 => ("uint8", 8, Store::Int32, 1),
        3 => ("int8", 8, Store::Int32, 1),
        4 => ("uint16", 16, Store::Int32, 1),
        5 => ("int16", 16, Store::Int32, 1),
        6 => ("int32", 32, Store::Int32, 1),
        7 => ("int64", 64, Store::Int64, 1),
        8 => ("string", 0, Store::String, 1),
        9 => ("bool", 8, Store::Int32, 1),
        10 => ("float16", 16, Store::Int32, 1),
        11 => ("float64", 64, Store::Double, 1),
        12 => ("uint32", 32, Store::Uint64, 1),
        13 => ("uint64", 64, Store::Uint64, 1),
        14 => ("complex64", 64, Store::Float, 2),
        15 => ("complex128", 128, Store::Double, 2),
        16 => ("bfloat16", 16, Store::Int32, 1),
        17..=20 | 24 => ("float8", 8, Store::Int32, 1),
        21..=23 => ("4-bit", 4, Store::Int32, 1),
        _ => return None,
    })
}

/// The name of a `TensorProto.DataType`, for messages.
pub(super) fn type_name(data_type: i32) -> String {
    layout(data_type).map_or_else(|| format!("type {data_type}"), |(name, ..)| name.to_owned())
}

/// The element type that `TensorProto.DataType` number `data_type` stands for; `None` for
/// those that Weir's tensors do not have (complex, 8-bit and 4-bit floats, 4-bit integers).
pub fn dtype(data_type: i32) -> Option<DType> {
    Some(match data_type {
        1 => DType::Float32,
        2 => DType::Uint8,
        3 => DType::Int8,
        4 => DType::Uint16,
        5 => DType::Int16,
        6 => DType::Int32,
        7 => DType::Int64,
        8 => DType::String,
        9 => DType::Bool,
        10 => DType::Float16,
        11 => DType::Float64,
        12 => DType::Uint32,
        13 => DType::Uint64,
        16 => DType::Bfloat16,
        _ => return None,
    })
}

fn shape(tensor: &TensorProto) -> Result<Vec<usize>, String> {
    let dims = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    dims.map_err(|_| format!("its shape {:?} has a dimension that cannot be", tensor.dims))
}

/// Checks a constant's type, shape and amount of data against each other, and that its
/// data is in the file.
///
/// # Errors
/// What is wrong, as the rest of a sentence that starts with the tensor's name.
pub(super) fn check(tensor: &TensorProto) -> Result<(), String> {
    if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
        return Err("its data is in another file, which is never followed (a path in a model can point \
                    anywhere); embed it: onnx.save_model(onnx.load(path), new_path, \
                    save_as_external_data=False)"
            .to_owned());
    }
    if tensor.segment.is_some() {
        return Err("it is stored in segments, which no runtime reads".to_owned());
    }
    let Some((name, bits, store, entries)) = layout(tensor.data_type) else {
        return Err(format!("its element type is number {}, which ONNX does not have", tensor.data_type));
    };
    let shape = shape(tensor)?;
    let count = element_count(&shape).map_err(|e| e.to_string())?;
    check_amount(tensor, &shape, name, Amount { count, bits, store, entries })
}

struct Amount {
    count: usize,
    bits: usize,
    store: Store,
    entries: usize,
}

fn check_amount(tensor: &TensorProto, shape: &[usize], name: &str, want: Amount) -> Result<(), String> {
    let held = [
        (Store::Float, tensor.float_data.len()),
        (Store::Int32, tensor.int32_data.len()),
        (Store::Int64, tensor.int64_data.len()),
        (Store::Double, tensor.double_data.len()),
        (Store::Uint64, tensor.uint64_data.len()),
        (Store::String, tensor.string_data.len()),
    ];
    let foreign = held.iter().any(|&(store, n)| n > 0 && store != want.store);
    let typed = held.iter().find(|(store, _)| *store == want.store).map_or(0, |&(_, n)| n);
    let raw = tensor.raw_data.len();
    if foreign || (typed > 0 && raw > 0) {
        return Err(format!("it is {name} but has data of another type as well"));
    }
    // Lengths are compared in wide integers: `bits * count` may pass the machine's word.
    let (got, expected, unit) = if raw > 0 || (typed == 0 && want.store != Store::String) {
        (raw as u128, (want.count as u128 * want.bits as u128).div_ceil(8), "bytes")
    } else if want.bits == 4 {
        (typed as u128, want.count.div_ceil(2) as u128, "entries")
    } else {
        (typed as u128, want.count as u128 * want.entries as u128, "entries")
    };
    if got == expected {
        return Ok(());
    }
    Err(format!("shape {shape:?} of {name} takes {expected} {unit}, the file holds {got}"))
}

/// The tensor's elements, out of whichever field holds them.
///
/// # Errors
/// What is wrong with it, as [`read`](super::read) would have said; or that Weir has no
/// such element type.
pub fn tensor(proto: &TensorProto) -> Result<Tensor, String> {
    check(proto)?;
    let Some(dtype) = dtype(proto.data_type) else {
        return Err(format!("elements of {} are not supported", type_name(proto.data_type)));
    };
    let data = if proto.raw_data.is_empty() { typed(proto, dtype) } else { raw(&proto.raw_data, dtype) };
    Tensor::new(shape(proto)?, data).map_err(|e| e.to_string())
}

/// Elements from the typed fields. Small integers sit in `int32_data`, halves as their bits.
fn typed(t: &TensorProto, dtype: DType) -> TensorData {
    let ints = || t.int32_data.iter();
    match dtype {
        DType::Bool => TensorData::Bool(ints().map(|&v| v != 0).collect()),
        DType::Int8 => TensorData::Int8(ints().map(|&v| v as i8).collect()),
        DType::Int16 => TensorData::Int16(ints().map(|&v| v as i16).collect()),
        DType::Int32 => TensorData::Int32(t.int32_data.clone()),
        DType::Int64 => TensorData::Int64(t.int64_data.clone()),
        DType::Uint8 => TensorData::Uint8(ints().map(|&v| v as u8).collect()),
        DType::Uint16 => TensorData::Uint16(ints().map(|&v| v as u16).collect()),
        DType::Float16 => TensorData::Float16(ints().map(|&v| v as u16).collect()),
        DType::Bfloat16 => TensorData::Bfloat16(ints().map(|&v| v as u16).collect()),
        DType::Uint32 => TensorData::Uint32(t.uint64_data.iter().map(|&v| v as u32).collect()),
        DType::Uint64 => TensorData::Uint64(t.uint64_data.clone()),
        DType::Float32 => TensorData::Float32(t.float_data.clone()),
        DType::Float64 => TensorData::Float64(t.double_data.clone()),
        DType::String => {
            let text = |s: &Vec<u8>| String::from_utf8_lossy(s).into_owned();
            TensorData::String(t.string_data.iter().map(text).collect())
        }
    }
}

/// Elements from `raw_data`, little-endian whatever the machine.
fn raw(bytes: &[u8], dtype: DType) -> TensorData {
    macro_rules! le {
        ($ty:ty) => {
            bytes.as_chunks().0.iter().map(|&b| <$ty>::from_le_bytes(b)).collect()
        };
    }
    match dtype {
        DType::Bool => TensorData::Bool(bytes.iter().map(|&b| b != 0).collect()),
        DType::Int8 => TensorData::Int8(le!(i8)),
        DType::Int16 => TensorData::Int16(le!(i16)),
        DType::Int32 => TensorData::Int32(le!(i32)),
        DType::Int64 => TensorData::Int64(le!(i64)),
        DType::Uint8 => TensorData::Uint8(bytes.to_vec()),
        DType::Uint16 => TensorData::Uint16(le!(u16)),
        DType::Uint32 => TensorData::Uint32(le!(u32)),
        DType::Uint64 => TensorData::Uint64(le!(u64)),
        DType::Float16 => TensorData::Float16(le!(u16)),
        DType::Bfloat16 => TensorData::Bfloat16(le!(u16)),
        DType::Float32 => TensorData::Float32(le!(f32)),
        DType::Float64 => TensorData::Float64(le!(f64)),
        // `check` lets no string tensor through with raw data.
        DType::String => TensorData::String(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::StringStringEntryProto;

    fn floats(dims: Vec<i64>, n: usize) -> TensorProto {
        TensorProto { dims, data_type: 1, float_data: vec![0.5; n], ..Default::default() }
    }

    #[test]
    fn reads_typed_and_raw_data_alike() {
        let typed = floats(vec![2, 1], 2);
        let raw = TensorProto {
            dims: vec![2, 1],
            data_type: 1,
            raw_data: [0.5f32; 2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
            ..Default::default()
        };
        assert_eq!(tensor(&typed), tensor(&raw));
        let halves =
            TensorProto { dims: vec![1], data_type: 10, int32_data: vec![0x3c00], ..Default::default() };
        assert_eq!(tensor(&halves).unwrap().data(), &TensorData::Float16(vec![0x3c00]));
        let scalar = floats(vec![], 1);
        assert_eq!(tensor(&scalar).unwrap().shape(), &[] as &[usize]);
    }

    #[test]
    fn amounts_must_agree() {
        let error = check(&floats(vec![2, 3], 5)).unwrap_err();
        assert_eq!(error, "shape [2, 3] of float32 takes 6 entries, the file holds 5");
        assert!(check(&floats(vec![1 << 62, 8], 5)).unwrap_err().contains("more elements"));
        assert!(check(&floats(vec![-1], 0)).unwrap_err().contains("cannot be"));
        assert!(check(&floats(vec![i64::MAX], 0)).is_err());
        assert_eq!(check(&floats(vec![0, 3], 0)), Ok(()));
        let mut mixed = floats(vec![2], 2);
        mixed.int64_data = vec![1];
        assert!(check(&mixed).unwrap_err().contains("another type"));
        let strings = TensorProto {
            dims: vec![1],
            data_type: 8,
            raw_data: b"abcd".as_slice().into(),
            ..Default::default()
        };
        assert!(check(&strings).is_err());
    }

    #[test]
    fn external_data_is_refused_with_the_fix() {
        for (location, entries) in [(1, vec![]), (0, vec![StringStringEntryProto::default()])] {
            let mut t = floats(vec![1], 1);
            t.data_location = location;
            t.external_data = entries;
            assert!(check(&t).unwrap_err().contains("save_as_external_data=False"));
        }
    }
}
