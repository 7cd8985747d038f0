//! Models that keep state, over any engine: the state goes in and comes out beside the request.
//!
//! ```text
//! request ─┐                        ┌─▶ answer
//! state  ──┼─▶ the artefact's ─▶ ───┤
//! controls ┘   inputs               └─▶ state of the next step
//! ```
//!
//! The alternative, states as a second kind of tensors inside each runtime's engine, would have
//! been written once a runtime.

use std::sync::Arc;

use weir_artifact::{Control, ControlWord, Feed, SequenceSpec};
use weir_types::{Batch, DType, Outputs, SequenceId, Signature, Tensor, TensorData};

use crate::{
    CancelFlag, Context, Cost, Engine, EngineError, EngineInfo, Prepared, State, Step,
    onnx::{Plan, tensors},
};

/// An engine whose model keeps state. It takes and gives what clients see; the states of
/// [`Context::steps`] it takes and replaces. Work without steps is the first step of a sequence
/// of its own, which is forgotten.
pub struct SequenceEngine {
    inner: Arc<dyn Engine>,
    spec: Arc<SequenceSpec>,
    /// What clients see.
    plan: Plan,
}

/// Work and where it stands.
type Item<'a> = (&'a Prepared, &'a Step);

impl SequenceEngine {
    /// `inner` runs the artefact, whose tensors are `signature`.
    pub fn new(inner: Arc<dyn Engine>, signature: &Signature, spec: Arc<SequenceSpec>) -> Self {
        Self { plan: Plan::new(spec.visible(signature)), inner, spec }
    }

