//! What requests are matched against: compiled off the request path from configuration and
//! snapshot, swapped as one value.

use std::{collections::HashMap, sync::Arc, time::UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;
use weir_artifact::ModelSpec;
use weir_codec::RowDecoder;
use weir_serving::{ServedVersion, ServingSnapshot};
use weir_types::{Error, ModelName};

use crate::{
    config::{RouteConfig, RouteMethod},
    declare::{self, Declared, RouteProblem, Unavailable},
    metrics::{Metrics, RouteMetrics},
    openai::{self, Embedders},
    openapi,
    operation::{Builtin, Operation, OperationKind},
    predict::{PredictHandler, decode_limits},
    routes::{self, Handler, Route, Routes},
    state::{State, StateHandler},
    template::Template,
    v2,
};

/// The `:predict` route of each model and version.
type Versions = HashMap<(String, String), Arc<Route>>;

/// The compiled face.
pub(crate) struct Face {
    /// What is served.
    pub(crate) snapshot: Arc<ServingSnapshot>,
    /// The body of `/openapi.json`.
    pub(crate) openapi: Bytes,
    /// The body of `/v1/models`.
    pub(crate) models: Bytes,
    /// The versions as tensor clients see them.
    pub(crate) v2: v2::core::Models,
    /// The models that embed texts.
    pub(crate) embedders: Embedders,
    /// Counts requests that match nothing.
    pub(crate) unmatched: RouteMetrics,
    /// What is matched.
    pub(crate) routes: Routes,
    versions: Versions,
}

impl Face {
    /// Compiles `routes` over `snapshot`; with `/metrics` unless they have a listener of
    /// their own.
    ///
    /// # Errors
    /// Every problem of every route.
    pub(crate) fn build(
        routes: &[RouteConfig],
        snapshot: Arc<ServingSnapshot>,
        state: &State,
        metrics: &Metrics,
        public_metrics: bool,
    ) -> Result<Self, Vec<RouteProblem>> {
        let (mut declared, mut problems) = declare::declare(routes, &snapshot, state);
        let is_metrics = |d: &Declared| matches!(d.operation.kind, OperationKind::Builtin(Builtin::Metrics));
        declared.served.retain(|d| public_metrics || !is_metrics(d));
        let operations: Vec<Operation> = declared.served.iter().map(|d| d.operation.clone()).collect();
        let document = openapi::document(&operations, state.idempotency.is_some(), env!("CARGO_PKG_VERSION"));
        let mut builder =
            Builder { routes: routes::Builder::new(metrics), metrics, state, versions: HashMap::new() };
        // First, so that a declared path which cannot stand beside it is the one that is told.
        builder.routes.add(RouteMethod::Get, "/docs/{file}", Handler::Asset, None);
        let mut told = |path: &str, message| {
            let route = routes.iter().position(|route| route.path == path);
            problems.push(RouteProblem { route, beside: None, message });
        };
        for one in declared.served {
            let path = one.operation.path.clone();
            builder.operation(one).unwrap_or_else(|problem| told(&path, problem));
        }
        declared.unavailable.into_iter().for_each(|route| builder.unavailable(route));
        let Builder { routes, versions, .. } = builder;
        let routes = routes.finish(&mut told);
        if !problems.is_empty() {
            // As the file has them; what is of no route in particular comes last.
            problems.sort_by_key(|problem| problem.route.unwrap_or(usize::MAX));
            return Err(problems);
        }
        Ok(Self {
            openapi: document.to_string().into(),
            models: models(&snapshot).into(),
            v2: v2::core::Models::new(snapshot.clone(), metrics),
            embedders: Embedders::new(&snapshot, metrics),
            unmatched: metrics.route("", "unmatched", None),
            snapshot,
            routes,
            versions,
        })
    }

    /// The `:predict` route of a version; the latest without one.
    ///
    /// # Errors
    /// As [`ServingSnapshot::version`].
    pub(crate) fn version_route(&self, name: &ModelName, version: Option<&str>) -> Result<Arc<Route>, Error> {
        let served = self.snapshot.version(name.as_str(), version)?;
        let key = (name.to_string(), served.spec.version.to_string());
        let route = self.versions.get(&key).cloned();
        route.ok_or_else(|| Error::internal("the version has no route of its own"))
    }

    /// The `:predict` handler of another version of a model.
    ///
    /// # Errors
    /// `NotFound`, naming the versions there are.
    pub(crate) fn version_handler(
        &self,
        spec: &ModelSpec,
        version: &str,
    ) -> Result<&Arc<PredictHandler>, Error> {
        let key = (spec.name.to_string(), version.to_owned());
        match self.versions.get(&key).map(|route| &route.handler) {
            Some(Handler::Predict(handler)) => Ok(handler),
            _ => self
                .snapshot
                .version(spec.name.as_str(), Some(version))
                .and_then(|_| Err(Error::internal("the version has no route of its own"))),
        }
    }
}

struct Builder<'a> {
    routes: routes::Builder<'a>,
    metrics: &'a Metrics,
    state: &'a State,
    versions: Versions,
}

