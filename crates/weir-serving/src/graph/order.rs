//! In which order graphs are built: each behind those that it asks.

use std::{collections::BTreeSet, sync::Arc};

use weir_artifact::{Candidate, GraphDraft, Kind, Wanted, read_graph};
use weir_types::ModelName;

/// The drafts in order, and those that ask each other in a circle with the circle's names.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) ready: Vec<Arc<GraphDraft>>,
    pub(super) circular: Vec<(Arc<GraphDraft>, String)>,
}

/// Sorts `drafts`.
pub(super) fn order(drafts: &[Arc<GraphDraft>]) -> Order {
    let wanted: Vec<Vec<usize>> = drafts.iter().map(|draft| asked(draft, drafts)).collect();
    let mut order = Order::default();
    let mut placed = vec![false; drafts.len()];
    loop {
        let free = |i: &usize| !placed[*i] && wanted[*i].iter().all(|w| placed[*w]);
        let Some(next) = (0..drafts.len()).find(free) else { break };
        placed[next] = true;
        order.ready.push(drafts[next].clone());
    }
    let left = (0..drafts.len()).filter(|i| !placed[*i]);
    order.circular = left.map(|i| (drafts[i].clone(), circle(i, drafts, &wanted, &placed))).collect();
    order
}

/// The graphs that `draft` names.
fn asked(draft: &GraphDraft, drafts: &[Arc<GraphDraft>]) -> Vec<usize> {
    let wanted = draft.wanted();
    let named = |(_, other): &(usize, &Arc<GraphDraft>)| wanted.iter().any(|w| is(other.candidate(), w));
    drafts.iter().enumerate().filter(named).map(|(i, _)| i).collect()
}

fn is(candidate: &Candidate, (model, version): &Wanted) -> bool {
    candidate.name == *model && version.as_ref().is_none_or(|version| candidate.version == *version)
}

/// The way from `start` until a graph comes up again. Whoever is not placed asks one that is
/// not placed either, so there always is a next one.
fn circle(start: usize, drafts: &[Arc<GraphDraft>], wanted: &[Vec<usize>], placed: &[bool]) -> String {
    let mut path = vec![start];
    loop {
        let here = path.last().copied().unwrap_or(start);
        let Some(next) = wanted[here].iter().copied().find(|w| !placed[*w]) else { break };
        let again = path.contains(&next);
        path.push(next);
        if again {
            break;
        }
    }
    let names = path.iter().map(|i| {
        let candidate = drafts[*i].candidate();
        format!("{}/{}", candidate.name, candidate.version)
    });
    names.collect::<Vec<_>>().join(" → ")
}

/// Those of `found` that are versions of `model`, or are asked by one that is kept.
pub(crate) fn with_members(found: Vec<Candidate>, model: &ModelName) -> Vec<Candidate> {
    let mut names = BTreeSet::from([model.clone()]);
    let mut looked_at = 0;
    // Each turn adds a name that a folder has, or is the last.
    while looked_at != names.len() {
        looked_at = names.len();
        let graphs = found.iter().filter(|c| c.kind == Kind::Graph && names.contains(&c.name));
        let wanted: Vec<Wanted> =
            graphs.filter_map(|c| read_graph(c).ok()).flat_map(|draft| draft.wanted()).collect();
        names.extend(wanted.into_iter().map(|(model, _)| model));
    }
    found.into_iter().filter(|candidate| names.contains(&candidate.name)).collect()
}
