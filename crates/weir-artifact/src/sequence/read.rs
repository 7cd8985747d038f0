//! From `[sequence]` and the artefact's tensors to a [`SequenceSpec`].

use weir_types::{DType, Dim, Scalar, Signature, Tensor, TensorSpec};

use super::{
    ConstantTable, Control, ControlTable, ControlWord, Feed, SequenceSpec, SequenceTable, StateSpec,
    StateTable, by_rows, fill::filled,
};
use crate::{report::Report, task::list};

/// Most state tensors of a model.
const MAX_STATES: usize = 256;

/// What the artefact's tensors are, told to `report` where that makes no sense.
pub(crate) fn read(
    table: &SequenceTable,
    signature: &Signature,
    report: &mut Report,
) -> Option<SequenceSpec> {
    let before = report.problems.len();
    let mut reader = Reader { signature, feeds: vec![None; signature.inputs.len()], report };
    if table.state.is_empty() || table.state.len() > MAX_STATES {
        let message = format!("a stateful model has 1 to {MAX_STATES} `[[sequence.state]]`");
        reader.report.at("sequence.state", message);
    }
    if table.ttl.get().is_zero() {
        reader
            .report
            .at("sequence.ttl", "`sequence.ttl` is longer than nothing: sequences need time between steps");
    }
    // Names first: which inputs are left for requests decides what a batch dimension is called.
    let rows = reader.rows_name(table);
    let states: Vec<_> =
        table.state.iter().enumerate().filter_map(|(i, s)| reader.state(i, s, rows.as_deref())).collect();
    table.control.iter().enumerate().for_each(|(i, control)| reader.control(i, control));
    table.constant.iter().enumerate().for_each(|(i, constant)| reader.constant(i, constant));
    reader.doubles(table);
    let feeds = reader.feeds();
    let hidden = |output: &usize| states.iter().all(|s| s.output != *output);
    let outputs: Vec<usize> = (0..signature.outputs.len()).filter(hidden).collect();
    if outputs.is_empty() {
        report.at("sequence.state", "every output is a state: there is nothing to answer with");
    }
    if !feeds.iter().any(|feed| matches!(feed, Feed::Request(_))) {
        report.at("sequence", "every input is the server's own: there is nothing to ask");
    }
    let merges = merges(&feeds, &states, signature, &outputs);
    let (ttl, max_sequences, queue, store) = (table.ttl.get(), table.max_sequences, table.queue, table.store);
    let spec = SequenceSpec { ttl, max_sequences, queue, store, feeds, states, outputs, merges };
    (report.problems.len() == before).then_some(spec)
}

struct Reader<'a> {
    signature: &'a Signature,
    /// What each input is fed with, as far as it is said.
    feeds: Vec<Option<Feed>>,
    report: &'a mut Report,
}

impl Reader<'_> {
    /// What the artefact calls the leading dimension of what requests bring.
    fn rows_name(&self, table: &SequenceTable) -> Option<String> {
        let asked = self.signature.inputs.iter().filter(|i| !table.feeds(&i.name));
        asked
            .filter_map(|i| match i.shape.first() {
                Some(Dim::Any(Some(name))) => Some(name.clone()),
                _ => None,
            })
            .next()
    }

    fn state(&mut self, index: usize, table: &StateTable, rows: Option<&str>) -> Option<StateSpec> {
        let at = format!("sequence.state[{index}]");
        let input = self.claim(&format!("{at}.input"), &table.input);
        let output = find("output", &self.signature.outputs, &table.output);
        let output = self.report.keep(&format!("{at}.output"), output);
        let (input, output) = (input?, output?);
        let (from, to) = (&self.signature.outputs[output], &self.signature.inputs[input]);
        if from.dtype != to.dtype {
            let message = format!("output {from} cannot become input {to}: their types differ");
            self.report.at(&format!("{at}.output"), message);
        }
        let axis = table.batch_axis.or_else(|| axis(to, rows));
        let shape = self.report.keep(&format!("{at}.shape"), shape(table, to, axis))?;
        if !same_rank(from, &shape) {
            let message = format!("output {from} cannot be a state of {shape:?}: their dimensions differ");
            self.report.at(&format!("{at}.output"), message);
        }
        let initial = filled(to.dtype, shape, table.initial.as_ref());
        let initial = self.report.keep(&format!("{at}.initial"), initial)?;
        self.feeds[input] = Some(Feed::State(index));
        Some(StateSpec { output, name: to.name.clone(), axis, initial })
    }

    fn control(&mut self, index: usize, table: &ControlTable) {
        let at = format!("sequence.control[{index}]");
        let Some(input) = self.claim(&format!("{at}.input"), &table.input) else { return };
        let spec = &self.signature.inputs[input];
        let value = |which: usize| match &table.values {
            Some(values) => row(spec, Some(&values[which])),
            None if table.kind == ControlWord::Id => row(spec, None),
            None => row(spec, Some(&Scalar::Int(which as i64))),
        };
        let values = value(0).and_then(|no| Ok((no, value(1)?))).and_then(|values| match table.kind {
            ControlWord::Id if !ID_TYPES.contains(&spec.dtype) => {
                Err(format!("input {spec} cannot hold an id: it is int32, uint32, int64, uint64 or string"))
            }
            _ => Ok(values),
        });
        let Some((no, yes)) = self.report.keep(&at, values) else { return };
        let axis = by_rows(spec).then_some(0);
        self.feeds[input] = Some(Feed::Control(Control { kind: table.kind, no, yes, axis }));
    }

    fn constant(&mut self, index: usize, table: &ConstantTable) {
        let at = format!("sequence.constant[{index}]");
        let Some(input) = self.claim(&format!("{at}.input"), &table.input) else { return };
        let spec = &self.signature.inputs[input];
        let value = row(spec, Some(&table.value));
        let Some(value) = self.report.keep(&format!("{at}.value"), value) else { return };
        self.feeds[input] = Some(Feed::Constant { value, axis: by_rows(spec).then_some(0) });
    }

    /// The input called `name`, which nothing else may feed.
    fn claim(&mut self, at: &str, name: &str) -> Option<usize> {
        let input = self.report.keep(at, find("input", &self.signature.inputs, name))?;
        if self.feeds[input].is_some() {
            self.report.at(at, format!("the input `{name}` is fed twice"));
            return None;
        }
        Some(input)
    }

    fn doubles(&mut self, table: &SequenceTable) {
        for (i, state) in table.state.iter().enumerate() {
            if table.state[..i].iter().any(|other| other.output == state.output) {
                let message = format!("the output `{}` is two states", state.output);
                self.report.at(&format!("sequence.state[{i}].output"), message);
            }
        }
    }

    /// What is not the server's own comes with requests.
    fn feeds(&mut self) -> Vec<Feed> {
        let mut asked = 0;
        let mut next = || {
            asked += 1;
            Feed::Request(asked - 1)
        };
        self.feeds.iter_mut().map(|feed| feed.take().unwrap_or_else(&mut next)).collect()
    }
}

