//! The protocol over REST.

mod infer;
mod raw;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde_json::{Value, json};
use weir_serving::ModelControl;
use weir_types::{Access, Credentials, Error, ErrorCode, ModelName};

use super::{
    core::{repository_index, server_metadata, statistics},
    json::{read_index, write, write_error},
};
use crate::{
    body,
    config::RouteMethod::{self, Get, Post},
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
}

/// What inference requests are counted under, with or without a version in the path.
pub(crate) const INFER_PATH: &str = "/v2/models/{model}/infer";

/// Every endpoint with its method and path.
pub(crate) const ENDPOINTS: [(Endpoint, RouteMethod, &str); 17] = [
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
    head: &Parts,
    incoming: &mut Incoming,
) -> Response<Body> {
    let call = Call { shared, face, parameters, head };
    let answered = match endpoint {
        Endpoint::Infer => infer::answer(&call, incoming).await,
        Endpoint::Index => call.index(incoming).await,
        Endpoint::Load | Endpoint::Unload => call.control(endpoint, incoming).await,
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
            Endpoint::Statistics => self.statistics(name, version)?,
            Endpoint::AllStatistics => {
                let versions = self.face.snapshot.models().flat_map(|(_, m)| m.versions());
                write::statistics(&versions.map(|v| statistics(v)).collect::<Vec<_>>())
            }
            _ => write::server(&server_metadata(self.shared.control().is_some())),
        };
        Ok(respond::json(StatusCode::OK, value.to_string()))
    }

    /// Of one version, or of all that the model has.
    fn statistics(&self, name: &str, version: Option<&str>) -> Result<Value, Error> {
        let view = self.face.v2.view(name, version)?;
        let all = match version {
            Some(_) => vec![statistics(view.version())],
            None => {
                let models = self.face.snapshot.models().filter(|(n, _)| n.as_str() == name);
                models.flat_map(|(_, m)| m.versions()).map(|v| statistics(v)).collect()
            }
        };
        Ok(write::statistics(&all))
    }

    /// As `/readyz`: every model has a version that can answer.
    fn ready(&self) -> Response<Body> {
        let ready = !self.shared.is_draining() && self.face.snapshot.unavailable().next().is_none();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = respond::json(status, json!({ "ready": ready }).to_string());
        if !ready {
            respond::advise(&Error::new(ErrorCode::Unavailable, "not ready"), response.headers_mut());
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
        let Some(control) = self.shared.control() else {
            let text = "models are not controlled by clients here: set `model_control = \"explicit\"` under [server]";
            return Err(Error::new(ErrorCode::PermissionDenied, text));
        };
        let body = self.small_body(incoming).await?;
        self.give_order(control, endpoint, &body).await?;
        Ok(respond::json(StatusCode::OK, "{}"))
    }

    async fn give_order(&self, control: &ModelControl, endpoint: Endpoint, body: &[u8]) -> Result<(), Error> {
        let name = self.parameter("model").unwrap_or_default();
        let model: ModelName =
            name.parse().map_err(|e: weir_types::NameError| Error::invalid(e.to_string()))?;
        if endpoint == Endpoint::Unload {
            return control.unload(model).await;
        }
        super::json::refuse_overrides(body)?;
        control.load(model).await
    }

    /// A body that is small or nothing.
    async fn small_body(&self, incoming: &mut Incoming) -> Result<bytes::Bytes, Error> {
        const MOST_BYTES: u64 = 64 << 10;
        let max_bytes = self.shared.body_limits.max_bytes.min(MOST_BYTES);
        let limits = body::BodyLimits { max_bytes, ..self.shared.body_limits };
        let declared = body::check_head(&self.head.headers, limits)?;
        let timeout =
            head::timeout(&self.head.headers, self.shared.request_timeout).map_err(Error::invalid)?;
        let deadline = weir_types::Deadline::after(self.shared.predictor.clock().now(), timeout);
        let mut admitted = self.shared.predictor.admit(self.authorize(Access::Read)?, declared, deadline)?;
        body::read(incoming, &mut admitted, limits).await
    }
}
