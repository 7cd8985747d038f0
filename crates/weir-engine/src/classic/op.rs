//! What an operator is, and what all of them need.

use weir_artifact::onnx::proto::NodeProto;
use weir_types::{Tensor, TensorData, TensorError, element_count};

use crate::{CancelFlag, EngineError};

/// The engine's name in errors and in [`EngineInfo`](crate::EngineInfo).
pub(super) const NAME: &str = "native";

/// Most elements of one tensor, intermediate ones included (256 MiB of float32): broadcasting
/// and `Expand` can multiply what a request sent.
const MOST_ELEMENTS: usize = 1 << 26;

/// Result of running or compiling an operator.
pub(super) type Outcome<T> = Result<T, EngineError>;

/// The values that a node reads; `None` for an optional input that was left out.
pub(super) type Inputs<'a> = [Option<&'a Tensor>];

/// A compiled node: attributes are read, only tensors are left to come.
pub(super) type Op = Box<dyn Fn(&Inputs<'_>, &CancelFlag) -> Outcome<Vec<Tensor>> + Send + Sync>;

/// What compiling a node may look at.
pub(super) struct Source<'a> {
    /// The node.
    pub(super) node: &'a NodeProto,
    /// Version of the operator set that the node is from.
    pub(super) opset: i64,
    /// Width of the first input's rows, where the signature fixes it.
    pub(super) columns: Option<usize>,
}

impl Source<'_> {
    /// The model is broken: `why` about this node.
    pub(super) fn broken(&self, why: impl std::fmt::Display) -> EngineError {
        EngineError::Artifact(format!("{} ({}): {why}", self.node.name, self.node.op_type))
    }

    /// The node asks for something that the engine does not do.
    pub(super) fn unsupported(&self, why: impl std::fmt::Display) -> EngineError {
        unsupported(format!("{} ({}): {why}", self.node.name, self.node.op_type))
    }

    /// An attribute out of a list of words, the first of which is the default.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Outcome<T> {
        let given = self.node.string(name);
        let found = match &given {
            None => words.first(),
            Some(given) => words.iter().find(|(word, _)| word == given),
        };
        let unknown = || self.broken(format!("attribute {name} is `{}`", given.as_deref().unwrap_or("")));
        found.map(|(_, value)| *value).ok_or_else(unknown)
    }
}

/// The engine does not do this.
pub(super) fn unsupported(why: impl Into<String>) -> EngineError {
    EngineError::Unsupported { engine: NAME, why: why.into() }
}

/// The tensors of this call do not fit.
pub(super) fn input_error(why: impl Into<String>) -> EngineError {
    EngineError::Input(why.into())
}

/// The operator has no kernel for elements of this type.
pub(super) fn no_kernel(tensor: &Tensor) -> EngineError {
    unsupported(format!("no kernel for elements of {}", tensor.dtype()))
}

/// Input `index`, which the operator needs.
pub(super) fn needed<'a>(inputs: &Inputs<'a>, index: usize) -> Outcome<&'a Tensor> {
    optional(inputs, index).ok_or_else(|| EngineError::Artifact(format!("input {index} is missing")))
}

/// Input `index` if it was given.
pub(super) fn optional<'a>(inputs: &Inputs<'a>, index: usize) -> Option<&'a Tensor> {
    inputs.get(index).copied().flatten()
}

/// The elements of a parameter tensor (axes, shapes, indices).
pub(super) fn integers(tensor: &Tensor) -> Outcome<Vec<i64>> {
    match tensor.data() {
        TensorData::Int64(v) => Ok(v.clone()),
        TensorData::Int32(v) => Ok(v.iter().map(|&i| i.into()).collect()),
        _ => Err(no_kernel(tensor)),
    }
}

/// A list of integers that newer operator sets give as an input and older ones as an
/// attribute; `None` if it is absent.
pub(super) fn list(inputs: &Inputs<'_>, index: usize, attribute: &[i64]) -> Outcome<Option<Vec<i64>>> {
    match optional(inputs, index) {
        Some(tensor) => integers(tensor).map(Some),
        None if attribute.is_empty() => Ok(None),
        None => Ok(Some(attribute.to_vec())),
    }
}

/// Axis `axis` of a tensor of `rank` dimensions; negative ones count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Outcome<usize> {
    let signed = rank as i64;
    let at = if axis < 0 { axis.saturating_add(signed) } else { axis };
    usize::try_from(at)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| input_error(format!("axis {axis} of a tensor of {rank} dimensions")))
}

/// Number of elements of `shape`, checked and bounded: called before anything is allocated.
pub(super) fn count(shape: &[usize]) -> Outcome<usize> {
    let too_many =
        || input_error(format!("a result of shape {shape:?} is larger than {MOST_ELEMENTS} elements"));
    element_count(shape).ok().filter(|&n| n <= MOST_ELEMENTS).ok_or_else(too_many)
}

