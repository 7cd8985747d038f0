//! The life of one request, from its head to its answer.

use std::{convert::Infallible, future::Future, net::IpAddr, pin::Pin, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{
    body::{Body as _, Incoming},
    service::Service,
};
use weir_serving::Sender;
use weir_types::{Error, Grant, trace::Scope};

use crate::{
    admin, body, builtin,
    face::Face,
    grpc, head,
    listener::{Body, Untaken},
    metrics::{InFlight, RouteMetrics},
    observe::observe,
    openai, predict, respond,
    routes::{Found, Handler, Route},
    server::Shared,
    state,
    trace::Trace,
    v2::rest,
};

/// What one listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faces {
    /// Everything.
    All,
    /// Everything but gRPC, which has a listener of its own.
    Http,
    /// gRPC.
    Grpc,
    /// `/metrics`.
    Metrics,
    /// What operators ask and order.
    Admin,
}

/// The hyper service.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) faces: Faces,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
}

impl Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self { shared, faces, peer } = self.clone();
        Box::pin(async move {
            let grpc = grpc::is_grpc(request.headers());
            let untaken = request.extensions_mut().remove::<Untaken>();
            let response = match faces {
                Faces::Metrics if request.uri().path() == "/metrics" => {
                    builtin::metrics(&shared, request.headers())
                }
                Faces::All | Faces::Grpc if grpc => grpc::handle(shared, peer, request).await,
                Faces::Http if grpc => grpc::elsewhere(),
                Faces::All | Faces::Http | Faces::Admin => handle(&shared, faces, peer, request).await,
                Faces::Grpc | Faces::Metrics => respond::not_found(),
            };
            Ok(match untaken {
                Some(untaken) => response.map(|body| body.counted(untaken)),
                None => response,
            })
        })
    }
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// Its place in a trace.
    pub(crate) trace: Option<&'a Scope>,
}

impl Origin<'_> {
    /// Whom an admitted request is from, which was granted access.
    pub(crate) fn sender(self, grant: Grant) -> Sender {
        Sender { grant, peer: Some(self.peer), trace: self.trace.cloned() }
    }
}

/// The life of one request, from its head to its answer.
async fn handle(
    shared: &Arc<Shared>,
    faces: Faces,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let start = shared.predictor.clock().now();
    let _in_flight = InFlight::enter(&shared.metrics);
    let (head, mut body) = request.into_parts();
    let id = head::request_id(&head.headers);
    let face = shared.face();
    let v2 = faces != Faces::Admin && rest::is_ours(head.uri.path());
    let found = match refusal(faces, &head) {
        Some(refusal) => Err(refusal),
        None => Ok(find(shared, &face, faces, &head)),
    };
    let known = found.as_ref().ok().and_then(Found::route);
    let trace = Trace::of_http(shared.tracing(), &head, known, start);
    let (mut response, route) = match found {
        Ok(Found::Route(route, parameters)) => {
            let (asked, from) = ((&*route, &*parameters, &head), Origin { peer, trace: trace.scope() });
            (dispatch(shared, &face, from, asked, &mut body, &id).await, Some(route))
        }
        Ok(Found::MethodNotAllowed(allow)) if v2 => (rest::method_not_allowed(allow), None),
        Ok(Found::Nothing) if v2 => (rest::not_found(), None),
        Ok(Found::MethodNotAllowed(allow)) => (respond::method_not_allowed(allow), None),
        Ok(Found::Redirect(path)) => (redirect(&head, &path), None),
        Ok(Found::Nothing) => {
            let unknown = state::unknown(shared.state.features.as_ref(), head.uri.path());
            (
                unknown.map_or_else(respond::not_found, |text| respond::detail(StatusCode::NOT_FOUND, &text)),
                None,
            )
        }
        // Two readers may see two requests here, or a stranger asks: nothing more is read.
        Err(mut response) => {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            (response, None)
        }
    };
    // hyper closes behind an answer that comes before its request was read: the client must
    // be told, or it loses the next one.
    if shared.is_draining() || !body::is_over(&mut body, &head.headers) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    finish(&head, &mut response, id);
    // One route serves all models of a protocol; each model counts for itself.
    let model = response.extensions_mut().remove::<Arc<RouteMetrics>>();
    let metrics = route.as_ref().map_or(&face.unmatched, |r| &r.metrics);
    let metrics = model.as_deref().unwrap_or(metrics);
    observe(shared, &head, &response, route.as_deref(), metrics, (trace, start));
    response
}

