//! From configuration and snapshot to the list of [`Operation`]s: every mistake is found
//! here, before anything is served.

mod paths;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;
use weir_artifact::ModelSpec;
use weir_codec::BodyShape;
use weir_serving::{ServedVersion, ServingSnapshot};
use weir_types::{Answer, Error, ErrorCode, ModelName, Version};

use crate::{
    config::{RequestShape, RouteConfig, RouteMethod},
    openai,
    operation::{Builtin, Operation, OperationKind, ResponseTemplate, Word},
    state::{self, State},
    template,
    v2::rest::ENDPOINTS,
};

/// Where the models' own paths begin.
const MODELS_PREFIX: &str = "/v1/models/";

/// A declared operation and, for predictions, the version that answers it. A model that
/// failed to load keeps its paths: they answer 503 until it loads.
pub(crate) struct Declared {
    pub(crate) operation: Operation,
    pub(crate) version: Option<Arc<ServedVersion>>,
    /// The version's own route, which `?version=` leads to.
    pub(crate) by_version: bool,
}

impl Declared {
    /// One that asks no model, or finds out itself which.
    fn without_version(operation: Operation) -> Self {
        Self { operation, version: None, by_version: false }
    }
}

/// Paths whose model cannot answer at the moment.
pub(crate) struct Unavailable {
    pub(crate) path: String,
    pub(crate) method: RouteMethod,
    pub(crate) error: Error,
}

/// Something that is wrong with the declared routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteProblem {
    /// Which `[[route]]`, from 0; `None` where it is none in particular.
    pub route: Option<usize>,
    /// Another one that it cannot stand beside.
    pub beside: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.route {
            Some(index) => write!(f, "[[route]] {}: {}", index + 1, self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Everything that is served: declared routes first, then the models' own, then built-ins.
#[derive(Default)]
pub(crate) struct Declarations {
    pub(crate) served: Vec<Declared>,
    pub(crate) unavailable: Vec<Unavailable>,
}

impl Declarations {
    fn extend(&mut self, more: Self) {
        self.served.extend(more.served);
        self.unavailable.extend(more.unavailable);
    }
}

/// Resolves `routes` against what `snapshot` serves: what can be served, and every problem of
/// every route.
pub(crate) fn declare(
    routes: &[RouteConfig],
    snapshot: &ServingSnapshot,
    state: &State,
) -> (Declarations, Vec<RouteProblem>) {
    let mut all = Declarations::default();
    let mut problems = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let mut told = |message: String| {
            problems.push(RouteProblem { route: Some(index), beside: None, message });
        };
        let mut declared = Declarations::default();
        match route.model.as_deref() {
            Some(model) => predict_route(route, model, snapshot, &mut declared, &mut told),
            None => template_route(route, &mut declared, &mut told),
        }
        let wrong = paths::check(&route.path);
        // A path that is wrong by itself need not be told a second time beside the others.
        if wrong.is_empty() {
            all.extend(declared);
        }
        wrong.into_iter().for_each(told);
    }
    problems.extend(paths::doubles(routes));
    all.served.extend(model_operations(snapshot));
    all.unavailable.extend(unavailable_operations(snapshot));
    all.served.push(embeddings(snapshot));
    all.served.extend(state_operations(state));
    all.served.extend(builtins());
    all.served.extend(v2());
    problems.extend(paths::clashes(&all, routes));
    (all, problems)
}

fn predict_route(
    route: &RouteConfig,
    model: &str,
    snapshot: &ServingSnapshot,
    all: &mut Declarations,
    told: &mut dyn FnMut(String),
) {
    if !route.query.is_empty() || !route.path_parameters.is_empty() || route.path.contains('{') {
        told(
            "a route to a model takes its input from the body; parameters belong to routes without a model"
                .into(),
        );
    }
    if matches!(route.method, RouteMethod::Get | RouteMethod::Delete) {
        let method = route.method.name();
        told(format!("a route to a model reads a body, which {method} has not: use POST"));
    }
    match snapshot.version(model, route.version.as_deref()) {
        Ok(version) => match predict_kind(route, version) {
            Ok(kind) => {
                let operation = operation(route, &version.spec, kind);
                all.served.push(Declared { operation, version: Some(version.clone()), by_version: false });
            }
            Err(problems) => problems.into_iter().for_each(told),
        },
        Err(error) if error.code == ErrorCode::Unavailable => {
            all.unavailable.push(Unavailable { path: route.path.clone(), method: route.method, error })
        }
        Err(error) => {
            let have: Vec<_> = snapshot.models().map(|(name, _)| name.as_str()).collect();
            told(format!("{error}; models served: {}", have.join(", ")));
        }
    }
}

fn operation(route: &RouteConfig, spec: &ModelSpec, kind: OperationKind) -> Operation {
    Operation {
        path: route.path.clone(),
        method: route.method,
        tag: route.tag.clone().unwrap_or_else(|| spec.name.to_string()),
        summary: route.summary.clone().unwrap_or_else(|| format!("Predict with {}", spec.name)),
        kind,
    }
}

fn predict_kind(route: &RouteConfig, version: &ServedVersion) -> Result<OperationKind, Vec<String>> {
    let spec = &version.spec;
    let mut problems = Vec::new();
    let shape = body_shape(&route.request, spec).map_err(|p| problems.extend(p)).ok();
    let entries: Vec<_> = route
        .response
        .iter()
        .filter_map(|(key, word)| {
            Some((key.clone(), resolve(word, spec).map_err(|p| problems.push(p)).ok()?))
        })
        .collect();
    if route.response.is_empty() {
        problems.push(
            "`response` is empty: write for example `response = { prediction = \"prediction\" }`".into(),
        );
    }
    let Some(shape) = shape.filter(|_| problems.is_empty()) else { return Err(problems) };
    let many = !matches!(shape, BodyShape::Row);
    let response = ResponseTemplate { entries, many };
    let cached = version.executor.cached().is_some();
    Ok(OperationKind::Predict { spec: spec.clone(), shape, response, selectable: false, cached })
}

fn body_shape(request: &RequestShape, spec: &ModelSpec) -> Result<BodyShape, Vec<String>> {
    match (&request.rows, &request.columns) {
        (Some(_), Some(_)) => Err(vec!["`request` takes `rows` or `columns`, not both".into()]),
        (Some(key), None) => Ok(BodyShape::Rows { key: key.clone() }),
        (None, None) => Ok(BodyShape::Row),
        (None, Some(columns)) => {
            let names: Vec<&str> = spec.schema.names().collect();
            let (mut keys, mut problems) = (Vec::new(), Vec::new());
            for (key, field) in columns {
                match names.iter().position(|name| name == field) {
                    Some(index) => keys.push((key.clone(), index)),
                    None => problems.push(unknown("field", field, names.iter().copied())),
                }
            }
            keys.sort_by_key(|(_, index)| *index);
            if problems.is_empty() { Ok(BodyShape::Columns { keys }) } else { Err(problems) }
        }
    }
}

fn unknown<'a>(what: &str, name: &str, have: impl Iterator<Item = &'a str>) -> String {
    format!("unknown {what} `{name}`, one of: {}", have.collect::<Vec<_>>().join(", "))
}

