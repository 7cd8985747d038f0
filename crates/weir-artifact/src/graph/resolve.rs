//! From a draft and the models that it names to a plan with its types.

use std::collections::BTreeSet;

use weir_types::{ModelName, NameError, Schema, Signature, TensorSpec, Version};

use super::{
    GraphDraft, GraphPlan, Lookup, Member, PlannedStep, Source, StepKind,
    inputs::{self, Input},
    names::{Names, Ref},
    nodes::{self, Node},
    scopes,
    types::Typed,
};
use crate::{ModelSpec, graph::spec, report::Report};

/// Most model calls of one request, those of graphs within included.
const MAX_CALLS: usize = 256;
/// Deepest nesting of graphs in graphs.
const MAX_DEPTH: usize = 8;

/// Resolves one draft.
pub(super) struct Resolver<'a> {
    pub(super) draft: &'a GraphDraft,
    pub(super) report: &'a mut Report,
    names: Names,
}

/// What a graph comes to.
pub(super) struct Resolved<'a> {
    pub(super) plan: GraphPlan,
    pub(super) members: Vec<&'a ModelSpec>,
    pub(super) schema: Schema,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<(String, Typed)>,
}

/// Steps with their types.
struct Steps {
    steps: Vec<PlannedStep>,
    outputs: Vec<Output>,
}

/// An output of the graph.
struct Output {
    name: String,
    source: Source,
    typed: Typed,
}

/// What is known of the steps while they are typed in their order.
pub(super) struct Typing<'a, 'm> {
    pub(super) inputs: &'a [Input<'m>],
    pub(super) schema: &'a Schema,
    pub(super) members: &'a [&'m ModelSpec],
    pub(super) models: &'a [Option<&'m ModelSpec>],
    /// The place of each node among the steps, and what it gives.
    pub(super) done: Vec<Option<(usize, Vec<Typed>)>>,
}

/// A graph has no sequence to ask a model for: were one step of it done and another not, the
/// states would be of different moments.
fn without_state(model: &ModelSpec) -> Result<&ModelSpec, String> {
    match model.sequence {
        None => Ok(model),
        Some(_) => {
            Err(format!("model `{}` keeps the state of sequences, which a graph cannot ask for", model.name))
        }
    }
}

impl<'a> Resolver<'a> {
    pub(super) fn new(draft: &'a GraphDraft, report: &'a mut Report) -> Self {
        let names = Names::read(&draft.table, report);
        Self { draft, report, names }
    }

    /// `None` where there is a problem, which is told then.
    pub(super) fn resolve(mut self, lookup: &Lookup<'_>) -> Option<ModelSpec> {
        let nodes = nodes::read(&self.draft.table, &self.names, self.report);
        let models = self.models(lookup);
        let mut found = inputs::inputs(&nodes, &models, self.report);
        if let Some(declared) = &self.draft.declared {
            found.sort_by_key(|input| declared.input(&input.spec.name));
        }
        let wanted = self.wanted_outputs(&nodes);
        let order = self.order(&nodes, &wanted)?;
        let complete = models.iter().zip(&nodes).all(|(model, node)| model.is_some() || !self.asks(node));
        let signature =
            Signature { inputs: found.iter().map(|i| i.spec.clone()).collect(), outputs: Vec::new() };
        let schema = match complete {
            true => inputs::schema(&self.draft.manifest.input, &found, &signature, self.report),
            false => Schema::default(),
        };
        let members = distinct(&models);
        let typing = Typing {
            inputs: &found,
            schema: &schema,
            members: &members,
            models: &models,
            done: nodes.iter().map(|_| None).collect(),
        };
        let Steps { steps, outputs } = self.typed(typing, &nodes, &order, &wanted, complete)?;
        let plan = self.plan(&members, steps, outputs.iter().map(|output| output.source).collect())?;
        let outputs = outputs.into_iter().map(|output| (output.name, output.typed)).collect();
        spec::spec(&mut self, Resolved { plan, members, schema, inputs: signature.inputs, outputs })
    }

    fn asks(&self, node: &Node) -> bool {
        self.draft.table.step.get(node.index).is_some_and(|step| step.kind == StepKind::Model)
    }