/// A tensor whose shape and data an operator computed itself.
pub(super) fn tensor(shape: Vec<usize>, data: TensorData) -> Outcome<Tensor> {
    Tensor::new(shape, data).map_err(|e: TensorError| EngineError::Runtime(e.to_string()))
}

/// One tensor, as what an operator gives back.
pub(super) fn one(shape: Vec<usize>, data: TensorData) -> Outcome<Vec<Tensor>> {
    Ok(vec![tensor(shape, data)?])
}

/// `(rows, columns)` of a matrix; a vector is one row, as in onnxruntime's `ai.onnx.ml`.
pub(super) fn matrix(tensor: &Tensor) -> Outcome<(usize, usize)> {
    match *tensor.shape() {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => Err(input_error(format!("a matrix is needed, the shape is {:?}", tensor.shape()))),
    }
}

/// The elements as float32, converted where they are numbers of another type.
pub(super) fn floats(tensor: &Tensor) -> Outcome<std::borrow::Cow<'_, [f32]>> {
    Ok(match tensor.data() {
        TensorData::Float32(v) => v.into(),
        TensorData::Float64(v) => v.iter().map(|&x| x as f32).collect(),
        TensorData::Int64(v) => v.iter().map(|&x| x as f32).collect(),
        TensorData::Int32(v) => v.iter().map(|&x| x as f32).collect(),
        _ => return Err(no_kernel(tensor)),
    })
}

/// Runs `$body` with `$v` bound to the vector inside and wraps the vector it gives again.
macro_rules! map_data {
    ($data:expr, $v:ident => $body:expr) => {{
        use weir_types::TensorData as D;
        match $data {
            D::Bool($v) => D::Bool($body),
            D::Int8($v) => D::Int8($body),
            D::Int16($v) => D::Int16($body),
            D::Int32($v) => D::Int32($body),
            D::Int64($v) => D::Int64($body),
            D::Uint8($v) => D::Uint8($body),
            D::Uint16($v) => D::Uint16($body),
            D::Uint32($v) => D::Uint32($body),
            D::Uint64($v) => D::Uint64($body),
            D::Float16($v) => D::Float16($body),
            D::Bfloat16($v) => D::Bfloat16($body),
            D::Float32($v) => D::Float32($body),
            D::Float64($v) => D::Float64($body),
            D::String($v) => D::String($body),
        }
    }};
}
pub(super) use map_data;

/// The elements at `indices`, which lie within `data`.
pub(super) fn take(data: &TensorData, indices: &[usize]) -> TensorData {
    fn of<T: Clone>(v: &[T], indices: &[usize]) -> Vec<T> {
        indices.iter().map(|&i| v[i].clone()).collect()
    }
    map_data!(data, v => of(v, indices))
}

/// `n` times the only element of `data`, or nothing where it has not one.
pub(super) fn repeat(data: &TensorData, n: usize) -> TensorData {
    fn of<T: Clone>(v: &[T], n: usize) -> Vec<T> {
        v.first().map_or_else(Vec::new, |x| vec![x.clone(); n])
    }
    map_data!(data, v => of(v, n))
}

/// Row-major strides of `shape`, in elements.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i].max(1);
    }
    out
}

/// For each element of a result of `shape`, where it comes from when moving by one along
/// dimension `d` moves `steps[d]` elements in the source.
pub(super) fn gather_offsets(shape: &[usize], steps: &[usize], base: usize) -> Outcome<Vec<usize>> {
    let mut out = Vec::with_capacity(count(shape)?);
    if shape.contains(&0) {
        return Ok(out);
    }
    let mut at = vec![0usize; shape.len()];
    let mut offset = base;
    loop {
        out.push(offset);
        let mut d = shape.len();
        loop {
            if d == 0 {
                return Ok(out);
            }
            d -= 1;
            at[d] += 1;
            offset += steps[d];
            if at[d] < shape[d] {
                break;
            }
            offset -= steps[d] * shape[d];
            at[d] = 0;
        }
    }
}

/// The same for one input of a broadcast: dimensions of size 1 stay where they are.
pub(super) fn broadcast_steps(from: &[usize], to: &[usize]) -> Vec<usize> {
    let steps = strides(from);
    let missing = to.len() - from.len();
    let step = |d: usize| match d.checked_sub(missing) {
        Some(own) if from[own] != 1 => steps[own],
        _ => 0,
    };
    (0..to.len()).map(step).collect()
}

/// The shape that both `a` and `b` broadcast to (numpy's rules).
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], d: usize| d.checked_sub(rank - shape.len()).map_or(1, |own| shape[own]);
    let join = |d: usize| match (dim(a, d), dim(b, d)) {
        (1, n) | (n, 1) => Ok(n),
        (n, m) if n == m => Ok(n),
        _ => Err(input_error(format!("shapes {a:?} and {b:?} do not broadcast"))),
    };
    (0..rank).map(join).collect()
}

/// Ends work that nobody waits for.
pub(super) fn check_cancel(cancel: &CancelFlag) -> Outcome<()> {
    if cancel.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}
