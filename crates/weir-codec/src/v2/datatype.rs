//! The protocol's names of element types.

use weir_types::DType;

use super::cut;

/// Each type and its name in the protocol.
const NAMES: [(DType, &str); 14] = [
    (DType::Bool, "BOOL"),
    (DType::Uint8, "UINT8"),
    (DType::Uint16, "UINT16"),
    (DType::Uint32, "UINT32"),
    (DType::Uint64, "UINT64"),
    (DType::Int8, "INT8"),
    (DType::Int16, "INT16"),
    (DType::Int32, "INT32"),
    (DType::Int64, "INT64"),
    (DType::Float16, "FP16"),
    (DType::Bfloat16, "BF16"),
    (DType::Float32, "FP32"),
    (DType::Float64, "FP64"),
    (DType::String, "BYTES"),
];

/// The protocol's name of `dtype`.
pub fn datatype(dtype: DType) -> &'static str {
    NAMES.iter().find(|(d, _)| *d == dtype).map_or("", |(_, name)| name)
}

/// The type called `name`.
///
/// # Errors
/// A sentence that names those there are.
pub fn dtype(name: &str) -> Result<DType, String> {
    NAMES.iter().find(|(_, n)| *n == name).map(|(dtype, _)| *dtype).ok_or_else(|| {
        let names = NAMES.map(|(_, name)| name).join(", ");
        format!("unknown datatype {:?}, one of: {names}", cut(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_name_that_is_read_back() {
        for d in DType::ALL {
            assert_eq!(dtype(datatype(d)), Ok(d));
        }
        assert!(dtype("FP128").unwrap_err().contains("FP64"));
    }
}