    /// The model of each step that asks one.
    fn models<'m>(&mut self, lookup: &Lookup<'m>) -> Vec<Option<&'m ModelSpec>> {
        let mut models = Vec::new();
        for (i, step) in self.draft.table.step.iter().enumerate() {
            let model = step.model.as_ref().filter(|_| step.kind == StepKind::Model);
            let at = format!("graph.step[{i}].model");
            let name = model.map(|model| model.parse().map_err(|e: NameError| e.to_string()));
            let name = name.and_then(|name| self.report.keep(&at, name));
            let version = step.version.as_ref().map(|version| version.parse());
            let version = version.transpose().map_err(|e: NameError| e.to_string());
            let version = self.report.keep(&format!("graph.step[{i}].version"), version);
            models.push(name.zip(version).and_then(|(name, version): (ModelName, Option<Version>)| {
                self.report.keep(&at, lookup(&name, version.as_ref()).and_then(without_state))
            }));
        }
        models
    }

    /// The graph's outputs: what is written, else all of the one step that no other takes from.
    fn wanted_outputs(&mut self, nodes: &[Node]) -> Vec<(String, Ref)> {
        if self.draft.table.outputs.is_empty() {
            return self.last(nodes).map(|last| (String::new(), Ref::Step(last, None))).into_iter().collect();
        }
        let mut wanted = Vec::new();
        for (name, text) in self.draft.output_order() {
            let found = self.names.tensor(text);
            wanted
                .extend(self.report.keep(&format!("graph.outputs.{name}"), found).map(|r| (name.clone(), r)));
        }
        wanted
    }

    fn last(&mut self, nodes: &[Node]) -> Option<usize> {
        let taken: BTreeSet<usize> = nodes.iter().flat_map(Node::takes).collect();
        let ends: Vec<usize> = (0..self.draft.table.step.len()).filter(|i| !taken.contains(i)).collect();
        if ends.len() > 1 && self.report.problems.is_empty() {
            let names: Vec<_> = ends.iter().map(|i| format!("`{}`", self.names.of(*i))).collect();
            let message = format!(
                "no step takes from {}: use all but one of them in another step, or say with `outputs` what the graph \
                 answers",
                names.join(", ")
            );
            self.report.at("graph", message);
        }
        ends.first().copied().filter(|_| ends.len() == 1)
    }

    /// The order of the steps; a cycle and steps that nobody needs are told.
    fn order(&mut self, nodes: &[Node], wanted: &[(String, Ref)]) -> Option<Vec<usize>> {
        let step = |(_, r): &(String, Ref)| if let Ref::Step(step, _) = r { Some(*step) } else { None };
        let roots: Vec<usize> = wanted.iter().filter_map(step).collect();
        let all: Vec<usize> = (0..nodes.len()).collect();
        if let Err(cycle) = nodes::order(nodes, &all) {
            let names: Vec<&str> =
                cycle.iter().chain(cycle.first()).map(|n| nodes[*n].name.as_str()).collect();
            let place = cycle.first().map_or(0, |n| nodes[*n].index);
            let message = format!("the steps wait for each other: {}", names.join(" ← "));
            self.report.at(&format!("graph.step[{place}]"), message);
            return None;
        }
        let order = nodes::order(nodes, &roots).ok()?;
        if !self.report.problems.is_empty() {
            // A step may only seem to be needed by none: what needs it is not understood.
            return Some(order);
        }
        for node in
            nodes.iter().enumerate().filter(|(i, n)| n.index == *i && !order.contains(i)).map(|(_, n)| n)
        {
            let message = format!("nothing needs step `{}`: use it or leave it out", node.name);
            self.report.at(&format!("graph.step[{}]", node.index), message);
        }
        Some(order)
    }

    /// Types every step and the outputs. `None` where one has no type.
    fn typed(
        &mut self,
        mut typing: Typing<'_, '_>,
        nodes: &[Node],
        order: &[usize],
        wanted: &[(String, Ref)],
        complete: bool,
    ) -> Option<Steps> {
        let mut steps = Vec::new();
        for (place, &node) in order.iter().enumerate() {
            let typed = self.step(&typing, &nodes[node]);
            if let Some((operation, outputs)) = typed {
                let specs = outputs.iter().map(|o| o.spec.clone()).collect();
                let name = nodes[node].name.clone();
                steps.push(PlannedStep { name, scope: 0, needs: Vec::new(), operation, outputs: specs });
                typing.done[node] = Some((place, outputs));
            }
        }
        let mut outputs = Vec::new();
        for (name, wanted) in wanted {
            if name.is_empty() {
                outputs.extend(all_of(&typing, wanted));
            } else if let Some((source, typed)) =
                self.tensor(&typing, wanted, &format!("graph.outputs.{name}"))
            {
                outputs.push(Output { name: name.clone(), source, typed });
            }
        }
        (complete && self.report.problems.is_empty()).then_some(Steps { steps, outputs })
    }

    /// The tensor that is meant; `None` where it is none, which is told unless its step was.
    pub(super) fn tensor(
        &mut self,
        typing: &Typing<'_, '_>,
        wanted: &Ref,
        at: &str,
    ) -> Option<(Source, Typed)> {
        match wanted {
            Ref::Input(name) => {
                let found = typing.inputs.iter().position(|i| i.spec.name == *name);
                let index = self.report.keep(at, found.ok_or_else(|| no_input(name, typing.inputs)))?;
                let spec = typing.inputs[index].spec.clone();
                Some((Source::Input(index), Typed { spec, role: super::types::Role::Plain }))
            }
            Ref::Step(node, name) => {
                let (step, outputs) = typing.done[*node].as_ref()?;
                let found = output(self.names.of(*node), outputs, name.as_deref());
                let output = self.report.keep(at, found)?;
                Some((Source::Step { step: *step, output }, outputs[output].clone()))
            }
        }
    }

    fn plan(
        &mut self,
        members: &[&ModelSpec],
        mut steps: Vec<PlannedStep>,
        outputs: Vec<Source>,
    ) -> Option<GraphPlan> {
        if let Err(step) = scopes::settle(&mut steps, &outputs) {
            let message = format!("step `{step}` is more than {} branches deep", scopes::MAX_NESTING);
            self.report.at("graph", message);
        }
        let within = |spec: &&ModelSpec| spec.graph.as_ref().map_or((1, 0), |plan| (plan.calls, plan.depth));
        let calls = |step: &PlannedStep| match step.operation {
            super::Operation::Model { member, .. } => within(&members[member]).0,
            _ => 0,
        };
        let calls = steps.iter().map(calls).sum();
        let depth = 1 + members.iter().map(|m| within(m).1).max().unwrap_or(0);
        if calls > MAX_CALLS {
            let message =
                format!("one request would make up to {calls} model calls, at most {MAX_CALLS} are allowed");
            self.report.at("graph", message);
        }
        if depth > MAX_DEPTH {
            self.report
                .at("graph", format!("graphs are nested {depth} deep, at most {MAX_DEPTH} are allowed"));
        }
        let members = members.iter().map(|spec| Member::of(spec)).collect();
        self.report.problems.is_empty().then_some(GraphPlan { members, steps, outputs, calls, depth })
    }
}

