//! What every runtime needs: inputs checked against the signature, requests merged, and
//! outputs put in their places.

use std::{
    any::Any,
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use weir_types::{Batch, Dim, Outputs, Signature, Tensor, TensorData, TensorSpec};

use crate::{Context, EngineError, Payload, Prepared};

/// How a graph's inputs and outputs are fed and read.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Tensors in and out.
    pub(crate) signature: Signature,
    /// Whether the leading dimension of every input and output is the number of rows, so
    /// that requests can be merged. Graphs with a fixed leading dimension or a scalar among
    /// their inputs cannot.
    batching: bool,
}

impl Plan {
    pub(crate) fn new(signature: Signature) -> Self {
        let leading = |t: &TensorSpec| matches!(t.shape.first(), Some(Dim::Any(_)));
        let batching = !signature.inputs.is_empty()
            && signature.inputs.iter().all(leading)
            && signature.outputs.iter().all(leading);
        Self { signature, batching }
    }

    /// Checks `batch` against the signature: number, type, rank and dimensions of inputs.
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), EngineError> {
        let inputs = &self.signature.inputs;
        if batch.inputs.len() != inputs.len() {
            return Err(EngineError::Input(format!(
                "the model takes {} inputs, got {}",
                inputs.len(),
                batch.inputs.len()
            )));
        }
        inputs
            .iter()
            .zip(&batch.inputs)
            .try_for_each(|(spec, tensor)| self.check_one(spec, tensor, batch.rows))
    }

    fn check_one(&self, spec: &TensorSpec, tensor: &Tensor, rows: usize) -> Result<(), EngineError> {
        let fits = |(i, dim): (usize, &Dim)| match dim.fixed() {
            Some(n) => tensor.shape()[i] == n,
            None => i > 0 || !self.batching || tensor.shape()[0] == rows,
        };
        let same = tensor.dtype() == spec.dtype
            && tensor.shape().len() == spec.shape.len()
            && spec.shape.iter().enumerate().all(fits);
        if same {
            return Ok(());
        }
        let rows = if self.batching { format!(" with {rows} rows") } else { String::new() };
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        Err(EngineError::Input(format!("the model takes `{spec}`{rows}, got {dtype}{shape:?}")))
    }

    /// Wraps checked inputs.
    pub(crate) fn prepared(rows: usize, inputs: Vec<Tensor>) -> Prepared {
        Prepared { rows, length: 1, payload: Payload::Tensors(inputs) }
    }

    /// Runs `work` in as few calls of `run` as its shapes allow. `run` gets the inputs in
    /// signature order and the indices of the outputs wanted, and gives those outputs.
    pub(crate) fn execute(
        &self,
        work: &[&Prepared],
        context: &Context,
        run: impl Fn(&[Cow<'_, Tensor>], &[usize]) -> Result<Vec<Tensor>, EngineError>,
    ) -> Result<Outputs, EngineError> {
        let rows = work.iter().map(|w| w.rows).sum();
        let wanted = self.wanted(context)?;
        let inputs = work.iter().map(|w| tensors(w)).collect::<Result<Vec<_>, _>>()?;
        let step = |inputs: &[Cow<'_, Tensor>]| self.step(inputs, &wanted, context, &run);
        let tensors = match self.merged(&inputs) {
            _ if self.batching && rows == 0 => {
                wanted.iter().map(|&o| self.empty(o)).collect::<Result<_, _>>()?
            }
            Some(merged) => {
                let outputs = step(&merged)?;
                // A graph may declare a free leading dimension and answer with another number
                // of rows all the same; then what belongs to whom is only known one by one.
                match inputs.len() > 1 && outputs.iter().any(|t| t.rows() != rows) {
                    true => self.one_by_one(&inputs, &wanted, step)?,
                    false => outputs,
                }
            }
            None => self.one_by_one(&inputs, &wanted, step)?,
        };
        Ok(Outputs { rows, tensors: self.in_places(rows, &wanted, tensors)? })
    }

    /// Indices of the outputs to compute.
    pub(crate) fn wanted(&self, context: &Context) -> Result<Vec<usize>, EngineError> {
        let count = self.signature.outputs.len();
        match &context.outputs {
            None => Ok((0..count).collect()),
            Some(wanted) if wanted.iter().all(|&o| o < count) => Ok(wanted.clone()),
            Some(_) => Err(EngineError::Input(format!("the model has {count} outputs only"))),
        }
    }

    /// The inputs of all requests as one; `None` where they cannot be stacked.
    fn merged<'a>(&self, inputs: &[&'a [Tensor]]) -> Option<Vec<Cow<'a, Tensor>>> {
        if let [only] = inputs {
            return Some(only.iter().map(Cow::Borrowed).collect());
        }
        if !self.batching {
            return None;
        }
        (0..self.signature.inputs.len())
            .map(|i| {
                let parts: Vec<&Tensor> = inputs.iter().map(|one| one.get(i)).collect::<Option<_>>()?;
                Tensor::concat_rows(&parts).map(Cow::Owned)
            })
            .collect()
    }

    fn one_by_one(
        &self,
        inputs: &[&[Tensor]],
        wanted: &[usize],
        step: impl Fn(&[Cow<'_, Tensor>]) -> Result<Vec<Tensor>, EngineError>,
    ) -> Result<Vec<Tensor>, EngineError> {
        let one = |inputs: &&[Tensor]| step(&inputs.iter().map(Cow::Borrowed).collect::<Vec<_>>());
        let parts = inputs.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let stacked = |(i, &o): (usize, &usize)| {
            let column: Vec<&Tensor> = parts.iter().map(|p| &p[i]).collect();
            Tensor::concat_rows(&column).ok_or_else(|| {
                let name = &self.signature.outputs[o].name;
                EngineError::Runtime(format!("output `{name}` of merged requests differs in shape"))
            })
        };
        wanted.iter().enumerate().map(stacked).collect()
    }

    /// One call of the runtime: its panics become errors, its outputs are compared with the
    /// signature.
    fn step(
        &self,
        inputs: &[Cow<'_, Tensor>],
        wanted: &[usize],
        context: &Context,
        run: impl Fn(&[Cow<'_, Tensor>], &[usize]) -> Result<Vec<Tensor>, EngineError>,
    ) -> Result<Vec<Tensor>, EngineError> {
        if context.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let outputs = guarded(|| run(inputs, wanted))??;
        for (&o, tensor) in wanted.iter().zip(&outputs) {
            let spec = &self.signature.outputs[o];
            if tensor.dtype() != spec.dtype {
                return Err(EngineError::Runtime(format!("output `{spec}` came back as {}", tensor.dtype())));
            }
        }
        Ok(outputs)
    }

    /// An output of no rows; dimensions that only the runtime knows are 0.
    fn empty(&self, output: usize) -> Result<Tensor, EngineError> {
        let spec = &self.signature.outputs[output];
        let inner = spec.shape.iter().skip(1).map(|d| d.fixed().unwrap_or(0));
        hollow(std::iter::once(0).chain(inner).collect(), spec)
    }

    /// Puts the outputs in signature order, with `[rows, 0]` where one was not wanted.
    fn in_places(
        &self,
        rows: usize,
        wanted: &[usize],
        tensors: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, EngineError> {
        // The usual case, spared the detour: all of them, in order.
        if wanted.iter().copied().eq(0..self.signature.outputs.len()) {
            return Ok(tensors);
        }
        let outputs = self.signature.outputs.iter();
        let mut places = outputs.map(|spec| hollow(vec![rows, 0], spec)).collect::<Result<Vec<_>, _>>()?;
        for (&o, tensor) in wanted.iter().zip(tensors) {
            places[o] = tensor;
        }
        Ok(places)
    }
}

/// A tensor without elements; `shape` has a zero.
fn hollow(shape: Vec<usize>, spec: &TensorSpec) -> Result<Tensor, EngineError> {
    Tensor::new(shape, TensorData::with_capacity(spec.dtype, 0))
        .map_err(|e| EngineError::Runtime(format!("output `{spec}`: {e}")))
}

/// The tensors of what [`Plan::prepared`] wrapped.
pub(crate) fn tensors(work: &Prepared) -> Result<&[Tensor], EngineError> {
    match &work.payload {
        Payload::Tensors(tensors) => Ok(tensors),
        Payload::Tokens(_) => Err(EngineError::Runtime("got tokens where tensors belong".into())),
    }
}

/// Runs `call`; a panic becomes [`EngineError::Runtime`].
pub(crate) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, EngineError> {
    // Nothing that the closures of this crate touch is left half-changed by a panic: the
    // runtimes' models are immutable while they run.
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| EngineError::Runtime(format!("the runtime panicked: {}", panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
