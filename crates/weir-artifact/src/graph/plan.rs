//! A graph whose names, types and order are settled: what an evaluator follows.

use weir_types::{ModelName, Scalar, TensorSpec, Version};

/// A graph ready to run. Steps are in an order in which each comes behind what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphPlan {
    /// The models that its steps ask, each once.
    pub members: Vec<Member>,
    /// The steps.
    pub steps: Vec<PlannedStep>,
    /// What the graph answers, in the order of its signature.
    pub outputs: Vec<Source>,
    /// Model calls that one request can make, those of graphs within included.
    pub calls: usize,
    /// Graphs within graphs: 1 for a graph of plain models.
    pub depth: usize,
}

/// One version of a model that a graph asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The model.
    pub model: ModelName,
    /// The version that the graph was resolved with.
    pub version: Version,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// What the operator calls it.
    pub name: String,
    /// Which rows it sees: 0 for all rows of the request, else the branch (numbered through
    /// the graph) whose rows these are.
    pub scope: usize,
    /// Steps of the same scope that must have answered before it can run.
    pub needs: Vec<usize>,
    /// What it does.
    pub operation: Operation,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
}

/// A tensor within a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// An input of the graph, by its index in the signature.
    Input(usize),
    /// An output of a step.
    Step {
        /// Index of the step.
        step: usize,
        /// Index of the step's output.
        output: usize,
    },
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Asks a member.
    Model {
        /// Index into [`GraphPlan::members`].
        member: usize,
        /// One tensor an input, in the order of the member's signature.
        inputs: Vec<Source>,
    },
    /// The weighted mean, element by element.
    Mean {
        /// Floats of one type and shape.
        of: Vec<Source>,
        /// One a tensor; their sum is above 0.
        weights: Vec<f64>,
    },
    /// The value of the most votes, element by element; of equal ones that which the earliest
    /// tensor holds.
    Vote {
        /// Integers, strings or truth values of one type and shape.
        of: Vec<Source>,
        /// One a tensor; their sum is above 0.
        weights: Vec<f64>,
    },
    /// Each row is answered by one branch.
    Route {
        /// What decides.
        by: Selector,
        /// What answers.
        branches: Vec<Branch>,
    },
}

/// What decides which branch answers a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    /// The first case that an element of the row fits.
    Cases {
        /// The tensor.
        on: Source,
        /// Element of its row.
        column: usize,
        /// One a branch; the last one always holds.
        tests: Vec<Test>,
    },
    /// Branch 0 where the highest element of the row is at least `threshold`, else branch 1.
    /// NaN is never enough.
    Confidence {
        /// Floats.
        of: Source,
        /// At least this.
        threshold: f64,
    },
}

/// One branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The scope of the steps that only this branch needs.
    pub scope: usize,
    /// The tensors that are the step's outputs for the branch's rows.
    pub outputs: Vec<Source>,
}

/// Conditions on a value; without any it always holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Test {
    /// At least.
    pub ge: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// At most.
    pub le: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// One of these.
    pub one_of: Option<Vec<Scalar>>,
}

impl Test {
    /// Whether the number fits. NaN fits no condition.
    pub fn number(&self, value: f64) -> bool {
        let equal = |scalar: &Scalar| match scalar {
            Scalar::Int(n) => *n as f64 == value,
            Scalar::Float(x) => *x == value,
            _ => false,
        };
        self.ge.is_none_or(|ge| value >= ge)
            && self.gt.is_none_or(|gt| value > gt)
            && self.le.is_none_or(|le| value <= le)
            && self.lt.is_none_or(|lt| value < lt)
            && self.one_of.as_ref().is_none_or(|values| values.iter().any(equal))
    }

    /// Whether the text fits.
    pub fn text(&self, value: &str) -> bool {
        self.one_of.as_ref().is_none_or(|values| {
            values.iter().any(|scalar| matches!(scalar, Scalar::String(text) if text == value))
        })
    }

    /// Whether the truth value fits.
    pub fn flag(&self, value: bool) -> bool {
        self.one_of.as_ref().is_none_or(|values| values.contains(&Scalar::Bool(value)))
    }
}

impl Operation {
    /// The tensors that it takes itself, those of its branches included.
    pub(crate) fn sources(&self) -> Vec<Source> {
        match self {
            Operation::Model { inputs: of, .. } | Operation::Mean { of, .. } | Operation::Vote { of, .. } => {
                of.clone()
            }
            Operation::Route { by, branches } => {
                let (Selector::Cases { on, .. } | Selector::Confidence { of: on, .. }) = by;
                std::iter::once(*on).chain(branches.iter().flat_map(|b| b.outputs.iter().copied())).collect()
            }
        }
    }
}
