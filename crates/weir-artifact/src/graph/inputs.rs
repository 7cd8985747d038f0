//! What a graph is asked: what its models take and no step gives.

use weir_types::{Coercion, Extra, Field, InputSlot, Schema, Signature, TensorSpec};

use super::{
    names::Ref,
    nodes::{Node, NodeKind},
    types::narrowed,
};
use crate::{InputTable, ModelSpec, fields, report::Report};

/// An input of the graph, and the model's input that it is.
pub(super) struct Input<'a> {
    pub(super) spec: TensorSpec,
    step: String,
    model: &'a ModelSpec,
    index: usize,
}

/// Which tensor a model's input takes: what the step says, else the graph's input of the same
/// name. `None` where the step's text means nothing.
pub(super) fn taken(node: &Node, input: &str) -> Option<Ref> {
    match &node.kind {
        NodeKind::Model { inputs } => match inputs.get(input) {
            Some(given) => given.clone(),
            None => Some(Ref::Input(input.to_owned())),
        },
        _ => None,
    }
}

/// The inputs of the graph, in the order in which the steps take them.
pub(super) fn inputs<'a>(
    nodes: &[Node],
    models: &[Option<&'a ModelSpec>],
    report: &mut Report,
) -> Vec<Input<'a>> {
    let mut all: Vec<Input<'a>> = Vec::new();
    for (node, model) in nodes.iter().zip(models) {
        let Some(model) = model else { continue };
        for (index, tensor) in model.signature.inputs.iter().enumerate() {
            let Some(Ref::Input(name)) = taken(node, &tensor.name) else { continue };
            let new =
                Input { spec: TensorSpec { name, ..tensor.clone() }, step: node.name.clone(), model, index };
            match all.iter_mut().find(|one| one.spec.name == new.spec.name) {
                None => all.push(new),
                Some(known) => share(known, &new, node.index, report),
            }
        }
    }
    all
}

/// Two models take one input: it is what both can take.
fn share(known: &mut Input<'_>, new: &Input<'_>, step: usize, report: &mut Report) {
    match narrowed(&known.spec, &new.spec) {
        Some(shape) => known.spec.shape = shape,
        None => {
            let message = format!(
                "step `{}` takes {} from the graph's inputs, and step `{}` takes {}: map one of them with `inputs`",
                known.step, known.spec, new.step, new.spec
            );
            report.at(&format!("graph.step[{step}]"), message);
        }
    }
}

/// The rows of the graph: what the operator declares, else the fields of the models whose
/// inputs they are.
pub(super) fn schema(
    table: &InputTable,
    inputs: &[Input<'_>],
    signature: &Signature,
    report: &mut Report,
) -> Schema {
    let clean = report.problems.is_empty();
    let inherited = inherited(inputs).filter(|_| table.field.is_empty());
    let Some(fields) = inherited.filter(|_| clean) else { return fields::schema(table, signature, report) };
    let slot = |tensor: &TensorSpec| InputSlot {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        row_shape: tensor.shape.iter().skip(1).cloned().collect(),
    };
    let all = |test: fn(&Schema) -> bool| !inputs.is_empty() && inputs.iter().all(|i| test(&i.model.schema));
    let own = fields::schema(&InputTable { field: Vec::new(), ..table.clone() }, signature, report);
    Schema {
        fields,
        keys: Vec::new(),
        inputs: signature.inputs.iter().map(slot).collect(),
        extra: if all(|s| s.extra == Extra::Ignore) { Extra::Ignore } else { own.extra },
        coerce: if all(|s| s.coerce == Coercion::Strict) { Coercion::Strict } else { own.coerce },
    }
}

/// The fields of the models; `None` where two of them have one name.
fn inherited(inputs: &[Input<'_>]) -> Option<Vec<Field>> {
    let fields = inputs.iter().enumerate().flat_map(|(to, input)| {
        let renamed = input.spec.name != input.model.signature.inputs[input.index].name;
        let own = input.model.schema.fields.iter().filter(move |field| field.input == input.index);
        own.map(move |field| {
            // A field that is its input is called as that is.
            let whole = renamed && field.name == input.model.signature.inputs[input.index].name;
            let name = if whole { input.spec.name.clone() } else { field.name.clone() };
            // What is looked up for a graph, it says itself.
            Field { name, input: to, source: None, ..field.clone() }
        })
    });
    let fields: Vec<Field> = fields.collect();
    let schema = Schema { fields, ..Schema::default() };
    schema.check().is_ok().then_some(schema.fields)
}
