//! Models that keep state: which of an artefact's inputs and outputs are the server's own.

mod fill;
mod guess;
mod read;
mod table;

use std::time::Duration;

use weir_types::{Dim, Signature, Tensor, TensorSpec};

pub(crate) use guess::guess;
pub(crate) use read::read;
pub use table::{ConstantTable, ControlTable, ControlWord, SequenceStoreWord, SequenceTable, StateTable};

/// How a model's sequences are run.
#[derive(Debug, Clone, PartialEq)]
pub struct SequenceSpec {
    /// How long a sequence may be idle.
    pub ttl: Duration,
    /// Most sequences at the same time.
    pub max_sequences: usize,
    /// Most steps of one sequence that wait for the one before them.
    pub queue: usize,
    /// Where the state is kept besides this process.
    pub store: SequenceStoreWord,
    /// What each input of the artefact is fed with, in the artefact's order.
    pub feeds: Vec<Feed>,
    /// The tensors that go from one step to the next.
    pub states: Vec<StateSpec>,
    /// Which of the artefact's outputs clients see, in the order of
    /// [`ModelSpec::signature`](crate::ModelSpec::signature).
    pub outputs: Vec<usize>,
    /// Whether steps of several sequences can run together: everything that is fed has a
    /// dimension for them.
    pub merges: bool,
}

/// A tensor that goes from one step to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpec {
    /// Index of the artefact's output that gives it.
    pub output: usize,
    /// Its name there.
    pub name: String,
    /// The dimension along which several sequences are stacked; 1 in `initial`.
    pub axis: Option<usize>,
    /// Its value before the first step. Every later one has its type and shape.
    pub initial: Tensor,
}

/// What an input of the artefact is fed with.
#[derive(Debug, Clone, PartialEq)]
pub enum Feed {
    /// The request's input of this index.
    Request(usize),
    /// The state of this index.
    State(usize),
    /// Where in its sequence the step is.
    Control(Control),
    /// The same for all steps.
    Constant {
        /// The value for one row, or for all where there is no `axis`.
        value: Tensor,
        /// 0 where rows are stacked.
        axis: Option<usize>,
    },
}

/// An input that tells where in its sequence a step is.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// What it tells.
    pub kind: ControlWord,
    /// The value for false; for [`ControlWord::Id`] one of the right type and shape.
    pub no: Tensor,
    /// The value for true.
    pub yes: Tensor,
    /// 0 where rows are stacked.
    pub axis: Option<usize>,
}

impl SequenceSpec {
    /// Bytes of the state tensors of one sequence, strings not counted.
    pub fn state_bytes(&self) -> u64 {
        let bytes = |t: &Tensor| t.data().len() as u64 * t.dtype().size_bytes().unwrap_or(0) as u64;
        self.states.iter().map(|state| bytes(&state.initial)).sum()
    }

    /// What `weir inspect` says of it.
    pub(crate) fn note(&self) -> String {
        let (states, bytes) = (self.states.len(), self.state_bytes());
        let together = if self.merges {
            "run together"
        } else {
            "run one by one: not all tensors have a dimension for them"
        };
        format!(
            "keeps {states} state tensors, {bytes} bytes a sequence; steps of several sequences {together}"
        )
    }

    /// What goes through the request, the rest of `signature` being the server's own.
    pub fn visible(&self, signature: &Signature) -> Signature {
        let asked = |(feed, spec): (&Feed, &TensorSpec)| match feed {
            Feed::Request(_) => Some(spec.clone()),
            _ => None,
        };
        Signature {
            inputs: self.feeds.iter().zip(&signature.inputs).filter_map(asked).collect(),
            outputs: self.outputs.iter().filter_map(|&o| signature.outputs.get(o).cloned()).collect(),
        }
    }
}

/// Whether the leading dimension is the number of rows.
fn by_rows(spec: &TensorSpec) -> bool {
    matches!(spec.shape.first(), Some(Dim::Any(_)))
}
