//! What requests are matched against: compiled off the request path from configuration and
//! snapshot, swapped as one value.

use std::{collections::HashMap, sync::Arc, time::UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;
use serde_json::json;
use weir_artifact::ModelSpec;
use weir_codec::RowDecoder;
use weir_serving::{ServedVersion, ServingSnapshot};
use weir_types::Error;

use crate::{
    config::{RouteConfig, RouteMethod},
    declare::{self, Declared, RouteProblem, Unavailable},
    metrics::{Metrics, RouteMetrics},
    openai::{self, Embedders},
    openapi,
    operation::{Builtin, Endpoint, Operation, OperationKind},
    predict::{PredictHandler, decode_limits},
    respond,
    state::{State, StateHandler},
    template::Template,
    v2::{self, rest::INFER_PATH},
};

/// What answers one method of one path.
pub(crate) enum Handler {
    Predict(Box<PredictHandler>),
    Template(Box<Template>),
    Builtin(Builtin),
    /// Embeddings as OpenAI's API has them.
    Embeddings,
    /// Features and events.
    State(Box<StateHandler>),
    /// The Open Inference Protocol.
    V2(Endpoint),
    /// A file of the docs page.
    Asset,
    /// The model behind it could not be loaded.
    Unavailable(Error),
}

/// A handler and what it counts.
pub(crate) struct Route {
    pub(crate) handler: Handler,
    pub(crate) metrics: RouteMetrics,
    pub(crate) path: String,
}

/// The `:predict` route of each model and version.
type Versions = HashMap<(String, String), Arc<Route>>;

/// The methods of one path.
struct Entry {
    methods: Vec<(Method, Arc<Route>)>,
    allow: HeaderValue,
}

/// What a method and path lead to.
pub(crate) enum Found {
    /// A route and its path parameters, decoded, in the path's order.
    Route(Arc<Route>, Vec<(String, String)>),
    /// The path exists for the methods named.
    MethodNotAllowed(HeaderValue),
    /// The same path with, or without, a slash at its end exists.
    Redirect(String),
    /// Nothing.
    Nothing,
}

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
    router: matchit::Router<Entry>,
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
            Builder { metrics, state, paths: HashMap::new(), order: Vec::new(), versions: HashMap::new() };
        // First, so that a declared path which cannot stand beside it is the one that is told.
        builder.add(RouteMethod::Get, "/docs/{file}", Handler::Asset, None);
        let mut told = |path: &str, message| {
            let route = routes.iter().position(|route| route.path == path);
            problems.push(RouteProblem { route, message });
        };
        for one in declared.served {
            let path = one.operation.path.clone();
            builder.operation(one).unwrap_or_else(|problem| told(&path, problem));
        }
        declared.unavailable.into_iter().for_each(|route| builder.unavailable(route));
        let (router, versions) = builder.finish(&mut told);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            openapi: document.to_string().into(),
            models: models(&snapshot).into(),
            v2: v2::core::Models::new(snapshot.clone(), metrics),
            embedders: Embedders::new(&snapshot, metrics),
            unmatched: metrics.route("", "unmatched", None),
            snapshot,
            router,
            versions,
        })
    }

    /// Finds what answers `method` on `path` (as sent, still percent-coded).
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let Ok(matched) = self.router.at(&decoded) else { return self.other_slash(path) };
        let entry = matched.value;
        match entry.methods.iter().find(|(m, _)| m == method) {
            Some((_, route)) => {
                let parameters = matched.params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                Found::Route(route.clone(), parameters)
            }
            None => Found::MethodNotAllowed(entry.allow.clone()),
        }
    }

    /// Whether the path exists with, or without, a slash at its end. `//host` is left alone:
    /// as a location it would be another server.
    fn other_slash(&self, sent: &str) -> Found {
        let other = match sent.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{sent}/"),
        };
        let decoded = percent_decode_str(&other).decode_utf8_lossy();
        // Browsers read `\\` as `/`.
        let elsewhere = sent.starts_with("//") || sent.contains('\\');
        let exists = !other.is_empty() && !elsewhere && self.router.at(&decoded).is_ok();
        if exists { Found::Redirect(other) } else { Found::Nothing }
    }

    /// The `:predict` handler of another version of a model.
    ///
    /// # Errors
    /// `NotFound`, naming the versions there are.
    pub(crate) fn version_handler(&self, spec: &ModelSpec, version: &str) -> Result<&PredictHandler, Error> {
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
    metrics: &'a Metrics,
    state: &'a State,
    paths: HashMap<String, Vec<(Method, Arc<Route>)>>,
    order: Vec<String>,
    versions: Versions,
}

