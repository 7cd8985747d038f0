//! What operators ask and order, on a listener of its own.
//!
//! There is no authentication, so the listener is on loopback alone. That keeps other machines out
//! but not the pages of a browser on this one, which may send some requests anywhere (Fetch
//! standard, "simple" requests) and, through a name of theirs that leads here, read the answers.
//! Hence two rules: what has a body must say that it is JSON, which no page can without asking
//! first, and the host must be this machine by one of its own names.

mod cache;

use std::net::IpAddr;

use bytes::Bytes;
use http::{Response, StatusCode, header, request::Parts, uri::Authority};
use hyper::body::Incoming;
use serde::Deserialize;
use weir_serving::{Admission, Room};
use weir_types::{Access, Credentials, Deadline, Error, ErrorCode};

use crate::{
    body::{self, BodyLimits},
    config::RouteMethod::{self, Get, Post},
    face::Face,
    head,
    listener::Body,
    metrics::Metrics,
    openapi,
    operation::{Builtin, Operation, OperationKind},
    respond,
    routes::{self, Handler, Routes},
    server::Shared,
};

/// Most bytes of an order, which names a model, a version or a tag.
const LARGEST_ORDER: u64 = 16 << 10;

/// What the admin listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `GET /admin/v1/cache`: what each model's cache counted.
    Cache,
    /// `POST /admin/v1/cache:purge`: forgets entries.
    PurgeCache,
    /// `POST /admin/v1/cache:explain`: whether two bodies share entries, and why not.
    ExplainCache,
    /// `GET /openapi.json`: the description of this listener.
    OpenApi,
}

impl Endpoint {
    /// One line for the docs page.
    fn summary(self) -> &'static str {
        match self {
            Endpoint::Cache => "What the cache counted",
            Endpoint::PurgeCache => "Forget stored answers",
            Endpoint::ExplainCache => "Why two bodies do or do not share an entry",
            Endpoint::OpenApi => "This description",
        }
    }
}

/// Every endpoint with its method and path.
pub(crate) const ENDPOINTS: [(Endpoint, RouteMethod, &str); 4] = [
    (Endpoint::Cache, Get, "/admin/v1/cache"),
    (Endpoint::PurgeCache, Post, "/admin/v1/cache:purge"),
    (Endpoint::ExplainCache, Post, "/admin/v1/cache:explain"),
    (Endpoint::OpenApi, Get, "/openapi.json"),
];

/// The listener's routes and their description. They do not change with what is served.
pub(crate) struct Admin {
    pub(crate) routes: Routes,
    openapi: Bytes,
}

impl Admin {
    /// Compiles the routes; their requests count in `metrics`.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let operations = operations();
        let mut builder = routes::Builder::new(metrics);
        for operation in &operations {
            let handler = match operation.kind {
                OperationKind::Admin(endpoint) => Handler::Admin(endpoint),
                _ => Handler::Builtin(Builtin::Docs),
            };
            builder.add(operation.method, &operation.path, handler, None);
        }
        builder.add(Get, "/docs/{file}", Handler::Asset, None);
        // The paths are those above, which a test compiles.
        let routes = builder.finish(&mut |_, problem| tracing::error!("{problem}"));
        let document = openapi::document(&operations, false, env!("CARGO_PKG_VERSION"));
        Self { routes, openapi: document.to_string().into() }
    }
}

/// What is compiled and described.
pub(crate) fn operations() -> Vec<Operation> {
    let operation = |kind, method, path: &str, summary: &str| Operation {
        path: path.into(),
        method,
        tag: "admin".into(),
        summary: summary.into(),
        kind,
    };
    let endpoints = ENDPOINTS.into_iter().map(|(endpoint, method, path)| {
        operation(OperationKind::Admin(endpoint), method, path, endpoint.summary())
    });
    let docs = operation(OperationKind::Builtin(Builtin::Docs), Get, "/docs", "The docs page");
    endpoints.chain([docs]).collect()
}

/// Why a request is not this machine's own.
pub(crate) fn foreign(head: &Parts) -> Option<Response<Body>> {
    let named = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let authority: Option<Authority> = head.uri.authority().cloned().or(named);
    let ours = authority.is_some_and(|authority| is_loopback(authority.host()));
    (!ours).then(|| {
        let text = "the admin API answers requests to this machine alone: ask 127.0.0.1, ::1 or localhost";
        respond::detail(StatusCode::FORBIDDEN, text)
    })
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Answers a request to `endpoint`.
///
/// # Errors
/// Access, what is wrong with the request, and what stands in the way of obeying it.
pub(crate) async fn answer(
    shared: &Shared,
    face: &Face,
    endpoint: Endpoint,
    head: &Parts,
    incoming: &mut Incoming,
) -> Result<Response<Body>, Error> {
    let call = Call { shared, face, head };
    match endpoint {
        Endpoint::OpenApi => {
            let document = shared.admin().map(|admin| admin.openapi.clone()).unwrap_or_default();
            Ok(respond::json(StatusCode::OK, document))
        }
        Endpoint::Cache => call.cache_statistics(),
        Endpoint::PurgeCache => call.purge_cache(incoming).await,
        Endpoint::ExplainCache => call.explain_cache(incoming).await,
    }
}

/// One request, its body apart.
struct Call<'a> {
    shared: &'a Shared,
    face: &'a Face,
    head: &'a Parts,
}

