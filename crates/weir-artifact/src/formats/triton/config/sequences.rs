//! `sequence_batching` with implicit state: it becomes a [`SequenceTable`].

use std::time::Duration;

use weir_config::HumanDuration;
use weir_types::Scalar;

use super::{Field, Reader, Value, short};
use crate::{ControlTable, ControlWord, SequenceTable, StateTable};

/// Triton's where the file does not say.
const IDLE: Duration = Duration::from_secs(1);

impl Reader {
    /// `sequence_batching`. Shapes are the file's: [`in_rows`] puts the rows before them.
    pub(super) fn sequences(&mut self, field: &Field) -> SequenceTable {
        let mut table = SequenceTable { ttl: HumanDuration(IDLE), ..SequenceTable::default() };
        for inner in self.message(field) {
            match inner.name.as_str() {
                "max_sequence_idle_microseconds" => {
                    let idle = Duration::from_micros(self.count(inner) as u64);
                    table.ttl = HumanDuration(if idle.is_zero() { IDLE } else { idle });
                }
                "control_input" => self.control_input(inner, &mut table.control),
                "state" => table.state.extend(self.state(inner)),
                "direct" | "oldest" => {
                    self.message(inner);
                    self.once(&format!(
                        "the strategy `{}` has no effect: each sequence runs in order, and what waits runs together",
                        inner.name
                    ));
                }
                "iterative_sequence" if !self.truth(inner) => {}
                "iterative_sequence" => self.fault(inner, "iterative sequences cannot be served"),
                _ => self.unknown(inner, "`sequence_batching`"),
            }
        }
        if table.state.is_empty() {
            self.fault(
                field,
                "`sequence_batching` without `state`: a model of ONNX Runtime keeps none itself",
            );
        }
        table
    }

    fn control_input(&mut self, field: &Field, found: &mut Vec<ControlTable>) {
        let (mut name, mut controls) = (None, Vec::new());
        for inner in self.message(field) {
            match inner.name.as_str() {
                "name" => name = self.text(inner),
                "control" => controls.extend(self.control(inner)),
                _ => self.unknown(inner, "a `control_input`"),
            }
        }
        match (name, controls.as_slice()) {
            (Some(input), [(kind, values)]) => {
                found.push(ControlTable { input, kind: *kind, values: values.clone() });
            }
            _ => self.fault(field, "a `control_input` has a `name` and one `control`"),
        }
    }

    fn control(&mut self, field: &Field) -> Option<(ControlWord, Option<[Scalar; 2]>)> {
        // The first of the enumeration, as protobuf has it.
        let mut kind = Some(ControlWord::Start);
        let mut values = Vec::new();
        for inner in self.message(field) {
            match inner.name.as_str() {
                "kind" => kind = self.kind(inner),
                "int32_false_true" | "fp32_false_true" | "bool_false_true" => {
                    values.extend(self.value(inner));
                }
                // The artefact's type is what counts.
                "data_type" => {
                    self.dtype(inner);
                }
                _ => self.unknown(inner, "a `control`"),
            }
        }
        match (values.len(), <[Scalar; 2]>::try_from(values)) {
            (0, _) => Some((kind?, None)),
            (_, Ok(values)) => Some((kind?, Some(values))),
            _ => {
                self.fault(field, "a `control` has two values: for false and for true");
                None
            }
        }
    }

    fn kind(&mut self, field: &Field) -> Option<ControlWord> {
        const KINDS: [(&str, ControlWord); 4] = [
            ("CONTROL_SEQUENCE_START", ControlWord::Start),
            ("CONTROL_SEQUENCE_READY", ControlWord::Ready),
            ("CONTROL_SEQUENCE_END", ControlWord::End),
            ("CONTROL_SEQUENCE_CORRID", ControlWord::Id),
        ];
        let word = if let Value::Word(word) = &field.value { word } else { "" };
        let found = KINDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind);
        if found.is_none() {
            let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            self.fault(field, format!("unknown kind `{}`: it is one of {}", short(word), known.join(", ")));
        }
        found
    }

    fn value(&mut self, field: &Field) -> Option<Scalar> {
        let word = if let Value::Word(word) = &field.value { word.as_str() } else { "" };
        let bool = || match word {
            "true" => Some(Scalar::Bool(true)),
            "false" => Some(Scalar::Bool(false)),
            _ => None,
        };
        let whole = word.parse().ok().map(Scalar::Int);
        let number = || word.parse().ok().map(Scalar::Float);
        let value = whole.or_else(bool).or_else(number);
        if value.is_none() {
            self.fault(field, format!("`{}` holds two numbers or truths", field.name));
        }
        value
    }

    fn state(&mut self, field: &Field) -> Option<StateTable> {
        let before = self.faults.len();
        let (mut input, mut output, mut shape) = (None, None, Vec::new());
        for inner in self.message(field) {
            match inner.name.as_str() {
                "input_name" => input = self.text(inner),
                "output_name" => output = self.text(inner),
                "data_type" => {
                    self.dtype(inner);
                }
                "dims" => shape.extend(self.dim(inner)),
                "initial_state" => self.initial(inner),
                "use_same_buffer_for_input_output" => {
                    self.truth(inner);
                }
                "use_growable_memory" if !self.truth(inner) => {}
                "use_growable_memory" => self.fault(inner, "a state that grows cannot be served"),
                _ => self.unknown(inner, "a `state`"),
            }
        }
        let open = shape.iter().any(|dim| *dim < 0);
        let Some((input, output)) = input.zip(output) else {
            self.fault(field, "a `state` has an `input_name` and an `output_name`");
            return None;
        };
        // What the file leaves open, the artefact may say.
        let shape =
            (!open && !shape.is_empty()).then(|| shape.iter().map(|d| d.unsigned_abs() as usize).collect());
        let (batch_axis, initial) = (None, None);
        (self.faults.len() == before).then_some(StateTable { input, output, shape, batch_axis, initial })
    }

    fn initial(&mut self, field: &Field) {
        for inner in self.message(field) {
            match inner.name.as_str() {
                "zero_data" | "name" => {}
                "data_type" => {
                    self.dtype(inner);
                }
                "dims" => {
                    self.dim(inner);
                }
                "data_file" => {
                    self.fault(inner, "an initial state from a file cannot be served, `zero_data: true` can");
                }
                _ => self.unknown(inner, "an `initial_state`"),
            }
        }
    }
}

/// Where the model has a batch dimension, dimensions are written without it.
pub(super) fn in_rows(table: &mut SequenceTable) {
    for state in &mut table.state {
        state.batch_axis = Some(0);
        if let Some(shape) = &mut state.shape {
            shape.insert(0, 1);
        }
    }
}