fn resolve(word: &Value, spec: &ModelSpec) -> Result<Word, String> {
    let Value::String(word) = word else {
        return Err(format!("a response's value is a word such as \"prediction\", not {word}"));
    };
    resolve_word(word, spec)
}

/// What `word` means for a model.
pub(crate) fn resolve_word(word: &str, spec: &ModelSpec) -> Result<Word, String> {
    match word {
        "model" => Ok(Word::Model),
        "version" => Ok(Word::Version),
        "feature_asof" => Ok(Word::FeatureAsof),
        _ => spec.answer(word).cloned().map(Word::Answer).ok_or_else(|| {
            let words =
                spec.answers.iter().map(|(w, _)| w.as_str()).chain(["model", "version", "feature_asof"]);
            unknown("word", word, words)
        }),
    }
}

fn template_route(route: &RouteConfig, all: &mut Declarations, told: &mut dyn FnMut(String)) {
    if route.request != RequestShape::default() || route.version.is_some() {
        told("`request` and `version` need a `model`".into());
    }
    let response = Value::Object(route.response.clone());
    if let Err(problems) = template::check(&route.path, &route.query, &route.path_parameters, &response) {
        return problems.into_iter().for_each(told);
    }
    let operation = Operation {
        path: route.path.clone(),
        method: route.method,
        tag: route.tag.clone().unwrap_or_else(|| "default".into()),
        summary: route.summary.clone().unwrap_or_else(|| format!("{} {}", route.method.name(), route.path)),
        kind: OperationKind::Template {
            query: route.query.clone(),
            path: template::path_parameters(&route.path, &route.path_parameters),
            response,
        },
    };
    all.served.push(Declared::without_version(operation));
}

/// The paths that every model has: `:predict` on the latest version and on each.
fn model_operations(snapshot: &ServingSnapshot) -> impl Iterator<Item = Declared> + '_ {
    snapshot.models().flat_map(|(name, model)| {
        let latest = model.versions().last().map(|v| predict_operation(latest_path(name), v, true));
        let each =
            model.versions().map(move |v| predict_operation(version_path(name, &v.spec.version), v, false));
        latest.into_iter().chain(each)
    })
}

