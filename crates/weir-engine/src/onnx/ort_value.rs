//! Tensors between Weir and ONNX Runtime: every type that Weir has.

use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use ort::{
    AsPointer, Error,
    memory::Allocator,
    session::SessionInputValue,
    value::{
        DynTensor, DynTensorValueType, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef,
        ValueType,
    },
};
use weir_types::{DType, Tensor, TensorData, TensorSpec};

/// A tensor as ONNX Runtime takes it: borrowed, but for strings, which it copies.
pub(super) fn input(tensor: &Tensor) -> Result<SessionInputValue<'_>, Error> {
    let shape = tensor.shape();
    match tensor.data() {
        TensorData::Bool(v) => borrowed(shape, v),
        TensorData::Int8(v) => borrowed(shape, v),
        TensorData::Int16(v) => borrowed(shape, v),
        TensorData::Int32(v) => borrowed(shape, v),
        TensorData::Int64(v) => borrowed(shape, v),
        TensorData::Uint8(v) => borrowed(shape, v),
        TensorData::Uint16(v) => borrowed(shape, v),
        TensorData::Uint32(v) => borrowed(shape, v),
        TensorData::Uint64(v) => borrowed(shape, v),
        TensorData::Float16(v) => borrowed::<f16>(shape, v.reinterpret_cast()),
        TensorData::Bfloat16(v) => borrowed::<bf16>(shape, v.reinterpret_cast()),
        TensorData::Float32(v) => borrowed(shape, v),
        TensorData::Float64(v) => borrowed(shape, v),
        TensorData::String(v) => strings(shape, v),
    }
}

fn borrowed<'a, T>(shape: &'a [usize], values: &'a [T]) -> Result<SessionInputValue<'a>, Error>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    Ok(TensorRef::from_array_view((shape, values))?.into())
}

/// Copies strings, whatever bytes they hold. `ort::Tensor::from_string_array` refuses NUL.
#[allow(unsafe_code)] // `ort` has no safe call for one element's buffer
fn strings<'a>(shape: &[usize], values: &[String]) -> Result<SessionInputValue<'a>, Error> {
    let mut tensor = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
    for (i, text) in values.iter().enumerate() {
        let mut buffer = std::ptr::null_mut();
        // SAFETY: the tensor is alive, ours alone, of strings, and has `values.len()`
        // elements (`Tensor` guarantees that shape and data agree).
        let status = unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(tensor.ptr_mut(), i, text.len(), &mut buffer)
        };
        // SAFETY: the status of the call above, consumed once.
        unsafe { Error::result_from_status(status) }?;
        if !text.is_empty() {
            // SAFETY: on success the buffer has `text.len()` bytes and overlaps nothing of ours.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), text.len()) };
        }
    }
    Ok(tensor.into())
}

/// What ONNX Runtime computed, as the signature declares it.
pub(super) fn output(spec: &TensorSpec, value: &DynValue) -> Result<Tensor, Error> {
    let data = match spec.dtype {
        DType::Bool => TensorData::Bool(bools(value)?),
        DType::Int8 => TensorData::Int8(copied(value)?),
        DType::Int16 => TensorData::Int16(copied(value)?),
        DType::Int32 => TensorData::Int32(copied(value)?),
        DType::Int64 => TensorData::Int64(copied(value)?),
        DType::Uint8 => TensorData::Uint8(copied(value)?),
        DType::Uint16 => TensorData::Uint16(copied(value)?),
        DType::Uint32 => TensorData::Uint32(copied(value)?),
        DType::Uint64 => TensorData::Uint64(copied(value)?),
        DType::Float16 => {
            TensorData::Float16(value.try_extract_tensor::<f16>()?.1.reinterpret_cast().to_vec())
        }
        DType::Bfloat16 => {
            TensorData::Bfloat16(value.try_extract_tensor::<bf16>()?.1.reinterpret_cast().to_vec())
        }
        DType::Float32 => TensorData::Float32(copied(value)?),
        DType::Float64 => TensorData::Float64(copied(value)?),
        DType::String => TensorData::String(value.try_extract_strings()?.1),
    };
    Tensor::new(shape(value)?, data).map_err(Error::wrap)
}

fn shape(value: &DynValue) -> Result<Vec<usize>, Error> {
    let dims = value.dtype().tensor_shape().ok_or_else(|| Error::new("an output is no tensor"))?;
    dims.iter().map(|&d| usize::try_from(d).map_err(Error::wrap)).collect()
}

fn copied<T: PrimitiveTensorElementType + Clone>(value: &DynValue) -> Result<Vec<T>, Error> {
    Ok(value.try_extract_tensor::<T>()?.1.to_vec())
}

/// Reads bytes rather than `bool`s: a constant in a file may hold a 2 where a bool belongs,
/// which ONNX Runtime passes on and Rust must never see.
#[allow(unsafe_code)] // `ort` extracts a tensor as its own type only
fn bools(value: &DynValue) -> Result<Vec<bool>, Error> {
    let tensor = value.view().downcast::<DynTensorValueType>()?;
    if tensor.data_type() != &TensorElementType::Bool {
        return Err(Error::new(format!("an output is {}, not bool", tensor.data_type())));
    }
    let count = tensor.shape().num_elements();
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: a bool tensor has one byte an element, `count` of them, initialised by the
    // runtime, in CPU memory since no other provider is used; it lives as long as `value`.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), count) };
    Ok(bytes.iter().map(|&b| b != 0).collect())
}

/// The element type of a declared tensor; `None` for sequences, maps and types that Weir
/// does not have.
pub(super) fn dtype(declared: &ValueType) -> Option<DType> {
    Some(match declared.tensor_type()? {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Int8 => DType::Int8,
        TensorElementType::Int16 => DType::Int16,
        TensorElementType::Int32 => DType::Int32,
        TensorElementType::Int64 => DType::Int64,
        TensorElementType::Uint8 => DType::Uint8,
        TensorElementType::Uint16 => DType::Uint16,
        TensorElementType::Uint32 => DType::Uint32,
        TensorElementType::Uint64 => DType::Uint64,
        TensorElementType::Float16 => DType::Float16,
        TensorElementType::Bfloat16 => DType::Bfloat16,
        TensorElementType::Float32 => DType::Float32,
        TensorElementType::Float64 => DType::Float64,
        TensorElementType::String => DType::String,
        _ => return None,
    })
}
