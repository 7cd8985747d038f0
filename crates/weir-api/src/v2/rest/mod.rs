//! The protocol over REST.

mod infer;
mod raw;
mod settings;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde_json::json;
use weir_serving::Sender;
use weir_types::{Access, Credentials, Error};

use super::{
    core::{
        UNLOAD_PARAMETERS, control, model_name, refuse_parameters, repository_index, server_metadata,
        statistics,
    },
    json::{read_index, read_order, write, write_error},
};
use crate::{
    body,
    config::RouteMethod::{self, Get, Post},
    exchange::Origin,
    face::Face,
    head,
    listener::Body,
    respond,
    server::Shared,
};

/// What the protocol offers over REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `GET /v2`: name, version, extensions.
    Server,
    /// `GET /v2/health/live`.
    Live,
    /// `GET /v2/health/ready`.
    Ready,
    /// `GET /v2/models/{model}[/versions/{version}]`: inputs and outputs.
    Model,
    /// `GET /v2/models/{model}[/versions/{version}]/ready`.
    ModelReady,
    /// `GET /v2/models/{model}[/versions/{version}]/config`.
    Config,
    /// `GET /v2/models/{model}[/versions/{version}]/stats`.
    Statistics,
    /// `GET /v2/models/stats`: of all models.
    AllStatistics,
    /// `POST /v2/models/{model}[/versions/{version}]/infer`.
    Infer,
    /// `POST /v2/repository/index`.
    Index,
    /// `POST /v2/repository/models/{model}/load`.
    Load,
    /// `POST /v2/repository/models/{model}/unload`.
    Unload,
    /// `GET /v2[/models/{model}]/trace/setting`.
    Trace,
    /// `POST /v2[/models/{model}]/trace/setting`.
    SetTrace,
    /// `GET /v2/logging`.
    Log,
    /// `POST /v2/logging`.
    SetLog,
}

impl Endpoint {
    /// One line for the docs page.
    pub(crate) fn summary(self) -> &'static str {
        match self {
            Endpoint::Server => "The server",
            Endpoint::Live => "Whether the process answers",
            Endpoint::Ready => "Whether every model can answer",
            Endpoint::Model => "A model's inputs and outputs",
            Endpoint::ModelReady => "Whether a model can answer",
            Endpoint::Config => "A model's configuration",
            Endpoint::Statistics => "A model's statistics",
            Endpoint::AllStatistics => "All statistics",
            Endpoint::Infer => "Ask a model with tensors",
            Endpoint::Index => "The models there are",
            Endpoint::Load => "Load a model",
            Endpoint::Unload => "Unload a model",
            Endpoint::Trace => "Trace settings",
            Endpoint::SetTrace => "Change trace settings",
            Endpoint::Log => "Log settings",
            Endpoint::SetLog => "Change log settings",
        }
    }
}

/// What inference requests are counted under, with or without a version in the path.
pub(crate) const INFER_PATH: &str = "/v2/models/{model}/infer";

/// Every endpoint with its method and path.
pub(crate) const ENDPOINTS: [(Endpoint, RouteMethod, &str); 23] = [
    (Endpoint::Server, Get, "/v2"),
    (Endpoint::Live, Get, "/v2/health/live"),
    (Endpoint::Ready, Get, "/v2/health/ready"),
    (Endpoint::Model, Get, "/v2/models/{model}"),
    (Endpoint::Model, Get, "/v2/models/{model}/versions/{version}"),
    (Endpoint::ModelReady, Get, "/v2/models/{model}/ready"),
    (Endpoint::ModelReady, Get, "/v2/models/{model}/versions/{version}/ready"),
    (Endpoint::Config, Get, "/v2/models/{model}/config"),
    (Endpoint::Config, Get, "/v2/models/{model}/versions/{version}/config"),
    (Endpoint::Statistics, Get, "/v2/models/{model}/stats"),
    (Endpoint::Statistics, Get, "/v2/models/{model}/versions/{version}/stats"),
    (Endpoint::AllStatistics, Get, "/v2/models/stats"),
    (Endpoint::Infer, Post, INFER_PATH),
    (Endpoint::Infer, Post, "/v2/models/{model}/versions/{version}/infer"),
    (Endpoint::Index, Post, "/v2/repository/index"),
    (Endpoint::Load, Post, "/v2/repository/models/{model}/load"),
    (Endpoint::Unload, Post, "/v2/repository/models/{model}/unload"),
    (Endpoint::Trace, Get, "/v2/trace/setting"),
    (Endpoint::Trace, Get, "/v2/models/{model}/trace/setting"),
    (Endpoint::SetTrace, Post, "/v2/trace/setting"),
    (Endpoint::SetTrace, Post, "/v2/models/{model}/trace/setting"),
    (Endpoint::Log, Get, "/v2/logging"),
    (Endpoint::SetLog, Post, "/v2/logging"),
];