impl Builder<'_> {
    fn operation(&mut self, declared: Declared) -> Result<(), String> {
        let Declared { operation, version, by_version } = declared;
        let method = operation.method;
        let path = operation.path;
        match (operation.kind, version) {
            // On a listener of their own, compiled there.
            (OperationKind::Admin(_), _) => {}
            (OperationKind::Builtin(builtin), _) => {
                self.routes.add(method, &path, Handler::Builtin(builtin), None);
            }
            (OperationKind::Embeddings { .. }, _) => {
                self.routes.add(method, &path, Handler::Embeddings, None);
            }
            (OperationKind::State(endpoint), _) => {
                let features = self.state.features.clone().ok_or("there is no store of features")?;
                let handler = StateHandler::new(endpoint, features).map_err(|e| format!("{path}: {e}"))?;
                self.routes.add(method, &path, Handler::State(Box::new(handler)), None);
            }
            (OperationKind::V2(endpoint), _) => {
                self.routes.add(method, &path, Handler::V2(endpoint), None);
            }
            (OperationKind::Template { query, path: parameters, response }, _) => {
                let template =
                    Template::new(&query, &parameters, response).map_err(|problems| problems.join("; "))?;
                self.routes.add(method, &path, Handler::Template(Box::new(template)), None);
            }
            (OperationKind::Predict { shape, response, selectable, .. }, Some(version)) => {
                let decoder = RowDecoder::looking_up(
                    Arc::new(version.spec.schema.clone()),
                    shape,
                    decode_limits(&version),
                )
                .map_err(|e| format!("{path}: {e}"))?;
                let named = format!("{}/{}", version.spec.name, version.spec.version);
                let handler = PredictHandler {
                    decoder,
                    response,
                    selectable,
                    stages: self.metrics.stages(&version),
                    named: HeaderValue::from_str(&named).map_err(|e| e.to_string())?,
                    version: version.clone(),
                };
                let route =
                    self.routes.add(method, &path, Handler::Predict(Arc::new(handler)), Some(&version));
                if by_version {
                    let key = (version.spec.name.to_string(), version.spec.version.to_string());
                    self.versions.insert(key, route);
                }
            }
            (OperationKind::Predict { .. }, None) => return Err(format!("{path}: no version to answer")),
        }
        Ok(())
    }

    fn unavailable(&mut self, route: Unavailable) {
        self.routes.add(route.method, &route.path, Handler::Unavailable(route.error), None);
    }
}

/// `GET /v1/models`: each model, its versions, and what runs them; the embedders once more as
/// OpenAI lists models.
fn models(snapshot: &ServingSnapshot) -> String {
    let version = |v: &Arc<ServedVersion>| {
        json!({
            "version": v.spec.version.as_str(),
            "engine": v.engine.name,
            "engine_version": v.engine.version,
            "digest": v.spec.digest,
            "inputs": v.spec.signature.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "outputs": v.spec.signature.outputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    let models: Vec<_> = snapshot
        .models()
        .map(|(name, model)| json!({"name": name.as_str(), "versions": model.versions().map(version).collect::<Vec<_>>()}))
        .collect();
    // For clients of OpenAI's API, what they can ask here; no model of theirs is without a
    // time, and the artefact's is the one that is known.
    let embedder = |v: &Arc<ServedVersion>| {
        json!({
            "id": v.spec.name.as_str(),
            "object": "model",
            "created": v.spec.modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs()),
            "owned_by": "weir",
        })
    };
    let embedders: Vec<_> = openai::embedders(snapshot).map(embedder).collect();
    json!({ "object": "list", "data": embedders, "models": models }).to_string()
}
