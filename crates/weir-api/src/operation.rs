//! What the server offers, as data: routes are compiled from it and documented from it, so
//! the two cannot disagree.

use std::sync::Arc;

use weir_artifact::ModelSpec;
use weir_codec::BodyShape;
use weir_types::Answer;

pub use crate::{admin::Endpoint as AdminEndpoint, v2::rest::Endpoint};

use crate::{
    config::{ParameterConfig, RouteMethod},
    state::StateEndpoint,
};

/// One path and method that the server answers.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The path as matched, `{x}` for parameters.
    pub path: String,
    /// The method.
    pub method: RouteMethod,
    /// Group on the docs page.
    pub tag: String,
    /// One line for the docs page.
    pub summary: String,
    /// What it does.
    pub kind: OperationKind,
}

/// What an operation does.
#[derive(Debug, Clone)]
pub enum OperationKind {
    /// Asks a model.
    Predict {
        /// The model version that answers.
        spec: Arc<ModelSpec>,
        /// How the body holds rows.
        shape: BodyShape,
        /// How the answer is laid out.
        response: ResponseTemplate,
        /// Whether `?outputs=` and `?version=` are understood (`:predict` only).
        selectable: bool,
        /// Whether the version keeps its answers.
        cached: bool,
    },
    /// Fills parameters into a fixed answer.
    Template {
        /// Query parameters.
        query: Vec<ParameterConfig>,
        /// Path parameters.
        path: Vec<ParameterConfig>,
        /// The answer, `{x}` in its strings for parameters.
        response: serde_json::Value,
    },
    /// The server's own: health, metrics, docs.
    Builtin(Builtin),
    /// Told to operators, on the admin listener.
    Admin(AdminEndpoint),
    /// Embeds texts as OpenAI's API does.
    Embeddings {
        /// The models that can be asked, in their latest versions.
        models: Vec<Arc<ModelSpec>>,
        /// Whether any of them keeps its answers.
        cached: bool,
    },
    /// Features of entities and events of streams.
    State(StateEndpoint),
    /// The Open Inference Protocol V2, which describes itself.
    V2(Endpoint),
}

/// The server's own operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `GET /health`: `{"time": ISO 8601}`.
    Health,
    /// `GET /livez`: the process answers.
    Live,
    /// `GET /readyz`: every model can answer and the server is not draining.
    Ready,
    /// `GET /startupz`: the first load is done.
    Startup,
    /// `GET /metrics`: Prometheus text exposition.
    Metrics,
    /// `GET /v1/models`: what is served.
    Models,
    /// `GET /openapi.json`.
    OpenApi,
    /// `GET /docs` and the files it needs.
    Docs,
}

/// How answers are laid out in a response body.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseTemplate {
    /// Key and what it holds.
    pub entries: Vec<(String, Word)>,
    /// Whether an answer is a list with one entry a row, or the one row's own.
    pub many: bool,
}

/// What one key of a response holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// An answer of the model.
    Answer(Answer),
    /// The model's name.
    Model,
    /// The version that answered.
    Version,
    /// The oldest event time among the features that were looked up; `null` where none was.
    FeatureAsof,
}
