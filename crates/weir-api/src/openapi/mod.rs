//! `/openapi.json`: what the server offers, as OpenAPI 3.1.
//!
//! The document is made from the same [`Operation`]s that routes are compiled from, so it
//! cannot describe a route that does not exist. Its form is FastAPI's (operation ids, titles,
//! `HTTPValidationError`, one component a model), because that is what client generators and
//! people who come from there expect; it goes beyond FastAPI where that leaves out what a
//! client meets: every status a route can answer is listed.
//!
//! One module a part: [`names`] (ids, titles, components), [`schema`] (rows in), [`answer`]
//! (answers out), [`parameters`], [`problems`] (errors), [`builtin`] (the server's own), [`v2`].

mod answer;
mod builtin;
mod embeddings;
mod names;
mod parameters;
mod problems;
mod schema;
#[cfg(test)]
mod tests;
mod v2;
mod v2_schemas;

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use weir_artifact::ModelSpec;
use weir_codec::BodyShape;

use crate::{
    config::RouteMethod,
    operation::{Operation, OperationKind, ResponseTemplate},
};
use names::Components;

/// The OpenAPI 3.1 document of a server that offers `operations`, in their order; `version`
/// is the server's. The same operations give the same bytes.
pub(crate) fn document(operations: &[Operation], version: &str) -> Value {
    let mut writer = Writer { models: latest(operations), ..Writer::default() };
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let Some(described) = writer.operation(operation) else { continue };
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        path[&method(operation.method)] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Weir", "version": version},
        "paths": paths,
        "components": writer.components.finish(),
    })
}

/// The latest version of each model, by name: what each `:predict` without a version asks.
fn latest(operations: &[Operation]) -> Vec<&ModelSpec> {
    let asked = operations.iter().filter_map(|operation| match &operation.kind {
        OperationKind::Predict { spec, selectable: true, .. } => Some(&**spec),
        _ => None,
    });
    let mut models: Vec<&ModelSpec> = asked.collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

/// What is shared between the operations of one document.
#[derive(Default)]
struct Writer<'o> {
    /// The latest version of each model.
    models: Vec<&'o ModelSpec>,
    components: Components,
    ids: HashSet<String>,
}

impl Writer<'_> {
    /// One operation; `None` for those that do not describe themselves.
    fn operation(&mut self, operation: &Operation) -> Option<Value> {
        let head = self.head(operation);
        Some(match &operation.kind {
            OperationKind::Predict { spec, shape, response, selectable } => {
                self.predict(head, operation, &Predict { spec, shape, response, selectable: *selectable })
            }
            OperationKind::Template { query, path, response } => {
                let parameters = parameters::declared(&operation.path, path, query);
                self.template(head, operation, parameters, response)
            }
            OperationKind::Embeddings { models } if models.is_empty() => return None,
            OperationKind::Embeddings { models } => {
                merge(head, embeddings::describe(models, &mut self.components))
            }
            OperationKind::V2(endpoint) => {
                merge(head, v2::describe(*endpoint, &operation.path, &self.models, &mut self.components))
            }
            OperationKind::Builtin(builtin) => {
                merge(head, builtin::describe(*builtin, &mut self.components)?)
            }
        })
    }

    fn head(&mut self, operation: &Operation) -> Map<String, Value> {
        let mut head = Map::new();
        if !operation.tag.is_empty() {
            head.insert("tags".into(), json!([operation.tag]));
        }
        let summary = match operation.summary.as_str() {
            "" => names::summary(&operation.path),
            summary => summary.to_owned(),
        };
        head.insert("summary".into(), summary.into());
        head.insert("operationId".into(), self.operation_id(operation).into());
        head
    }

    /// FastAPI's id, the path standing in for the name of a function that is not there.
    fn operation_id(&mut self, operation: &Operation) -> String {
        let id = names::operation_id(&operation.path, &method(operation.method));
        // `/a-b` and `/a_b` would share one; numbers part them, in the operations' order.
        let mut unique = id.clone();
        let mut next = 2..;
        while !self.ids.insert(unique.clone()) {
            unique = format!("{id}_{}", next.next().unwrap_or(0));
        }
        unique
    }

    fn predict(&mut self, head: Map<String, Value>, operation: &Operation, predict: &Predict<'_>) -> Value {
        let spec = predict.spec;
        let body = schema::body(spec, predict.shape, &mut self.components);
        let answer = answer::success(spec, predict, &operation.path, &mut self.components);
        let mut responses = Map::new();
        responses.insert("200".into(), answer);
        let statuses: &[u16] = if predict.selectable {
            &[400, 404, 408, 413, 415, 422, 500, 503, 504]
        } else {
            &[400, 408, 413, 415, 422, 500, 503, 504]
        };
        problems::add(statuses, &mut responses, &mut self.components);
        if spec.sequence.is_some() {
            problems::add(&[409], &mut responses, &mut self.components);
        }
        let mut described = head;
        described.insert("description".into(), description(spec).into());
        let selection = predict.selectable.then(|| parameters::selection(spec));
        let sequence = spec.sequence.as_ref().map(|_| parameters::sequence());
        let parameters: Vec<Value> =
            selection.into_iter().flatten().chain(sequence.into_iter().flatten()).collect();
        if !parameters.is_empty() {
            described.insert("parameters".into(), parameters.into());
        }
        described.insert(
            "requestBody".into(),
            json!({"content": {"application/json": {"schema": body}}, "required": true}),
        );
        described.insert("responses".into(), responses.into());
        described.into()
    }

    fn template(
        &mut self,
        head: Map<String, Value>,
        operation: &Operation,
        parameters: Vec<Value>,
        response: &Value,
    ) -> Value {
        let mut responses = Map::new();
        responses.insert("200".into(), answer::template(response));
        let mut statuses = Vec::new();
        if operation.method != RouteMethod::Get {
            // A body is read and thrown away, so that the connection can carry on.
            statuses.extend([400, 408, 413, 415]);
        }
        if !parameters.is_empty() {
            statuses.push(422);
        }
        statuses.extend([500, 503, 504]);
        problems::add(&statuses, &mut responses, &mut self.components);
        let mut described = head;
        if !parameters.is_empty() {
            described.insert("parameters".into(), parameters.into());
        }
        described.insert("responses".into(), responses.into());
        described.into()
    }
}

/// A prediction's parts, together.
struct Predict<'a> {
    spec: &'a ModelSpec,
    shape: &'a BodyShape,
    response: &'a ResponseTemplate,
    selectable: bool,
}

fn description(spec: &ModelSpec) -> String {
    let who = format!("Answered by model `{}`, version `{}`.", spec.name, spec.version);
    match spec.description.as_deref() {
        Some(what) => format!("{what}\n\n{who}"),
        None => who,
    }
}

/// As OpenAPI writes it.
fn method(method: RouteMethod) -> String {
    method.name().to_ascii_lowercase()
}

fn merge(mut head: Map<String, Value>, rest: Map<String, Value>) -> Value {
    head.extend(rest);
    head.into()
}