/// Whether an error on this path is told in the protocol's form.
pub(crate) fn is_ours(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request to `endpoint`.
pub(crate) async fn answer(
    shared: &Shared,
    face: &Face,
    endpoint: Endpoint,
    parameters: &[(String, String)],
    (from, head): (Origin<'_>, &Parts),
    incoming: &mut Incoming,
) -> Response<Body> {
    let call = Call { shared, face, parameters, head, from };
    let answered = match endpoint {
        Endpoint::Infer => infer::answer(&call, incoming).await,
        Endpoint::Index => call.index(incoming).await,
        Endpoint::Load | Endpoint::Unload => call.control(endpoint, incoming).await,
        Endpoint::Trace | Endpoint::Log => call.settings(endpoint),
        Endpoint::SetTrace | Endpoint::SetLog => call.set(endpoint, incoming).await,
        other => call.read(other),
    };
    answered.unwrap_or_else(|e| error(&e))
}

/// An error in the protocol's form. The content type has no charset: kserve's client shows
/// an error's text only where it is exactly `application/json`.
pub(crate) fn error(error: &Error) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond::json(status, write_error(&error.message));
    respond::advise(error, response.headers_mut());
    response
}

/// 404 for a path that the protocol does not have.
pub(crate) fn not_found() -> Response<Body> {
    error(&Error::not_found("the protocol has no such path"))
}

/// 405 with the methods that the path has.
pub(crate) fn method_not_allowed(allow: HeaderValue) -> Response<Body> {
    let text = format!("the path takes {}", allow.to_str().unwrap_or_default());
    let mut response = respond::json(StatusCode::METHOD_NOT_ALLOWED, write_error(&text));
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

/// One request, its body apart.
struct Call<'a> {
    shared: &'a Shared,
    face: &'a Face,
    parameters: &'a [(String, String)],
    head: &'a Parts,
    from: Origin<'a>,
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The model and version that the path names.
    fn target(&self) -> (&str, Option<&str>) {
        (self.parameter("model").unwrap_or_default(), self.parameter("version"))
    }

    fn authorize(&self, access: Access<'_>) -> Result<weir_types::Grant, Error> {
        let authorization = self.head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        self.shared.authorizer.authorize(Credentials { authorization }, access)
    }

    /// Whom an admitted request is from.
    fn sender(&self, access: Access<'_>) -> Result<Sender, Error> {
        Ok(self.from.sender(self.authorize(access)?))
    }

    /// What is only read.
    fn read(&self, endpoint: Endpoint) -> Result<Response<Body>, Error> {
        // Probes carry no credentials.
        if !matches!(endpoint, Endpoint::Live | Endpoint::Ready) {
            self.authorize(Access::Read)?;
        }
        let models = &self.face.v2;
        let (name, version) = self.target();
        let value = match endpoint {
            Endpoint::Live => json!({"live": true}),
            Endpoint::Ready => return Ok(self.ready()),
            Endpoint::Model => write::model(&models.metadata(name, version)?),
            Endpoint::ModelReady => {
                models.view(name, version)?;
                json!({"name": name, "ready": true})
            }
            Endpoint::Config => write::config(&models.view(name, version)?.config()),
            // Of one version, of all that a model has, or of all there are.
            Endpoint::Statistics | Endpoint::AllStatistics => {
                let versions = models.asked(self.parameter("model"), version)?;
                write::statistics(&versions.iter().map(|v| statistics(v)).collect::<Vec<_>>())
            }
            _ => write::server(&server_metadata(self.shared)),
        };
        Ok(respond::json(StatusCode::OK, value.to_string()))
    }

    /// As `/readyz`: every model has a version that can answer.
    fn ready(&self) -> Response<Body> {
        let ready = !self.shared.is_draining() && self.face.snapshot.can_answer();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = respond::json(status, json!({ "ready": ready }).to_string());
        if !ready {
            respond::retry_after(None, response.headers_mut());
        }
        response
    }

    async fn index(&self, incoming: &mut Incoming) -> Result<Response<Body>, Error> {
        self.authorize(Access::Read)?;
        let ready_only = read_index(&self.small_body(incoming).await?)?;
        let entries = repository_index(&self.face.snapshot, ready_only);
        Ok(respond::json(StatusCode::OK, write::index(&entries).to_string()))
    }

    /// Load and unload. Their parameters (a configuration, files) are not supported, and
    /// refused rather than ignored.
    async fn control(&self, endpoint: Endpoint, incoming: &mut Incoming) -> Result<Response<Body>, Error> {
        self.authorize(Access::Deploy)?;
        let control = control(self.shared)?;
        let body = self.small_body(incoming).await?;
        let parameters = read_order(&body)?;
        let parameters = parameters.iter().map(String::as_str);
        let model = model_name(self.parameter("model").unwrap_or_default())?;
        if endpoint == Endpoint::Unload {
            refuse_parameters("unloading", parameters, &UNLOAD_PARAMETERS)?;
            control.unload(model).await?;
        } else {
            refuse_parameters("loading", parameters, &[])?;
            control.load(model).await?;
        }
        Ok(respond::json(StatusCode::OK, "{}"))
    }

    /// A body that is small or nothing.
    async fn small_body(&self, incoming: &mut Incoming) -> Result<bytes::Bytes, Error> {
        const MOST_BYTES: u64 = 64 << 10;
        let max_bytes = self.shared.body_limits().max_bytes.min(MOST_BYTES);
        let limits = body::BodyLimits { max_bytes, ..self.shared.body_limits() };
        let declared = body::check_head(&self.head.headers, limits)?;
        let timeout =
            head::timeout(&self.head.headers, self.shared.request_timeout()).map_err(Error::invalid)?;
        let deadline = weir_types::Deadline::after(self.shared.predictor.clock().now(), timeout);
        let mut admitted = self.shared.predictor.admit(self.sender(Access::Read)?, declared, deadline)?;
        body::read(incoming, &mut admitted, limits).await
    }
}
