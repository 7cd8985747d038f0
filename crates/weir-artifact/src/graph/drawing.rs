//! A graph as a person reads it: a tree from its answer down to its models.

use weir_types::{Field, Scalar};

use super::{Branch, GraphPlan, Operation, PlannedStep, Selector, Source, Test};
use crate::ModelSpec;

impl ModelSpec {
    /// The graph as lines of text, if the model is one: each step above those that it takes
    /// from.
    pub fn drawing(&self) -> Option<String> {
        let plan = self.graph.as_deref()?;
        let mut drawing = Drawing { spec: self, plan, lines: Vec::new(), drawn: Vec::new() };
        for (output, source) in self.signature.outputs.iter().zip(&plan.outputs) {
            drawing.lines.push(format!("{} = {}", output.name, drawing.source(*source)));
        }
        for source in &plan.outputs {
            if let Source::Step { step, .. } = source
                && !drawing.drawn.contains(step)
            {
                drawing.step(*step, "", ("", ""));
            }
        }
        Some(drawing.lines.join("\n"))
    }
}

struct Drawing<'a> {
    spec: &'a ModelSpec,
    plan: &'a GraphPlan,
    lines: Vec<String>,
    drawn: Vec<usize>,
}

impl Drawing<'_> {
    /// A step behind `label`, and below it those that it takes from: `first` stands before its
    /// own line, `rest` before theirs. As deep as the plan is, which is bounded.
    fn step(&mut self, index: usize, label: &str, (first, rest): (&str, &str)) {
        let Some(step) = self.plan.steps.get(index) else { return };
        if self.drawn.contains(&index) {
            return self.lines.push(format!("{first}{label}{} (as above)", step.name));
        }
        self.drawn.push(index);
        self.lines.push(format!("{first}{label}{}: {}", step.name, self.what(step)));
        let below = below(&step.operation);
        for (i, (label, step)) in below.iter().enumerate() {
            let (branch, trunk) =
                if i + 1 == below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.step(*step, label, (&format!("{rest}{branch}"), &format!("{rest}{trunk}")));
        }
    }

    fn what(&self, step: &PlannedStep) -> String {
        match &step.operation {
            Operation::Model { member, .. } => match self.plan.members.get(*member) {
                Some(member) => format!("model {}/{}", member.model, member.version),
                None => "model".to_owned(),
            },
            Operation::Mean { weights, .. } => format!("mean{}", weighed(weights)),
            Operation::Vote { weights, .. } => format!("vote{}", weighed(weights)),
            Operation::Route { by: Selector::Cases { on, column, .. }, .. } => {
                format!("switch on {}", self.element(*on, *column))
            }
            Operation::Route { by: Selector::Confidence { of, threshold }, .. } => {
                format!("cascade by {} ≥ {}", self.source(*of), number(*threshold))
            }
        }
    }

    /// One element of a tensor's row: the field that it is, where it is one.
    fn element(&self, on: Source, column: usize) -> String {
        let is = |field: &&Field| {
            Source::Input(field.input) == on && field.offset == column && field.width() == Some(1)
        };
        match self.spec.schema.fields.iter().find(is) {
            Some(field) => field.name.clone(),
            None => format!("{}[{column}]", self.source(on)),
        }
    }

    fn source(&self, source: Source) -> String {
        let name = match source {
            Source::Input(index) => {
                self.spec.signature.inputs.get(index).map(|i| format!("input.{}", i.name))
            }
            Source::Step { step, output } => {
                let step = self.plan.steps.get(step);
                step.and_then(|step| Some(format!("{}.{}", step.name, step.outputs.get(output)?.name)))
            }
        };
        name.unwrap_or_default()
    }
}

/// The steps that a step takes from, each once, and what leads to it.
fn below(operation: &Operation) -> Vec<(String, usize)> {
    let mut below: Vec<(String, usize)> = Vec::new();
    match operation {
        Operation::Route { by, branches } => {
            let answers = |branch: &Branch| branch.outputs.first().copied().and_then(step_of);
            let labels = labels(by, branches.len());
            below.extend(labels.into_iter().zip(branches).filter_map(|(l, b)| Some((l, answers(b)?))));
            let (Selector::Cases { on, .. } | Selector::Confidence { of: on, .. }) = by;
            let decides = step_of(*on).filter(|on| below.iter().all(|(_, step)| step != on));
            below.splice(0..0, decides.map(|on| ("by ".to_owned(), on)));
        }
        other => {
            for step in other.sources().into_iter().filter_map(step_of) {
                if below.iter().all(|(_, known)| *known != step) {
                    below.push((String::new(), step));
                }
            }
        }
    }
    below
}

fn step_of(source: Source) -> Option<usize> {
    if let Source::Step { step, .. } = source { Some(step) } else { None }
}

fn labels(by: &Selector, branches: usize) -> Vec<String> {
    match by {
        Selector::Cases { tests, .. } => {
            tests.iter().map(|test| format!("{} → ", conditions(test))).collect()
        }
        Selector::Confidence { .. } => {
            (0..branches).map(|i| if i == 0 { String::new() } else { "else → ".to_owned() }).collect()
        }
    }
}

fn conditions(test: &Test) -> String {
    let bounds = [("≥", test.ge), (">", test.gt), ("≤", test.le), ("<", test.lt)];
    let bounds = bounds.into_iter().filter_map(|(sign, bound)| Some(format!("{sign} {}", number(bound?))));
    let values = test.one_of.as_ref().map(|values| {
        let values: Vec<_> = values.iter().take(5).map(scalar).collect();
        format!("in {}", values.join(", "))
    });
    let all: Vec<_> = bounds.chain(values).collect();
    if all.is_empty() { "else".to_owned() } else { all.join(" and ") }
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Bool(b) => b.to_string(),
        Scalar::Int(n) => n.to_string(),
        Scalar::Float(x) => number(*x),
        Scalar::String(text) => format!("{text:?}"),
    }
}

/// As it was written, where it was rounded to float32.
fn number(x: f64) -> String {
    if f64::from(x as f32) == x { (x as f32).to_string() } else { x.to_string() }
}

fn weighed(weights: &[f64]) -> String {
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return String::new();
    }
    format!(", weights {}", weights.iter().map(|w| number(*w)).collect::<Vec<_>>().join(", "))
}
