//! `[sequence]`: what an operator writes about a model that keeps state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::HumanDuration;
use weir_types::{Scalar, Signature};

/// A model that remembers: tensors that go from one request of a sequence to the next. Clients
/// see none of the inputs and outputs named here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceTable {
    /// How long a sequence may be idle before it is forgotten.
    pub ttl: HumanDuration,
    /// Most sequences at the same time; one more is refused.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_sequences: usize,
    /// Most steps of one sequence that wait for the one before them; one more is refused.
    #[schemars(range(min = 1, max = 10_000))]
    pub queue: usize,
    /// Where the state is kept besides this process.
    pub store: SequenceStoreWord,
    /// Tensors that go from one step to the next.
    pub state: Vec<StateTable>,
    /// Inputs that tell the model where in its sequence a step is.
    pub control: Vec<ControlTable>,
    /// Inputs that are the same for all steps.
    pub constant: Vec<ConstantTable>,
}

impl Default for SequenceTable {
    fn default() -> Self {
        Self {
            ttl: HumanDuration::from_secs(60),
            max_sequences: 10_000,
            queue: 64,
            store: SequenceStoreWord::Memory,
            state: Vec::new(),
            control: Vec::new(),
            constant: Vec::new(),
        }
    }
}

impl SequenceTable {
    /// Whether the model's input `name` is the server's own.
    pub(crate) fn feeds(&self, name: &str) -> bool {
        self.state.iter().any(|s| s.input == name)
            || self.control.iter().any(|c| c.input == name)
            || self.constant.iter().any(|c| c.input == name)
    }

    /// What clients see of `signature`.
    pub(crate) fn visible(&self, signature: &Signature) -> Signature {
        let kept = |name: &str| self.state.iter().any(|s| s.output == name);
        Signature {
            inputs: signature.inputs.iter().filter(|i| !self.feeds(&i.name)).cloned().collect(),
            outputs: signature.outputs.iter().filter(|o| !kept(&o.name)).cloned().collect(),
        }
    }
}

/// Where sequences are kept besides the process that runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SequenceStoreWord {
    /// Nowhere: they end with it.
    #[default]
    Memory,
    /// In the server's Redis, written before each answer: another replica can go on.
    Redis,
}

/// One state tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateTable {
    /// The model's input that takes it.
    pub input: String,
    /// The model's output that gives it for the next step.
    pub output: String,
    /// Its dimensions for one sequence. Default: the artefact's; needed where those are open.
    pub shape: Option<Vec<usize>>,
    /// The dimension along which several sequences stand side by side, from 0. Default: the one
    /// that has the name of the other inputs' leading dimension, else the leading one if it is
    /// open.
    pub batch_axis: Option<usize>,
    /// The value of each element before the first step. Default: 0.
    pub initial: Option<Scalar>,
}

/// What a control input tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlWord {
    /// Whether the step is the sequence's first.
    Start,
    /// Whether the step is the sequence's last.
    End,
    /// Whether the row is a step at all: always true here, where no empty rows are made.
    Ready,
    /// The sequence's id.
    Id,
}

/// An input that tells the model where in its sequence a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlTable {
    /// The model's input.
    pub input: String,
    /// What it tells.
    pub kind: ControlWord,
    /// What stands for false and for true. Default: 0 and 1.
    pub values: Option<[Scalar; 2]>,
}

/// An input that is the same for all steps, such as a sampling rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstantTable {
    /// The model's input.
    pub input: String,
    /// The value of each of its elements.
    pub value: Scalar,
}
