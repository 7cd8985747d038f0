//! A graph compiled into steps: names are resolved once, at load.

use std::collections::{HashMap, HashSet};

use weir_artifact::onnx::{
    OnnxModel,
    proto::{GraphProto, NodeProto},
    tensor as read_tensor,
};
use weir_types::Tensor;

use super::{
    op::{Inputs, Op, Outcome, Source, check_cancel, unsupported},
    table,
};
use crate::{CancelFlag, EngineError};

/// Where a step's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum From {
    /// An optional input that was left out.
    Nothing,
    /// Input of the graph, in signature order.
    Input(usize),
    /// A constant of the file.
    Constant(usize),
    /// What an earlier step made.
    Value(usize),
}

struct Step {
    op: Op,
    operator: String,
    inputs: Vec<From>,
    /// Slots of the outputs; `None` for optional ones that nobody named.
    outputs: Vec<Option<usize>>,
    /// Slots that nobody reads after this step.
    frees: Vec<usize>,
    /// Which outputs of the graph need this step.
    serves: Vec<bool>,
}

/// A compiled graph.
pub(super) struct Graph {
    steps: Vec<Step>,
    constants: Vec<Tensor>,
    outputs: Vec<From>,
    slots: usize,
}

/// What compiling has seen so far.
struct Names<'a> {
    known: HashMap<&'a str, From>,
    slots: usize,
}

impl Graph {
    /// Compiles a graph that passed the gate.
    pub(super) fn compile(model: &OnnxModel) -> Outcome<Self> {
        let Some(graph) = &model.model.graph else {
            return Err(EngineError::Artifact("there is no graph".to_owned()));
        };
        if !graph.sparse_initializer.is_empty() {
            return Err(unsupported("sparse initializers"));
        }
        let mut names = Names { known: HashMap::new(), slots: 0 };
        let constants = constants(graph, &mut names)?;
        for (i, input) in model.signature.inputs.iter().enumerate() {
            names.known.insert(&input.name, From::Input(i));
        }
        let mut steps =
            graph.node.iter().map(|node| step(node, model, &mut names)).collect::<Outcome<Vec<_>>>()?;
        let outputs =
            model.signature.outputs.iter().map(|o| names.get(&o.name)).collect::<Outcome<Vec<_>>>()?;
        mark_served(&mut steps, &outputs);
        mark_freed(&mut steps, &outputs);
        Ok(Self { steps, constants, outputs, slots: names.slots })
    }

    /// Runs what the outputs `wanted` need and gives them, in that order.
    pub(super) fn run<T: AsRef<Tensor>>(
        &self,
        inputs: &[T],
        wanted: &[usize],
        cancel: &CancelFlag,
    ) -> Outcome<Vec<Tensor>> {
        let mut values: Vec<Option<Tensor>> = Vec::new();
        values.resize_with(self.slots, || None);
        let all = wanted.len() == self.outputs.len();
        for step in &self.steps {
            if !all && !wanted.iter().any(|&o| step.serves[o]) {
                continue;
            }
            check_cancel(cancel)?;
            let made = step.run(|from| self.value(from, inputs, &values), cancel)?;
            for (slot, tensor) in step.outputs.iter().zip(made) {
                if let Some(slot) = slot {
                    values[*slot] = Some(tensor);
                }
            }
            step.frees.iter().for_each(|&slot| values[slot] = None);
        }
        let output = |&o: &usize| match self.outputs[o] {
            // Two outputs may be one value, so it is copied unless this is its last use.
            From::Value(slot) if self.outputs.iter().filter(|&&f| f == self.outputs[o]).count() == 1 => {
                values[slot].take()
            }
            from => self.value(from, inputs, &values).cloned(),
        };
        let outputs = wanted.iter().map(output).collect::<Option<Vec<_>>>();
        outputs.ok_or_else(|| EngineError::Runtime("an output was not computed".to_owned()))
    }

    fn value<'a, T: AsRef<Tensor>>(
        &'a self,
        from: From,
        inputs: &'a [T],
        values: &'a [Option<Tensor>],
    ) -> Option<&'a Tensor> {
        match from {
            From::Nothing => None,
            From::Input(i) => inputs.get(i).map(AsRef::as_ref),
            From::Constant(i) => self.constants.get(i),
            From::Value(slot) => values[slot].as_ref(),
        }
    }
}

