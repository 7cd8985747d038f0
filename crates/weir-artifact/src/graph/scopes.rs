//! Which rows each step sees.
//!
//! What only one branch needs runs on that branch's rows. What two branches need, or a branch
//! and something outside it, runs once on the rows of the narrowest scope around all of them:
//! so no step runs twice on a row, and what a row did not need was at hand for its neighbour.

use std::collections::BTreeSet;

use super::plan::{Operation, PlannedStep, Source};

/// Deepest nesting of branches.
pub(super) const MAX_NESTING: usize = 8;

/// The scopes of a graph as a tree: the parent of each, 0 is the root.
#[derive(Default)]
struct Tree {
    parents: Vec<usize>,
}

impl Tree {
    fn depth(&self, mut scope: usize) -> usize {
        let mut depth = 0;
        while scope != 0 {
            scope = self.parents[scope];
            depth += 1;
        }
        depth
    }

    fn child(&mut self, parent: usize) -> usize {
        self.parents.push(parent);
        self.parents.len() - 1
    }

    /// The narrowest scope around both.
    fn around(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            // A scope's number is above its parent's, so the higher one is no parent of the other.
            if a > b { a = self.parents[a] } else { b = self.parents[b] }
        }
        a
    }
}

/// Gives every step its scope and what it needs there; the error is the name of a step whose
/// branches are nested too deep. `steps` are in order, `outputs` what the graph answers.
pub(super) fn settle(steps: &mut [PlannedStep], outputs: &[Source]) -> Result<(), String> {
    let mut tree = Tree { parents: vec![0] };
    let mut demands: Vec<Option<usize>> = vec![None; steps.len()];
    let demand = |tree: &Tree, source: Source, scope: usize, demands: &mut Vec<Option<usize>>| {
        if let Source::Step { step, .. } = source {
            demands[step] = Some(demands[step].map_or(scope, |other| tree.around(other, scope)));
        }
    };
    outputs.iter().for_each(|output| demand(&tree, *output, 0, &mut demands));
    // Backwards: all that takes from a step has its scope when the step gets its own.
    for index in (0..steps.len()).rev() {
        let scope = demands[index].unwrap_or(0);
        let step = &mut steps[index];
        step.scope = scope;
        let own = own_sources(&step.operation);
        own.into_iter().for_each(|source| demand(&tree, source, scope, &mut demands));
        let Operation::Route { branches, .. } = &mut step.operation else { continue };
        if tree.depth(scope) >= MAX_NESTING {
            return Err(step.name.clone());
        }
        for branch in branches {
            branch.scope = tree.child(scope);
            let outputs = branch.outputs.iter().copied();
            outputs.for_each(|source| demand(&tree, source, branch.scope, &mut demands));
        }
    }
    let needs: Vec<_> = (0..steps.len()).map(|index| needs(steps, index)).collect();
    steps.iter_mut().zip(needs).for_each(|(step, needs)| step.needs = needs);
    Ok(())
}

/// What a step takes in its own scope: without what its branches answer.
fn own_sources(operation: &Operation) -> Vec<Source> {
    let all = operation.sources();
    let own = if matches!(operation, Operation::Route { .. }) { 1 } else { all.len() };
    all.into_iter().take(own).collect()
}

/// The steps of the same scope that `index` takes from, also by way of its branches.
fn needs(steps: &[PlannedStep], index: usize) -> Vec<usize> {
    let scope = steps[index].scope;
    let (mut seen, mut needs) = (BTreeSet::from([index]), BTreeSet::new());
    let mut open = vec![index];
    while let Some(next) = open.pop() {
        for source in steps[next].operation.sources() {
            let Source::Step { step, .. } = source else { continue };
            if steps[step].scope == scope {
                needs.insert(step);
            } else if seen.insert(step) {
                open.push(step);
            }
        }
    }
    needs.into_iter().collect()
}