/// Types that the id of a sequence can be told in, as in Triton.
const ID_TYPES: [DType; 5] = [DType::Int32, DType::Uint32, DType::Int64, DType::Uint64, DType::String];

fn find(what: &str, specs: &[TensorSpec], name: &str) -> Result<usize, String> {
    let found = specs.iter().position(|spec| spec.name == name);
    found.ok_or_else(|| format!("the model has no {what} `{name}`, it has {}", list(specs)))
}

/// Where several sequences stand side by side, if the operator does not say.
fn axis(spec: &TensorSpec, rows: Option<&str>) -> Option<usize> {
    let named = |dim: &Dim| matches!(dim, Dim::Any(Some(name)) if Some(name.as_str()) == rows);
    spec.shape.iter().position(named).or_else(|| by_rows(spec).then_some(0))
}

/// The dimensions of one sequence's state.
fn shape(table: &StateTable, spec: &TensorSpec, axis: Option<usize>) -> Result<Vec<usize>, String> {
    if axis.is_some_and(|axis| axis >= spec.shape.len()) {
        return Err(format!("`batch_axis` is beyond the dimensions of {spec}"));
    }
    let Some(given) = &table.shape else {
        let dim =
            |(i, dim): (usize, &Dim)| if Some(i) == axis { dim.fixed().or(Some(1)) } else { dim.fixed() };
        let known: Option<Vec<usize>> = spec.shape.iter().enumerate().map(dim).collect();
        let known = known.ok_or_else(|| {
            format!("input {spec} leaves dimensions open: give the `shape` of one sequence")
        })?;
        return alone(known, axis, spec);
    };
    let fits = given.len() == spec.shape.len()
        && given
            .iter()
            .zip(&spec.shape)
            .all(|(n, dim)| *n > 0 && dim.fixed().is_none_or(|fixed| fixed == *n));
    if !fits {
        return Err(format!("`shape` {given:?} does not fit input {spec}"));
    }
    alone(given.clone(), axis, spec)
}

/// Along the batch axis there is one sequence.
fn alone(shape: Vec<usize>, axis: Option<usize>, spec: &TensorSpec) -> Result<Vec<usize>, String> {
    match axis {
        Some(axis) if shape[axis] != 1 => Err(format!(
            "the state of one sequence has 1 along its batch axis, dimension {axis} of {spec}, not {}",
            shape[axis]
        )),
        _ => Ok(shape),
    }
}

/// Exporters lose sizes, seldom the number of dimensions.
fn same_rank(output: &TensorSpec, shape: &[usize]) -> bool {
    let undeclared = output.shape.len() == 1 && output.shape[0].fixed().is_none();
    let fits = |(dim, n): (&Dim, &usize)| dim.fixed().is_none_or(|fixed| fixed == *n);
    undeclared || (output.shape.len() == shape.len() && output.shape.iter().zip(shape).all(fits))
}

/// The value of an input that is the server's own, for one row.
fn row(spec: &TensorSpec, value: Option<&Scalar>) -> Result<Tensor, String> {
    filled(spec.dtype, spec.shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect(), value)
}

/// Whether everything has a dimension for several sequences. A constant without one is all of
/// theirs.
fn merges(feeds: &[Feed], states: &[StateSpec], signature: &Signature, outputs: &[usize]) -> bool {
    let stacks = |(feed, spec): (&Feed, &TensorSpec)| match feed {
        Feed::Request(_) => by_rows(spec),
        Feed::State(state) => states.get(*state).is_some_and(|state| state.axis.is_some()),
        Feed::Control(control) => control.axis.is_some(),
        Feed::Constant { .. } => true,
    };
    feeds.iter().zip(&signature.inputs).all(stacks) && outputs.iter().all(|&o| by_rows(&signature.outputs[o]))
}