/// Each model once, in the order of the steps.
fn distinct<'m>(models: &[Option<&'m ModelSpec>]) -> Vec<&'m ModelSpec> {
    let mut all: Vec<&ModelSpec> = Vec::new();
    for model in models.iter().flatten() {
        if !all.iter().any(|one| std::ptr::eq(*one, *model)) {
            all.push(model);
        }
    }
    all
}

/// All outputs of a step, under their own names.
fn all_of(typing: &Typing<'_, '_>, wanted: &Ref) -> Vec<Output> {
    let Ref::Step(node, _) = wanted else { return Vec::new() };
    let Some((step, outputs)) = typing.done.get(*node).and_then(Option::as_ref) else { return Vec::new() };
    let outputs = outputs.iter().enumerate();
    let one = |(output, typed): (usize, &Typed)| {
        let source = Source::Step { step: *step, output };
        Output { name: typed.spec.name.clone(), source, typed: typed.clone() }
    };
    outputs.map(one).collect()
}

fn output(step: &str, outputs: &[Typed], name: Option<&str>) -> Result<usize, String> {
    let list = || outputs.iter().map(|o| o.spec.to_string()).collect::<Vec<_>>().join(", ");
    match (name, outputs) {
        (None, [_]) => Ok(0),
        (None, _) => Err(format!("step `{step}` has several outputs, name one of {}", list())),
        (Some(name), _) => outputs.iter().position(|o| o.spec.name == name).ok_or_else(|| {
            format!("step `{step}` has no output `{}`, it has {}", name.escape_debug(), list())
        }),
    }
}

fn no_input(name: &str, inputs: &[Input<'_>]) -> String {
    let list: Vec<_> = inputs.iter().map(|i| i.spec.to_string()).collect();
    format!(
        "no model of the graph takes an input `{}`; its inputs are {}",
        name.escape_debug(),
        list.join(", ")
    )
}