    /// Runs items that may run together, in one call. Gives what clients see, and the state of
    /// each item.
    fn run(
        &self,
        items: &[Item<'_>],
        wanted: Option<&[usize]>,
        cancel: &CancelFlag,
    ) -> Result<(Outputs, Vec<State>), EngineError> {
        let rows = items.iter().map(|(work, _)| work.rows).sum();
        let inputs = self.spec.feeds.iter().map(|feed| self.feed(feed, items)).collect::<Result<_, _>>()?;
        let prepared = self.inner.prepare(Batch { rows, inputs })?;
        let outputs = Some(self.artefact_outputs(wanted));
        let mut context = Context { outputs, cancel: cancel.clone(), steps: Vec::new() };
        let mut given: Vec<Option<Tensor>> =
            self.inner.execute(&[&prepared], &mut context)?.tensors.into_iter().map(Some).collect();
        let states = self.states(&mut given, items.len())?;
        let seen = self.spec.outputs.iter().map(|&output| take(&mut given, output));
        Ok((Outputs { rows, tensors: seen.collect::<Result<_, _>>()? }, states))
    }

    /// Indices among the artefact's outputs, ascending: those wanted and all states.
    fn artefact_outputs(&self, wanted: Option<&[usize]>) -> Vec<usize> {
        let seen: Vec<usize> = match wanted {
            None => self.spec.outputs.clone(),
            Some(wanted) => wanted.iter().filter_map(|&o| self.spec.outputs.get(o).copied()).collect(),
        };
        let mut all: Vec<usize> = seen.into_iter().chain(self.spec.states.iter().map(|s| s.output)).collect();
        all.sort_unstable();
        all
    }

    fn feed(&self, feed: &Feed, items: &[Item<'_>]) -> Result<Tensor, EngineError> {
        match feed {
            Feed::Request(input) => {
                let parts = items.iter().map(|(work, _)| tensors(work)?.get(*input).ok_or_else(missing));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Tensor::concat_rows(&parts).ok_or_else(missing)
            }
            Feed::State(state) => {
                let spec = self.spec.states.get(*state).ok_or_else(missing)?;
                let own = |step: &Step| match &step.state {
                    None => Ok(spec.initial.clone()),
                    Some(states) => states.get(*state).cloned().ok_or_else(missing),
                };
                let parts = items.iter().map(|(_, step)| own(step)).collect::<Result<Vec<_>, _>>()?;
                stack(parts, spec.axis)
            }
            Feed::Control(control) => {
                let parts = items.iter().flat_map(|(work, step)| {
                    let rows = if control.axis.is_some() { work.rows } else { 1 };
                    std::iter::repeat_with(|| told(control, step)).take(rows)
                });
                stack(parts.collect::<Result<_, _>>()?, control.axis)
            }
            Feed::Constant { value, axis } => {
                let rows = axis.map_or(1, |_| items.iter().map(|(work, _)| work.rows).sum());
                stack(vec![value.clone(); rows], *axis)
            }
        }
    }

    /// The new state of each item, held to the type and shape of the initial one: what a step
    /// leaves is what the next one takes.
    fn states(&self, given: &mut [Option<Tensor>], items: usize) -> Result<Vec<State>, EngineError> {
        let mut states: Vec<Vec<Tensor>> = vec![Vec::with_capacity(self.spec.states.len()); items];
        for spec in &self.spec.states {
            let whole = take(given, spec.output)?;
            let mut shape = spec.initial.shape().to_vec();
            if let Some(rows) = spec.axis.and_then(|axis| shape.get_mut(axis)) {
                *rows = items;
            }
            if whole.dtype() != spec.initial.dtype() || whole.shape() != shape {
                return Err(EngineError::Runtime(format!(
                    "the next state of `{}` came back as {}{:?}, not {}{shape:?}",
                    spec.name,
                    whole.dtype(),
                    whole.shape(),
                    spec.initial.dtype()
                )));
            }
            for (item, state) in states.iter_mut().zip(unstack(whole, spec.axis, items)?) {
                item.push(state);
            }
        }
        Ok(states.into_iter().map(Arc::from).collect())
    }
}

impl Engine for SequenceEngine {
    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }

    fn cost(&self) -> Cost {
        self.inner.cost()
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        self.plan.check(&batch)?;
        if batch.rows == 0 {
            return Err(EngineError::Input("a step of a sequence has a row".into()));
        }
        if self.spec.merges && batch.rows > 1 {
            let rows = batch.rows;
            return Err(EngineError::Input(format!("a step of a sequence is one row, got {rows}")));
        }
        Ok(Plan::prepared(batch.rows, batch.inputs))
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        let fresh;
        let steps: &[Step] = match context.steps.len() {
            0 => {
                fresh = vec![Step::default(); work.len()];
                &fresh
            }
            n if n == work.len() => &context.steps,
            n => return Err(EngineError::Runtime(format!("{n} steps for {} items of work", work.len()))),
        };
        let wanted = self.plan.wanted(context)?;
        let wanted = context.outputs.as_ref().map(|_| &wanted[..]);
        let items: Vec<Item<'_>> = work.iter().copied().zip(steps).collect();
        let groups = if self.spec.merges { items.len().max(1) } else { 1 };
        let (mut parts, mut states) = (Vec::new(), Vec::new());
        for group in items.chunks(groups) {
            if context.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let (outputs, next) = self.run(group, wanted, &context.cancel)?;
            parts.push(outputs);
            states.extend(next);
        }
        // Only now that all went well: a step that fails leaves its state as it was.
        for (step, state) in context.steps.iter_mut().zip(states) {
            step.state = Some(state);
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => {
                parts.extend(last);
                Outputs::concat(&parts).map_err(|e| EngineError::Runtime(e.message.into_owned()))
            }
        }
    }
}

fn missing() -> EngineError {
    EngineError::Runtime("a step lacks a tensor".into())
}

fn take(given: &mut [Option<Tensor>], output: usize) -> Result<Tensor, EngineError> {
    given
        .get_mut(output)
        .and_then(Option::take)
        .ok_or_else(|| EngineError::Runtime("the engine left out an output".into()))
}

/// What a control input holds for one row.
fn told(control: &Control, step: &Step) -> Result<Tensor, EngineError> {
    let truth = match control.kind {
        ControlWord::Start => step.is_first(),
        ControlWord::End => step.end,
        ControlWord::Ready => true,
        ControlWord::Id => return id(&control.no, step.id.as_ref()),
    };
    Ok(if truth { control.yes.clone() } else { control.no.clone() })
}

/// The sequence's id, in the type and shape of `like`.
fn id(like: &Tensor, id: Option<&SequenceId>) -> Result<Tensor, EngineError> {
    let Some(id) = id else { return Ok(like.clone()) };
    let refuse = || {
        let (shown, dtype) = (id.to_string(), like.dtype());
        EngineError::Input(format!("the model takes ids of sequences as {dtype}, which `{shown}` is not"))
    };
    let number = match id {
        SequenceId::Number(number) => Some(*number),
        SequenceId::Text(_) => None,
    };
    let data = match (like.dtype(), number) {
        (DType::String, _) => TensorData::String(vec![id.to_string()]),
        (DType::Int32, Some(n)) => TensorData::Int32(vec![i32::try_from(n).map_err(|_| refuse())?]),
        (DType::Uint32, Some(n)) => TensorData::Uint32(vec![u32::try_from(n).map_err(|_| refuse())?]),
        (DType::Int64, Some(n)) => TensorData::Int64(vec![i64::try_from(n).map_err(|_| refuse())?]),
        (DType::Uint64, Some(n)) => TensorData::Uint64(vec![n]),
        _ => return Err(refuse()),
    };
    Tensor::new(like.shape().to_vec(), data).map_err(|_| refuse())
}

/// Tensors side by side along `axis`, where each has 1; without an axis there is one tensor.
fn stack(mut parts: Vec<Tensor>, axis: Option<usize>) -> Result<Tensor, EngineError> {
    let broken = || EngineError::Runtime("states of several sequences do not fit together".into());
    let n = parts.len();
    match (axis, n) {
        (_, 1) | (None, _) => return parts.pop().ok_or_else(broken),
        _ => {}
    }
    let axis = axis.unwrap_or(0);
    let shape = parts.first().map(|t| t.shape().to_vec()).ok_or_else(broken)?;
    let outer: usize = shape.iter().take(axis).product();
    let flat = parts.into_iter().map(|t| reshaped(t, vec![outer, shape.iter().skip(axis).product()]));
    let flat = flat.collect::<Result<Vec<_>, _>>()?;
    let rows = Tensor::concat_rows(&flat.iter().collect::<Vec<_>>()).ok_or_else(broken)?;
    // From all of the first, then all of the second, to the first of each, then the second.
    let order: Vec<usize> = (0..outer).flat_map(|o| (0..n).map(move |i| i * outer + o)).collect();
    let mut whole = shape;
    *whole.get_mut(axis).ok_or_else(broken)? = n;
    reshaped(if outer == 1 { rows } else { rows.take_rows(&order) }, whole)
}

/// Undoes [`stack`]; `whole` has `n` along `axis`.
fn unstack(whole: Tensor, axis: Option<usize>, n: usize) -> Result<Vec<Tensor>, EngineError> {
    let (Some(axis), 2..) = (axis, n) else { return Ok(vec![whole]) };
    let mut shape = whole.shape().to_vec();
    let outer: usize = shape.iter().take(axis).product();
    let inner: usize = shape.iter().skip(axis + 1).product();
    shape[axis] = 1;
    let rows = reshaped(whole, vec![outer * n, inner])?;
    let part = |i: usize| {
        let order: Vec<usize> = (0..outer).map(|o| o * n + i).collect();
        reshaped(rows.take_rows(&order), shape.clone())
    };
    (0..n).map(part).collect()
}

fn reshaped(tensor: Tensor, shape: Vec<usize>) -> Result<Tensor, EngineError> {
    Tensor::new(shape, tensor.into_data()).map_err(|e| EngineError::Runtime(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_stacked_comes_apart_again(
            n in 1usize..5, axis in prop::option::of(0usize..3), (a, b) in (1usize..4, 1usize..4)
        ) {
            let n = if axis.is_some() { n } else { 1 };
            let mut shape = vec![a, b];
            shape.insert(axis.unwrap_or(0).min(2), 1);
            let size = a * b;
            let parts: Vec<Tensor> = (0..n)
                .map(|i| Tensor::new(shape.clone(), TensorData::Int64((0..size).map(|e| (i * size + e) as i64).collect())).unwrap())
                .collect();
            let whole = stack(parts.clone(), axis).unwrap();
            if let Some(axis) = axis {
                prop_assert_eq!(whole.shape()[axis], n);
            }
            prop_assert_eq!(unstack(whole, axis, n).unwrap(), parts);
        }
    }

    #[test]
    fn an_id_is_told_in_the_type_that_the_model_takes() {
        let like = |data| Tensor::new(vec![1, 1], data).unwrap();
        let int32 = like(TensorData::Int32(vec![0]));
        let of = |like: &Tensor, text: &str| id(like, SequenceId::text(text).unwrap().as_ref());
        assert_eq!(of(&int32, "7").unwrap().data(), &TensorData::Int32(vec![7]));
        assert_eq!(of(&int32, "0").unwrap(), int32);
        let refused = of(&int32, "abc").unwrap_err().to_string();
        assert_eq!(refused, "the model takes ids of sequences as int32, which `abc` is not");
        assert!(of(&int32, "3000000000").is_err());
        let text = like(TensorData::String(vec![String::new()]));
        assert_eq!(of(&text, "7").unwrap().as_strings().unwrap(), ["7"]);
    }
}
