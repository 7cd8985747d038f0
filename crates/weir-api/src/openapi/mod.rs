//! `/openapi.json`: what the server offers, as OpenAPI 3.1.
//!
//! The document is made from the same [`Operation`]s that routes are compiled from, so it
//! cannot describe a route that does not exist. Its form is FastAPI's (operation ids, titles,
//! `HTTPValidationError`, one component a model), because that is what client generators and
//! people who come from there expect; it goes beyond FastAPI where that leaves out what a
//! client meets: every status a route can answer is listed.
//!
//! One module a part: [`names`] (ids, titles, components), [`schema`] (rows in), [`answer`]
//! (answers out), [`parameters`], [`problems`] (errors), [`caching`] (headers), [`builtin`] (the
//! server's own), [`admin`], [`v2`].

mod admin;
mod answer;
mod builtin;
mod caching;
mod embeddings;
mod names;
mod parameters;
mod problems;
mod schema;
mod state;
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
    operation::{Endpoint, Operation, OperationKind, ResponseTemplate},
};
use names::Components;

/// The OpenAPI 3.1 document of a server that offers `operations`, in their order; `version`
/// is the server's, which keeps answers by `Idempotency-Key` or not. The same operations give the
/// same bytes.
pub(crate) fn document(operations: &[Operation], idempotency: bool, version: &str) -> Value {
    let cached = operations.iter().any(|o| matches!(o.kind, OperationKind::Predict { cached: true, .. }));
    let mut writer = Writer { models: latest(operations), cached, idempotency, ..Writer::default() };
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
    /// Whether any of them keeps its answers.
    cached: bool,
    /// Whether answers are kept by `Idempotency-Key`.
    idempotency: bool,
    components: Components,
    ids: HashSet<String>,
}

impl Writer<'_> {
    /// One operation; `None` for those that do not describe themselves.
    fn operation(&mut self, operation: &Operation) -> Option<Value> {
        let head = self.head(operation);
        Some(match &operation.kind {
            OperationKind::Predict { spec, shape, response, selectable, cached } => {
                let (selectable, cached) = (*selectable, *cached);
                self.predict(head, operation, &Predict { spec, shape, response, selectable, cached })
            }
            OperationKind::Template { query, path, response } => {
                let parameters = parameters::declared(&operation.path, path, query);
                self.template(head, operation, parameters, response)
            }
            OperationKind::Embeddings { models, .. } if models.is_empty() => return None,
            OperationKind::Embeddings { models, cached } => {
                let described = embeddings::describe(models, self.idempotency, &mut self.components);
                self.caching(merge(head, described), *cached)
            }
            OperationKind::State(endpoint) => {
                merge(head, state::describe(endpoint, self.idempotency, &mut self.components))
            }
            OperationKind::V2(endpoint) => {
                let at = (*endpoint, operation.path.as_str());
                let described = v2::describe(at, &self.models, self.idempotency, &mut self.components);
                self.caching(merge(head, described), self.cached && *endpoint == Endpoint::Infer)
            }
            OperationKind::Admin(endpoint) => merge(head, admin::describe(*endpoint, &mut self.components)?),
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
        let some = [(404, predict.selectable), (409, self.idempotency || spec.sequence.is_some())];
        let left_out: Vec<u16> = some.into_iter().filter(|(_, there)| !there).map(|(code, _)| code).collect();
        let mut statuses = vec![400, 404, 408, 409, 413, 415, 422, 500, 503, 504];
        statuses.retain(|status| !left_out.contains(status));
        problems::add(&statuses, &mut responses, &mut self.components);
        let mut described = head;
        described.insert("description".into(), description(spec).into());
        let mut parameters = if predict.selectable { parameters::selection(spec) } else { Vec::new() };
        parameters.extend(spec.sequence.iter().flat_map(|_| parameters::sequence()));
        parameters.extend(self.idempotency.then(state::idempotency_key));
        if !parameters.is_empty() {
            described.insert("parameters".into(), parameters.into());
        }
        described.insert(
            "requestBody".into(),
            json!({"content": {"application/json": {"schema": body}}, "required": true}),
        );
        described.insert("responses".into(), responses.into());
        self.caching(described.into(), predict.cached)
    }

    /// The operation with the headers of the cache, where it has one.
    fn caching(&mut self, mut described: Value, cached: bool) -> Value {
        let Some(operation) = described.as_object_mut().filter(|_| cached) else { return described };
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            caching::describe(responses, &mut self.components);
        }
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        parameters.as_array_mut().into_iter().for_each(|list| list.push(caching::parameter()));
        described
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
    cached: bool,
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