/// What a head gets that cannot be answered, whatever it asks for.
fn refusal(faces: Faces, head: &Parts) -> Option<Response<Body>> {
    match head::ambiguity(head) {
        Some(problem) => Some(respond::detail(StatusCode::BAD_REQUEST, problem)),
        None if faces == Faces::Admin => admin::foreign(head),
        None => None,
    }
}

/// What answers on a listener of `faces`.
fn find(shared: &Shared, face: &Face, faces: Faces, head: &Parts) -> Found {
    let routes = match faces {
        Faces::Admin => shared.admin().map(|admin| &admin.routes),
        _ => Some(&face.routes),
    };
    routes.map_or(Found::Nothing, |routes| routes.find(&head.method, head.uri.path()))
}

async fn dispatch(
    shared: &Arc<Shared>,
    face: &Face,
    from: Origin<'_>,
    (route, parameters, head): (&Route, &[(String, String)], &Parts),
    body: &mut Incoming,
    id: &HeaderValue,
) -> Response<Body> {
    match &route.handler {
        Handler::Predict(handler) => match predict::answer(shared, face, handler, (from, head), body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(id),
        },
        Handler::Template(template) => {
            let read = read_and_drop(shared, head, body).await;
            read.map_or_else(|e| respond::error(&e, id), |()| template.answer(head, parameters))
        }
        Handler::Builtin(builtin) => builtin::answer(shared, face, *builtin, &head.headers),
        Handler::Admin(endpoint) => {
            let answered = admin::answer(shared, face, *endpoint, head, body).await;
            answered.unwrap_or_else(|e| respond::error(&e, id))
        }
        Handler::Embeddings => openai::answer(shared, face, (from, head), body).await,
        Handler::State(handler) => {
            let answer = state::answer(shared, handler, parameters, (from.peer, head), body).await;
            answer.unwrap_or_else(|refusal| refusal.response(id))
        }
        Handler::V2(endpoint) => rest::answer(shared, face, *endpoint, parameters, (from, head), body).await,
        Handler::Asset => builtin::asset(head.uri.path(), &head.headers),
        Handler::Unavailable(error) => respond::error(error, id),
    }
}

/// Reads a body that the answer does not depend on, within the usual bounds, so that the
/// connection can carry the next request.
async fn read_and_drop(shared: &Shared, head: &Parts, body: &mut Incoming) -> Result<(), Error> {
    body::check_head(&head.headers, shared.body_limits())?;
    let timeout = head::timeout(&head.headers, shared.request_timeout()).map_err(Error::invalid)?;
    body::skip(body, shared.body_limits(), timeout).await
}

/// A relative reference (RFC 9110 section 10.2.2): FastAPI's absolute one names the wrong
/// scheme behind a proxy that ends TLS.
fn redirect(head: &Parts, path: &str) -> Response<Body> {
    let query = head.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    respond::redirect(&format!("{path}{query}"))
}

fn finish(head: &Parts, response: &mut Response<Body>, id: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(head::REQUEST_ID, id);
    // HTTP/2 has no such header (RFC 9113 section 8.2.2).
    if head.version >= Version::HTTP_2 {
        headers.remove(header::CONNECTION);
    }
    // HTTP/1 leaves the body of an answer to HEAD away; over HTTP/2 hyper would send it,
    // which is a protocol error.
    if head.method == Method::HEAD {
        let body = std::mem::take(response.body_mut());
        let length = body.size_hint().exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
}