/// The same paths of what could not be loaded and has no older state that serves, and of what
/// is unloaded.
fn unavailable_operations(snapshot: &ServingSnapshot) -> impl Iterator<Item = Unavailable> {
    let mut paths = BTreeMap::new();
    let failed = snapshot.failures().iter().map(|f| (f.model.as_str(), f.version.as_ref()));
    for (model, version) in failed.chain(snapshot.unloaded().map(|name| (name.as_str(), None))) {
        // The name of a folder that could not be read need not be a model's name.
        let Ok(name) = model.parse::<ModelName>() else { continue };
        if let Some(version) = version
            && let Err(error) = snapshot.version(model, Some(version.as_str()))
        {
            paths.insert(version_path(&name, version), error);
        }
        if let Err(error) = snapshot.version(model, None) {
            paths.insert(latest_path(&name), error);
        }
    }
    paths.into_iter().map(|(path, error)| Unavailable { path, method: RouteMethod::Post, error })
}

fn latest_path(name: &ModelName) -> String {
    format!("{MODELS_PREFIX}{name}:predict")
}

fn version_path(name: &ModelName, version: &Version) -> String {
    format!("{MODELS_PREFIX}{name}/versions/{version}:predict")
}

fn predict_operation(path: String, version: &Arc<ServedVersion>, latest: bool) -> Declared {
    let spec = &version.spec;
    let which = if latest { "the latest version".to_owned() } else { format!("version {}", spec.version) };
    let answer = spec.answer("answer").cloned().unwrap_or(Answer::Record(Vec::new()));
    let kind = OperationKind::Predict {
        spec: spec.clone(),
        shape: BodyShape::Instances,
        response: ResponseTemplate {
            entries: vec![("predictions".into(), Word::Answer(answer))],
            many: true,
        },
        selectable: latest,
        cached: version.executor.cached().is_some(),
    };
    let operation = Operation {
        path,
        method: RouteMethod::Post,
        tag: "models".into(),
        summary: format!("Predict with {which} of {}", spec.name),
        kind,
    };
    Declared { operation, version: Some(version.clone()), by_version: !latest }
}

/// Always there, so that a model which is gone for now is told so; described where a model
/// embeds.
fn embeddings(snapshot: &ServingSnapshot) -> Declared {
    let models = openai::embedders(snapshot).map(|version| version.spec.clone()).collect();
    let cached = openai::embedders(snapshot).any(|version| version.executor.cached().is_some());
    let operation = Operation {
        path: openai::PATH.into(),
        method: RouteMethod::Post,
        tag: "models".into(),
        summary: "Embed texts, as OpenAI's API does".into(),
        kind: OperationKind::Embeddings { models, cached },
    };
    Declared::without_version(operation)
}

fn state_operations(state: &State) -> impl Iterator<Item = Declared> {
    state::endpoints(state).into_iter().map(|endpoint| {
        Declared::without_version(Operation {
            path: endpoint.path(),
            method: endpoint.method(),
            tag: "state".into(),
            summary: endpoint.summary(),
            kind: OperationKind::State(endpoint),
        })
    })
}

fn v2() -> impl Iterator<Item = Declared> {
    ENDPOINTS.into_iter().map(|(endpoint, method, path)| {
        Declared::without_version(Operation {
            path: path.into(),
            method,
            tag: "v2".into(),
            summary: endpoint.summary().into(),
            kind: OperationKind::V2(endpoint),
        })
    })
}

fn builtins() -> impl Iterator<Item = Declared> {
    const ALL: [(Builtin, &str, &str); 8] = [
        (Builtin::Health, "/health", "The time"),
        (Builtin::Live, "/livez", "Whether the process answers"),
        (Builtin::Ready, "/readyz", "Whether every model can answer"),
        (Builtin::Startup, "/startupz", "Whether the first load is done"),
        (Builtin::Metrics, "/metrics", "Prometheus metrics"),
        (Builtin::Models, "/v1/models", "What is served"),
        (Builtin::OpenApi, "/openapi.json", "This description"),
        (Builtin::Docs, "/docs", "The docs page"),
    ];
    ALL.into_iter().map(|(builtin, path, summary)| {
        Declared::without_version(Operation {
            path: path.into(),
            method: RouteMethod::Get,
            tag: "server".into(),
            summary: summary.into(),
            kind: OperationKind::Builtin(builtin),
        })
    })
}
