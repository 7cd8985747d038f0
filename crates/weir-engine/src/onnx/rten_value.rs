//! Tensors between Weir and rten, which has four element types: float32, int32, int8, uint8.

use rten::{Value, ValueOrView, ValueView};
use rten_tensor::{Layout, Tensor as RtenTensor};
use weir_types::{DType, Tensor, TensorData, TensorSpec};

use crate::EngineError;

/// Whether rten computes with `dtype`. It holds int64 and bool as int32. It would also take
/// float64 and float16 as float32; that is refused, since answers would silently be those of
/// another precision.
pub(super) fn supports(dtype: DType) -> bool {
    matches!(dtype, DType::Float32 | DType::Int32 | DType::Int64 | DType::Int8 | DType::Uint8 | DType::Bool)
}

/// The same tensor in a type that rten has.
///
/// # Errors
/// [`EngineError::Input`] for an int64 that int32 cannot hold.
pub(super) fn narrowed(spec: &TensorSpec, tensor: Tensor) -> Result<Tensor, EngineError> {
    let shape = tensor.shape().to_vec();
    let data = match tensor.data() {
        TensorData::Int64(values) => TensorData::Int32(int32s(spec, values)?),
        TensorData::Bool(values) => TensorData::Int32(values.iter().map(|&b| i32::from(b)).collect()),
        _ => return Ok(tensor),
    };
    Tensor::new(shape, data).map_err(|e| EngineError::Runtime(e.to_string()))
}

fn int32s(spec: &TensorSpec, values: &[i64]) -> Result<Vec<i32>, EngineError> {
    let narrow = |(i, &v): (usize, &i64)| {
        i32::try_from(v).map_err(|_| {
            EngineError::Input(format!(
                "element {i} of `{}` is {v}: this model is served with 32-bit integers, so it must lie \
                 between {} and {}",
                spec.name,
                i32::MIN,
                i32::MAX
            ))
        })
    };
    values.iter().enumerate().map(narrow).collect()
}

/// A narrowed tensor as rten takes it, borrowed.
pub(super) fn view(tensor: &Tensor) -> Result<ValueOrView<'_>, EngineError> {
    let shape = tensor.shape();
    let view = match tensor.data() {
        TensorData::Float32(v) => ValueView::from_shape(shape, v).ok(),
        TensorData::Int32(v) => ValueView::from_shape(shape, v).ok(),
        TensorData::Int8(v) => ValueView::from_shape(shape, v).ok(),
        TensorData::Uint8(v) => ValueView::from_shape(shape, v).ok(),
        _ => None,
    };
    view.map(ValueOrView::from)
        .ok_or_else(|| EngineError::Runtime(format!("rten cannot be given {}{shape:?}", tensor.dtype())))
}

/// What rten computed, in the type that the signature declares.
pub(super) fn widened(spec: &TensorSpec, value: Value) -> Result<Tensor, EngineError> {
    let (shape, data) = match value {
        Value::FloatTensor(t) => parts(t, TensorData::Float32),
        Value::Int8Tensor(t) => parts(t, TensorData::Int8),
        Value::UInt8Tensor(t) => parts(t, TensorData::Uint8),
        Value::Int32Tensor(t) => parts(t, |v| widen(spec.dtype, v)),
        _ => return Err(EngineError::Runtime(format!("output `{}` is no tensor", spec.name))),
    };
    Tensor::new(shape, data).map_err(|e| EngineError::Runtime(format!("output `{}`: {e}", spec.name)))
}

fn parts<T: Clone>(
    tensor: RtenTensor<T>,
    data: impl FnOnce(Vec<T>) -> TensorData,
) -> (Vec<usize>, TensorData) {
    let shape = tensor.shape().to_vec();
    (shape, data(tensor.into_data()))
}

fn widen(dtype: DType, values: Vec<i32>) -> TensorData {
    match dtype {
        DType::Int64 => TensorData::Int64(values.into_iter().map(i64::from).collect()),
        DType::Bool => TensorData::Bool(values.into_iter().map(|v| v != 0).collect()),
        _ => TensorData::Int32(values),
    }
}
