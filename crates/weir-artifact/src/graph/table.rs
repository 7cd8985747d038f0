//! `[graph]` in `model.toml`: a model that is made of others.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_types::Scalar;

/// A model that is made of others: steps, and what of their answers is its own. A tensor is
/// named `step.tensor`, the step alone where it has one output, and `input.tensor` for what
/// the graph itself is asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphTable {
    /// The graph's outputs: name = tensor. Default: all of the step that no other takes from.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// What is computed, in any order.
    pub step: Vec<StepTable>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Asks another model.
    #[default]
    Model,
    /// The mean of tensors, element by element.
    Mean,
    /// The value that most tensors hold, element by element.
    Vote,
    /// Each row goes to the first case that it fits.
    Switch,
    /// Each row goes from step to step until one is sure enough.
    Cascade,
}

impl StepKind {
    /// The word of `model.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Model => "model",
            StepKind::Mean => "mean",
            StepKind::Vote => "vote",
            StepKind::Switch => "switch",
            StepKind::Cascade => "cascade",
        }
    }
}

/// One step of a graph. One table for all kinds, so that a key which its kind does not know
/// is told as such, at its place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepTable {
    /// What other steps call it. Default: the name of its model.
    pub name: Option<String>,
    /// What it does.
    #[serde(default)]
    pub kind: StepKind,
    /// `model`: the model that is asked.
    pub model: Option<String>,
    /// `model`: which version. Default: the latest when the graph is loaded.
    pub version: Option<String>,
    /// `model`: the tensor for each of the model's inputs. Default: the graph's input of the
    /// same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// `model`: other names for its outputs: new name = the model's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// `mean`, `vote`: the tensors.
    pub of: Option<Vec<String>>,
    /// `mean`, `vote`: how much each of them counts, 0 or more. Default: all the same.
    pub weights: Option<Vec<f64>>,
    /// `switch`: the field of a row that decides.
    pub field: Option<String>,
    /// `switch`: the tensor that decides, where it is no field.
    pub on: Option<String>,
    /// `switch`: which element of the tensor's row, from 0. Needed where there are several.
    pub column: Option<usize>,
    /// `switch`: the cases, looked at in their order; the last one has no condition.
    pub cases: Option<Vec<CaseTable>>,
    /// `cascade`: the steps, cheapest first.
    pub steps: Option<Vec<String>>,
    /// `cascade`: the output of these steps whose highest element is how sure they are.
    pub confidence: Option<String>,
    /// `cascade`: rows of at least this confidence go no further.
    pub threshold: Option<f64>,
}

/// One case of a switch: a row fits if all conditions hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseTable {
    /// The step that answers.
    pub step: String,
    /// At least.
    pub ge: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// At most.
    pub le: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// One of these values.
    #[serde(rename = "enum")]
    pub one_of: Option<Vec<Scalar>>,
}

impl CaseTable {
    /// Whether it has a condition.
    pub(crate) fn is_conditional(&self) -> bool {
        [self.ge, self.gt, self.le, self.lt].iter().any(Option::is_some) || self.one_of.is_some()
    }
}
