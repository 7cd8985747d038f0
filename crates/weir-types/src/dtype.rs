//! Element types, by the names of `model.toml` (numpy's, which ONNX and MLflow share).

use std::{fmt, str::FromStr};

/// The element type of a field or tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum DType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Bfloat16,
    Float32,
    Float64,
    String,
}

impl DType {
    /// Every type, in declaration order.
    pub const ALL: [DType; 14] = [
        DType::Bool,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
        DType::Float16,
        DType::Bfloat16,
        DType::Float32,
        DType::Float64,
        DType::String,
    ];

    /// The name used in `model.toml`, error messages and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::Int8 => "int8",
            DType::Int16 => "int16",
            DType::Int32 => "int32",
            DType::Int64 => "int64",
            DType::Uint8 => "uint8",
            DType::Uint16 => "uint16",
            DType::Uint32 => "uint32",
            DType::Uint64 => "uint64",
            DType::Float16 => "float16",
            DType::Bfloat16 => "bfloat16",
            DType::Float32 => "float32",
            DType::Float64 => "float64",
            DType::String => "string",
        }
    }

    /// Bytes of one element in memory; `None` for strings.
    pub fn size_bytes(self) -> Option<usize> {
        match self {
            DType::Bool | DType::Int8 | DType::Uint8 => Some(1),
            DType::Int16 | DType::Uint16 | DType::Float16 | DType::Bfloat16 => Some(2),
            DType::Int32 | DType::Uint32 | DType::Float32 => Some(4),
            DType::Int64 | DType::Uint64 | DType::Float64 => Some(8),
            DType::String => None,
        }
    }

    /// Whether values are floating point, so that NaN can stand for "missing".
    pub fn is_float(self) -> bool {
        matches!(self, DType::Float16 | DType::Bfloat16 | DType::Float32 | DType::Float64)
    }

    /// Inclusive bounds of an integer type; `None` for all others.
    pub fn int_bounds(self) -> Option<(i128, i128)> {
        match self {
            DType::Int8 => Some((i8::MIN.into(), i8::MAX.into())),
            DType::Int16 => Some((i16::MIN.into(), i16::MAX.into())),
            DType::Int32 => Some((i32::MIN.into(), i32::MAX.into())),
            DType::Int64 => Some((i64::MIN.into(), i64::MAX.into())),
            DType::Uint8 => Some((0, u8::MAX.into())),
            DType::Uint16 => Some((0, u16::MAX.into())),
            DType::Uint32 => Some((0, u32::MAX.into())),
            DType::Uint64 => Some((0, u64::MAX.into())),
            _ => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        DType::ALL.into_iter().find(|d| d.as_str() == s).ok_or_else(|| {
            format!("unknown dtype `{s}`, one of: {}", DType::ALL.map(DType::as_str).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(dtype.as_str().parse(), Ok(dtype));
        }
        assert!("float".parse::<DType>().unwrap_err().contains("float32"));
    }
}