impl Step {
    fn run<'a>(
        &self,
        value: impl Fn(From) -> Option<&'a Tensor>,
        cancel: &CancelFlag,
    ) -> Outcome<Vec<Tensor>> {
        let call = |inputs: &Inputs<'_>| (self.op)(inputs, cancel).map_err(|e| self.named(e));
        // Most operators read few values: those wait on the stack.
        match *self.inputs {
            [a] => call(&[value(a)]),
            [a, b] => call(&[value(a), value(b)]),
            _ => call(&self.inputs.iter().map(|&from| value(from)).collect::<Vec<_>>()),
        }
    }

    /// Says which operator it was.
    fn named(&self, error: EngineError) -> EngineError {
        let named = |why: String| format!("{}: {why}", self.operator);
        match error {
            EngineError::Input(why) => EngineError::Input(named(why)),
            EngineError::Unsupported { engine, why } => EngineError::Unsupported { engine, why: named(why) },
            EngineError::Artifact(why) => EngineError::Artifact(named(why)),
            EngineError::Runtime(why) => EngineError::Runtime(named(why)),
            EngineError::Cancelled => EngineError::Cancelled,
        }
    }
}

impl<'a> Names<'a> {
    fn get(&self, name: &str) -> Outcome<From> {
        let missing = || EngineError::Artifact(format!("`{name}` is made by no node"));
        self.known.get(name).copied().ok_or_else(missing)
    }

    fn define(&mut self, name: &'a str) -> usize {
        self.known.insert(name, From::Value(self.slots));
        self.slots += 1;
        self.slots - 1
    }
}

fn constants<'a>(graph: &'a GraphProto, names: &mut Names<'a>) -> Outcome<Vec<Tensor>> {
    let mut constants = Vec::with_capacity(graph.initializer.len());
    for proto in &graph.initializer {
        names.known.insert(&proto.name, From::Constant(constants.len()));
        let tensor = read_tensor(proto);
        constants.push(tensor.map_err(|why| unsupported(format!("initializer `{}`: {why}", proto.name)))?);
    }
    Ok(constants)
}

fn step<'a>(node: &'a NodeProto, model: &'a OnnxModel, names: &mut Names<'a>) -> Outcome<Step> {
    let domain = if node.domain == "ai.onnx" { "" } else { &node.domain };
    let compile = table::find(domain, &node.op_type)
        .ok_or_else(|| unsupported(format!("operator {} of domain `{domain}`", node.op_type)))?;
    let opset = model.opsets.iter().find(|(d, _)| d == domain).map_or(1, |(_, version)| *version);
    let read = |name: &String| if name.is_empty() { Ok(From::Nothing) } else { names.get(name) };
    let inputs = node.input.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    let columns = match inputs.first() {
        Some(From::Input(i)) => model.signature.inputs[*i].row_width(),
        _ => None,
    };
    let op = compile(&Source { node, opset, columns })?;
    let define = |name: &'a String| (!name.is_empty()).then(|| names.define(name));
    let outputs = node.output.iter().map(define).collect();
    let operator = node.op_type.clone();
    Ok(Step { op, operator, inputs, outputs, frees: Vec::new(), serves: Vec::new() })
}

/// Finds out which steps each output needs, from the last step back.
fn mark_served(steps: &mut [Step], outputs: &[From]) {
    steps.iter_mut().for_each(|step| step.serves = vec![false; outputs.len()]);
    for (o, &output) in outputs.iter().enumerate() {
        let mut needed = HashSet::from([output]);
        for step in steps.iter_mut().rev() {
            if step.outputs.iter().flatten().any(|&slot| needed.contains(&From::Value(slot))) {
                step.serves[o] = true;
                needed.extend(&step.inputs);
            }
        }
    }
}

/// Finds out after which step each value is read no more.
fn mark_freed(steps: &mut [Step], outputs: &[From]) {
    let mut alive: HashSet<From> = outputs.iter().copied().collect();
    for step in steps.iter_mut().rev() {
        let made = step.outputs.iter().flatten().map(|&slot| From::Value(slot));
        let touched: HashSet<From> = step.inputs.iter().copied().chain(made).collect();
        for from in touched {
            if let (From::Value(slot), true) = (from, alive.insert(from)) {
                step.frees.push(slot);
            }
        }
    }
}