impl Call<'_> {
    fn authorize(&self, access: Access<'_>) -> Result<(), Error> {
        let authorization = self.head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        self.shared.authorizer.authorize(Credentials { authorization }, access).map(drop)
    }

    /// When the answer stops being of use.
    fn deadline(&self) -> Result<Deadline, Error> {
        let timeout =
            head::timeout(&self.head.headers, self.shared.request_timeout()).map_err(Error::invalid)?;
        Ok(Deadline::after(self.shared.predictor.clock().now(), timeout))
    }

    /// The body of an order. It is small, and there is room for it however busy the server is: an order
    /// may be what helps then.
    async fn order(&self, incoming: &mut Incoming) -> Result<Bytes, Error> {
        let max_bytes = self.shared.body_limits().max_bytes.min(LARGEST_ORDER);
        let limits = BodyLimits { max_bytes, ..self.shared.body_limits() };
        self.read(incoming, limits, Admission::new(max_bytes).room()).await
    }

    /// The body of a question, which may be as large as those of predictions and counts with them.
    async fn question(&self, incoming: &mut Incoming) -> Result<Bytes, Error> {
        self.read(incoming, self.shared.body_limits(), self.shared.predictor.room()).await
    }

    /// A body, which must say that it is JSON.
    async fn read(
        &self,
        incoming: &mut Incoming,
        limits: BodyLimits,
        mut room: Room,
    ) -> Result<Bytes, Error> {
        let headers = &self.head.headers;
        if !headers.contains_key(header::CONTENT_TYPE) || !head::is_json(headers) {
            let text = "the body is JSON: send Content-Type: application/json";
            return Err(Error::new(ErrorCode::UnsupportedMediaType, text));
        }
        room.fits(body::check_head(headers, limits)?)?;
        body::read_into(incoming, &mut room, self.deadline()?, limits).await
    }
}

/// Reads a body that says `what` to do.
///
/// # Errors
/// `InvalidArgument` with what is wrong.
fn read<'de, T: Deserialize<'de>>(body: &'de [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| {
        // The name of an unknown key is as long as the caller likes.
        let why: String = e.to_string().chars().take(256).collect();
        Error::invalid(format!("the body does not say {what}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use http::{HeaderMap, HeaderValue, Request};
    use weir_serving::ServingSnapshot;

    use super::*;
    use crate::{routes::Found, state::State};

    fn host(value: &'static str) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(value))]);
        parts
    }

    #[test]
    fn every_endpoint_is_routed_and_none_is_public() {
        let snapshot = Arc::new(ServingSnapshot::default());
        let metrics = Metrics::new(Arc::new(ArcSwap::new(snapshot.clone())), Admission::new(1));
        let public =
            Face::build(&[], snapshot, &State::default(), &metrics, true).unwrap_or_else(|p| panic!("{p:?}"));
        let admin = Admin::new(&metrics);
        for (endpoint, method, path) in ENDPOINTS {
            let method = method.name().parse().unwrap();
            let Found::Route(route, _) = admin.routes.find(&method, path) else { panic!("{path}") };
            assert!(matches!(route.handler, Handler::Admin(e) if e == endpoint), "{path}");
            let public = public.routes.find(&method, path);
            let only_here = path.starts_with("/admin/");
            assert_eq!(matches!(public, Found::Nothing), only_here, "{path}");
        }
    }

    #[test]
    fn a_name_that_is_not_this_machines_is_refused() {
        for ours in ["127.0.0.1", "127.0.0.1:8001", "[::1]:8001", "LocalHost", "localhost:1", "127.3.2.1:1"] {
            assert!(foreign(&host(ours)).is_none(), "{ours}");
        }
        for other in ["weir.example:8001", "10.0.0.1", "127.0.0.1.example", "localhost.example", "", "[::2]"]
        {
            assert_eq!(foreign(&host(other)).map(|r| r.status()), Some(StatusCode::FORBIDDEN), "{other}");
        }
        let (mut h2, ()) = Request::new(()).into_parts();
        assert!(foreign(&h2).is_some(), "no host at all");
        h2.uri = "http://localhost:8001/admin/v1/cache".parse().unwrap();
        assert!(foreign(&h2).is_none());
    }

    #[test]
    fn what_a_caller_sent_is_not_echoed_at_length() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let body = format!("{{\"{}\":1}}", "k".repeat(10_000));
        let error = read::<Nothing>(body.as_bytes(), "nothing").unwrap_err();
        assert!(error.message.len() < 400 && error.message.contains("unknown field"), "{error}");
    }
}
