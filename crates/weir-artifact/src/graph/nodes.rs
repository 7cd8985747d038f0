//! Steps with their names resolved: what takes from what, and in which order they can run.

use std::collections::BTreeMap;

use super::{
    CaseTable, GraphTable, StepKind, StepTable,
    names::{Names, Ref, check_keys},
    scopes::MAX_NESTING,
};
use crate::report::Report;

/// Most tensors of a mean or vote, and most cases of a switch.
const MAX_LIST: usize = 64;

/// A step, or the rest of a cascade of more than two. What a text did not resolve to is
/// absent, and its problem told.
#[derive(Debug)]
pub(super) struct Node {
    /// Its place in the table.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) kind: NodeKind,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Model { inputs: BTreeMap<String, Option<Ref>> },
    Combine { of: Vec<Option<Ref>> },
    Switch { on: Option<Ref>, branches: Vec<Option<usize>> },
    Cascade { first: Option<usize>, rest: Option<usize> },
}

impl Node {
    /// The nodes that it takes from.
    pub(super) fn takes(&self) -> Vec<usize> {
        let step = |r: &Option<Ref>| match r {
            Some(Ref::Step(step, _)) => Some(*step),
            _ => None,
        };
        match &self.kind {
            NodeKind::Model { inputs } => inputs.values().filter_map(step).collect(),
            NodeKind::Combine { of } => of.iter().filter_map(step).collect(),
            NodeKind::Switch { on, branches } => {
                step(on).into_iter().chain(branches.iter().copied().flatten()).collect()
            }
            NodeKind::Cascade { first, rest } => first.iter().chain(rest).copied().collect(),
        }
    }
}

/// Reads the steps: one node each, in their order, then the rests of cascades.
pub(super) fn read(table: &GraphTable, names: &Names, report: &mut Report) -> Vec<Node> {
    let mut reader = Reader { names, report, rests: Vec::new(), steps: table.step.len() };
    let mut nodes: Vec<Node> = Vec::new();
    for (index, step) in table.step.iter().enumerate() {
        check_keys(index, step, reader.report);
        let kind = reader.kind(index, step);
        nodes.push(Node { index, name: names.of(index).to_owned(), kind });
    }
    nodes.append(&mut reader.rests);
    nodes
}

struct Reader<'a> {
    names: &'a Names,
    report: &'a mut Report,
    rests: Vec<Node>,
    steps: usize,
}

