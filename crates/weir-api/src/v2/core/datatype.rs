//! The protocol's element types and bytes, with errors in the terms of a request.

use weir_types::{DType, Error, TensorData};

use super::cut;

/// The type called `name`.
///
/// # Errors
/// `InvalidArgument`, naming those there are.
pub(crate) fn dtype(name: &str) -> Result<DType, Error> {
    weir_codec::v2::dtype(name).map_err(Error::invalid)
}

/// Reads the input `name` of `dtype` and `shape` from all of `bytes`.
///
/// # Errors
/// `InvalidArgument` where the bytes are not exactly that tensor.
pub(crate) fn read_raw(name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<TensorData, Error> {
    let read = weir_codec::v2::read_raw(dtype, shape, bytes);
    read.map_err(|why| Error::invalid(format!("input `{}`: {why}", cut(name))))
}