impl Builder<'_> {
    fn add(
        &mut self,
        method: RouteMethod,
        path: &str,
        handler: Handler,
        version: Option<&ServedVersion>,
    ) -> Arc<Route> {
        let metrics = self.metrics.route(method.name(), counted_as(&handler, path), version);
        let route = Arc::new(Route { handler, metrics, path: path.to_owned() });
        let methods = self.paths.entry(path.to_owned()).or_insert_with(|| {
            self.order.push(path.to_owned());
            Vec::new()
        });
        let method = match method {
            RouteMethod::Get => Method::GET,
            RouteMethod::Post => Method::POST,
            RouteMethod::Put => Method::PUT,
            RouteMethod::Patch => Method::PATCH,
            RouteMethod::Delete => Method::DELETE,
        };
        methods.push((method, route.clone()));
        route
    }

    fn operation(&mut self, declared: Declared) -> Result<(), String> {
        let Declared { operation, version, by_version } = declared;
        let method = operation.method;
        let path = operation.path;
        match (operation.kind, version) {
            (OperationKind::Builtin(builtin), _) => {
                self.add(method, &path, Handler::Builtin(builtin), None);
            }
            (OperationKind::Embeddings { .. }, _) => {
                self.add(method, &path, Handler::Embeddings, None);
            }
            (OperationKind::State(endpoint), _) => {
                let features = self.state.features.clone().ok_or("there is no store of features")?;
                let handler = StateHandler::new(endpoint, features).map_err(|e| format!("{path}: {e}"))?;
                self.add(method, &path, Handler::State(Box::new(handler)), None);
            }
            (OperationKind::V2(endpoint), _) => {
                self.add(method, &path, Handler::V2(endpoint), None);
            }
            (OperationKind::Template { query, path: parameters, response }, _) => {
                let template =
                    Template::new(&query, &parameters, response).map_err(|problems| problems.join("; "))?;
                self.add(method, &path, Handler::Template(Box::new(template)), None);
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
                let route = self.add(method, &path, Handler::Predict(Box::new(handler)), Some(&version));
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
        self.add(route.method, &route.path, Handler::Unavailable(route.error), None);
    }

    fn finish(mut self, told: &mut dyn FnMut(&str, String)) -> (matchit::Router<Entry>, Versions) {
        let mut router = matchit::Router::new();
        for path in self.order {
            let Some(mut methods) = self.paths.remove(&path) else { continue };
            let allow = respond::allow(methods.iter().map(|(m, _)| m));
            if let Some(head) = methods.iter().find(|(m, r)| *m == Method::GET && answers_head(&r.handler)) {
                methods.push((Method::HEAD, head.1.clone()));
            }
            if let Err(error) = router.insert(path.as_str(), Entry { methods, allow }) {
                told(&path, format!("the path {path} cannot be matched: {error}"));
            }
        }
        (router, self.versions)
    }
}

/// The path that a route is counted under. A histogram for each of the protocol's questions
/// about models would be most of `/metrics`; inference is counted for each model.
fn counted_as<'p>(handler: &Handler, path: &'p str) -> &'p str {
    match handler {
        Handler::V2(Endpoint::Infer) => INFER_PATH,
        Handler::V2(_) => "/v2",
        Handler::State(handler) => handler.endpoint.counted_as(),
        _ => path,
    }
}

/// FastAPI answers HEAD for its own pages but not for declared routes; probes and
/// scrapers use it too.
fn answers_head(handler: &Handler) -> bool {
    matches!(handler, Handler::Asset | Handler::V2(_))
        || matches!(handler, Handler::Builtin(builtin) if !matches!(builtin, Builtin::Health | Builtin::Models))
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
