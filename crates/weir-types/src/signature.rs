//! What a model takes and gives, tensor by tensor.

use std::fmt;

use crate::DType;

/// One dimension of a tensor's shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known when the model is loaded.
    Fixed(usize),
    /// A size that each request decides; with the exporter's name for it if it gave one.
    Any(Option<String>),
}

impl Dim {
    /// The size, if it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            Dim::Any(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Any(Some(name)) => f.write_str(name),
            Dim::Any(None) => f.write_str("?"),
        }
    }
}

/// Name, element type and shape of one input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor's name in the artefact.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// All dimensions, the batch dimension first where the model has one.
    pub shape: Vec<Dim>,
}

impl TensorSpec {
    /// Elements in one row (all dimensions but the leading one); `None` where one of them
    /// is decided by the request.
    pub fn row_width(&self) -> Option<usize> {
        self.shape.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[", self.name, self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// The inputs and outputs of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Inputs, in the artefact's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the artefact's order.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// Index of the output called `name`.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|o| o.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_as_a_person_would_write_it() {
        let spec = TensorSpec {
            name: "input".into(),
            dtype: DType::Float32,
            shape: vec![Dim::Any(Some("N".into())), Dim::Fixed(8)],
        };
        assert_eq!(spec.to_string(), "input: float32[N, 8]");
        assert_eq!(spec.row_width(), Some(8));
    }
}