impl Reader<'_> {
    fn kind(&mut self, index: usize, step: &StepTable) -> NodeKind {
        let at = format!("graph.step[{index}]");
        match step.kind {
            StepKind::Model => {
                let inputs = step.inputs.iter();
                let named =
                    inputs.map(|(k, text)| (k.clone(), self.tensor(&format!("{at}.inputs.{k}"), text)));
                NodeKind::Model { inputs: named.collect() }
            }
            StepKind::Mean | StepKind::Vote => self.combine(&at, step),
            StepKind::Switch => self.switch(&at, step),
            StepKind::Cascade => self.cascade(&at, index, step),
        }
    }

    fn tensor(&mut self, at: &str, text: &str) -> Option<Ref> {
        let found = self.names.tensor(text);
        self.report.keep(at, found)
    }

    fn step(&mut self, at: &str, name: &str) -> Option<usize> {
        let found = self.names.step(name);
        self.report.keep(at, found)
    }

    fn combine(&mut self, at: &str, step: &StepTable) -> NodeKind {
        let texts = step.of.as_deref().unwrap_or_default();
        if step.of.is_some() && !(2..=MAX_LIST).contains(&texts.len()) {
            self.report
                .at(&format!("{at}.of"), format!("`of` takes 2 to {MAX_LIST} tensors, got {}", texts.len()));
        }
        if let Some(weights) = &step.weights {
            self.weights(&format!("{at}.weights"), weights, texts.len());
        }
        let texts = texts.iter().enumerate();
        NodeKind::Combine { of: texts.map(|(i, text)| self.tensor(&format!("{at}.of[{i}]"), text)).collect() }
    }

    fn weights(&mut self, at: &str, weights: &[f64], tensors: usize) {
        if weights.len() != tensors {
            let message = format!("`weights` are one a tensor: {} for {tensors} tensors", weights.len());
            self.report.at(at, message);
        }
        if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            self.report.at(at, format!("a weight is a number from 0, got {bad}"));
        } else if weights.iter().sum::<f64>() <= 0.0 {
            self.report.at(at, "one of the weights must be more than 0");
        } else if !weights.iter().sum::<f64>().is_finite() {
            self.report.at(at, "the weights are too large to be added up");
        }
    }

    fn switch(&mut self, at: &str, step: &StepTable) -> NodeKind {
        match (&step.field, &step.on, step.column) {
            (None, None, _) => self.report.at(at, "a switch step needs `field`, or `on` for a tensor"),
            (Some(_), Some(_), _) => {
                self.report
                    .at(&format!("{at}.on"), "`field` and `on` both say what decides: keep one of them");
            }
            (Some(_), _, Some(_)) => {
                self.report.at(&format!("{at}.column"), "`column` is about `on`: a field is one value");
            }
            _ => {}
        }
        let on = step.on.as_ref().and_then(|text| self.tensor(&format!("{at}.on"), text));
        let cases = step.cases.as_deref().unwrap_or_default();
        if step.cases.is_some() {
            self.cases(at, cases);
        }
        let cases = cases.iter().enumerate();
        let branches = cases.map(|(i, case)| self.step(&format!("{at}.cases[{i}].step"), &case.step));
        NodeKind::Switch { on, branches: branches.collect() }
    }

    /// Every row must have an answer: so the last case takes all that is left, and only the
    /// last, since those behind it would never be asked.
    fn cases(&mut self, at: &str, cases: &[CaseTable]) {
        if !(2..=MAX_LIST).contains(&cases.len()) {
            let message = format!("`cases` are 2 to {MAX_LIST}, got {}", cases.len());
            return self.report.at(&format!("{at}.cases"), message);
        }
        for (i, case) in cases.iter().enumerate() {
            let (place, last) = (format!("{at}.cases[{i}]"), i + 1 == cases.len());
            if last && case.is_conditional() {
                self.report
                    .at(&place, "the last case has no condition: it answers the rows that fit no other");
            } else if !last && !case.is_conditional() {
                self.report
                    .at(&place, "only the last case has no condition: those behind it are never asked");
            }
            let bounds = [("ge", case.ge), ("gt", case.gt), ("le", case.le), ("lt", case.lt)];
            for (key, _) in bounds.iter().filter(|(_, bound)| bound.is_some_and(f64::is_nan)) {
                self.report
                    .at(&format!("{place}.{key}"), format!("`{key}` cannot be nan: nothing would fit"));
            }
        }
    }

    fn cascade(&mut self, at: &str, index: usize, step: &StepTable) -> NodeKind {
        let steps = step.steps.as_deref().unwrap_or_default();
        if step.steps.is_some() && !(2..=MAX_NESTING).contains(&steps.len()) {
            let message = format!("`steps` are 2 to {MAX_NESTING}, got {}", steps.len());
            self.report.at(&format!("{at}.steps"), message);
        }
        if let Some(bad) = step.threshold.filter(|t| !t.is_finite()) {
            self.report.at(&format!("{at}.threshold"), format!("`threshold` is a number, got {bad}"));
        }
        let found: Vec<Option<usize>> =
            steps.iter().enumerate().map(|(i, name)| self.step(&format!("{at}.steps[{i}]"), name)).collect();
        // A cascade of three is one of two, whose second is a cascade.
        let mut stages = found.iter().rev().copied();
        let mut rest = stages.next().flatten();
        let mut firsts: Vec<Option<usize>> = stages.collect();
        let first = firsts.pop().flatten();
        for next in firsts {
            let name = self.names.of(index).to_owned();
            self.rests.push(Node { index, name, kind: NodeKind::Cascade { first: next, rest } });
            rest = Some(self.steps + self.rests.len() - 1);
        }
        NodeKind::Cascade { first, rest }
    }
}

/// The nodes that `roots` need, each behind what it takes.
///
/// # Errors
/// A cycle, as the nodes along it.
pub(super) fn order(nodes: &[Node], roots: &[usize]) -> Result<Vec<usize>, Vec<usize>> {
    let mut walk = Walk { nodes, path: Vec::new(), order: Vec::new() };
    roots.iter().try_for_each(|root| walk.visit(*root))?;
    Ok(walk.order)
}

struct Walk<'a> {
    nodes: &'a [Node],
    path: Vec<usize>,
    order: Vec<usize>,
}

impl Walk<'_> {
    /// As deep as there are nodes, which are few.
    fn visit(&mut self, node: usize) -> Result<(), Vec<usize>> {
        if self.order.contains(&node) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|n| *n == node) {
            return Err(self.path.split_off(start));
        }
        self.path.push(node);
        for next in self.nodes[node].takes() {
            self.visit(next)?;
        }
        self.path.pop();
        self.order.push(node);
        Ok(())
    }
}
