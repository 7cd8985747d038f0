//! What steps are called, and which tensors their texts mean.

use super::{GraphTable, StepKind, StepTable};
use crate::report::Report;

/// The name that stands for what the graph is asked.
pub(super) const INPUT: &str = "input";
/// Longest name of a step, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A tensor as a step's text means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ref {
    /// An input of the graph, by name.
    Input(String),
    /// A step, and which of its outputs: the only one where none is named.
    Step(usize, Option<String>),
}

/// The names of the steps, in their order.
pub(super) struct Names(Vec<String>);

impl Names {
    /// Reads and checks them.
    pub(super) fn read(table: &GraphTable, report: &mut Report) -> Self {
        let mut names: Vec<String> = Vec::new();
        for (i, step) in table.step.iter().enumerate() {
            let place = format!("graph.step[{i}].name");
            let name = report.keep(&place, name(step)).unwrap_or_default();
            if !name.is_empty() && names.contains(&name) {
                report.at(&place, format!("two steps are called `{name}`: give one of them another `name`"));
            }
            names.push(name);
        }
        Self(names)
    }

    pub(super) fn of(&self, step: usize) -> &str {
        self.0.get(step).map_or("", String::as_str)
    }

    /// The step called `name`.
    pub(super) fn step(&self, name: &str) -> Result<usize, String> {
        let found = self.0.iter().position(|n| n == name).filter(|_| !name.is_empty());
        found.ok_or_else(|| format!("there is no step `{}`: there are {}", name.escape_debug(), self.list()))
    }

    /// The tensor that `text` means. Names of steps and tensors may have dots: the longest
    /// step that fits counts.
    pub(super) fn tensor(&self, text: &str) -> Result<Ref, String> {
        if let Some(input) = text.strip_prefix(INPUT).and_then(|rest| rest.strip_prefix('.')) {
            return Ok(Ref::Input(input.to_owned()));
        }
        if let Ok(step) = self.step(text) {
            return Ok(Ref::Step(step, None));
        }
        let tensor = |name: &String| Some(text.strip_prefix(name.as_str())?.strip_prefix('.')?.to_owned());
        let named = self.0.iter().enumerate().filter(|(_, name)| !name.is_empty());
        let fitting = named.filter_map(|(step, name)| Some((name.len(), step, tensor(name)?)));
        let longest = fitting.max_by_key(|(length, ..)| *length);
        longest.map(|(_, step, tensor)| Ref::Step(step, Some(tensor))).ok_or_else(|| {
            format!(
                "`{}` names no tensor: write `step.tensor` or `input.tensor`; the steps are {}",
                text.escape_debug(),
                self.list()
            )
        })
    }

    fn list(&self) -> String {
        let named = self.0.iter().filter(|n| !n.is_empty());
        named.take(20).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

fn name(step: &StepTable) -> Result<String, String> {
    let model = step.model.as_ref().filter(|_| step.kind == StepKind::Model);
    let Some(name) = step.name.as_ref().or(model) else {
        return Err(format!("a {} step needs a `name`", step.kind.as_str()));
    };
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(bad) {
        return Err(format!("`name` has 1 to {MAX_NAME_BYTES} bytes without spaces"));
    }
    if name == INPUT {
        return Err(format!("`{INPUT}` stands for what the graph is asked: give the step another `name`"));
    }
    Ok(name.clone())
}

/// Tells keys that the step's kind does not know, and those that it misses.
pub(super) fn check_keys(i: usize, step: &StepTable, report: &mut Report) {
    use StepKind::{Cascade, Mean, Model, Switch, Vote};
    let keys: [(&str, bool, &[StepKind], bool); 12] = [
        ("model", step.model.is_some(), &[Model], true),
        ("version", step.version.is_some(), &[Model], false),
        ("inputs", !step.inputs.is_empty(), &[Model], false),
        ("outputs", !step.outputs.is_empty(), &[Model], false),
        ("of", step.of.is_some(), &[Mean, Vote], true),
        ("weights", step.weights.is_some(), &[Mean, Vote], false),
        ("cases", step.cases.is_some(), &[Switch], true),
        ("field", step.field.is_some(), &[Switch], false),
        ("on", step.on.is_some(), &[Switch], false),
        ("column", step.column.is_some(), &[Switch], false),
        ("steps", step.steps.is_some(), &[Cascade], true),
        ("confidence", step.confidence.is_some(), &[Cascade], true),
    ];
    let kind = step.kind;
    let threshold = ("threshold", step.threshold.is_some(), &[Cascade][..], true);
    for (key, given, kinds, required) in keys.into_iter().chain([threshold]) {
        if given && !kinds.contains(&kind) {
            let kinds: Vec<_> = kinds.iter().map(|k| k.as_str()).collect();
            let message =
                format!("`{key}` is for {} steps, this is a {} step", kinds.join(" and "), kind.as_str());
            report.at(&format!("graph.step[{i}].{key}"), message);
        } else if required && !given && kinds.contains(&kind) {
            report.at(&format!("graph.step[{i}]"), format!("a {} step needs `{key}`", kind.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(all: &[&str]) -> Names {
        Names(all.iter().map(|n| (*n).to_owned()).collect())
    }

    #[test]
    fn the_longest_step_that_fits_is_meant() {
        let names = names(&["a", "a.b"]);
        assert_eq!(names.tensor("a"), Ok(Ref::Step(0, None)));
        assert_eq!(names.tensor("a.b"), Ok(Ref::Step(1, None)));
        assert_eq!(names.tensor("a.b.c"), Ok(Ref::Step(1, Some("c".into()))));
        assert_eq!(names.tensor("a.c.d"), Ok(Ref::Step(0, Some("c.d".into()))));
        assert_eq!(names.tensor("input.a.b"), Ok(Ref::Input("a.b".into())));
        assert!(names.tensor("b.c").unwrap_err().contains("`a`, `a.b`"));
    }

    #[test]
    fn names_are_told_apart() {
        let step = |name: &str| StepTable { name: Some(name.into()), ..StepTable::default() };
        let table = GraphTable {
            step: vec![step("x"), step("x"), step("input"), step("a b")],
            ..GraphTable::default()
        };
        let mut report = Report::new(Path::new("m"), None);
        Names::read(&table, &mut report);
        assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
    }
}
