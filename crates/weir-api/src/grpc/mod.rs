//! The gRPC face: the Open Inference Protocol V2 over [`v2::core`](crate::v2), health and
//! reflection, on the same connections as HTTP.
//!
//! hyper does HTTP/2; what gRPC adds is small: messages with a length before them, a status
//! in the trailers. It is written here rather than taken from tonic, because tonic reads a
//! whole message before anybody is asked (here no byte is read without room for it), answers
//! INTERNAL and OUT_OF_RANGE to mistakes of the caller, and its services need `async-trait`.
//! Its client is what the tests ask with. Messages are prost's, from the `.proto` files.

mod call;
mod config;
mod contents;
mod frame;
mod generated;
mod health;
mod inference;
mod keyed;
mod messages;
mod method;
mod reflection;
mod reply;
mod settings;
mod stream;
mod timeout;
mod weight;

/// The messages, as clients send and get them.
pub mod wire {
    pub use super::generated::{health, inference, reflection};
}

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use weir_types::{Error, ErrorCode, trace::Scope};

use call::Call;
use method::Method;
pub(crate) use method::{INFER_PATH, Methods, STREAM_PATH};
pub(crate) use reply::Reply;

use crate::{
    head, listener::Body, metrics::InFlight, metrics::RouteMetrics, observe::at_the_end, respond,
    server::Shared, trace::Trace,
};

/// Whether a request is gRPC's, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|e| e == b"application/grpc" || e.starts_with(b"application/grpc+"))
}

fn essence(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::CONTENT_TYPE)?.as_bytes().split(|b| *b == b';').next().map(<[u8]>::trim_ascii)
}

/// Answers a call on a listener that has no gRPC.
pub(crate) fn elsewhere() -> Response<Body> {
    let text = "gRPC has an address of its own here: `grpc_listen`";
    reply::response(Err(&Error::new(ErrorCode::Unsupported, text)), None)
}

/// Answers one call.
pub(crate) async fn handle(shared: Arc<Shared>, peer: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let start = shared.predictor.clock().now();
    let in_flight = InFlight::enter(&shared.metrics);
    let (head, body) = request.into_parts();
    if let Some(refusal) = not_a_call(&head) {
        return refusal;
    }
    let id = head::request_id(&head.headers);
    let method = Method::find(head.uri.path());
    let traced = shared.tracing().filter(|_| method.is_none_or(Method::is_work));
    let trace = Trace::of_grpc(traced, &head.headers, method.map(Method::path), start);
    let scope = trace.scope().cloned();
    let noted = Arc::<Noted>::default();
    let mut response = match prepare(shared.clone(), (peer, scope), head, in_flight, start) {
        Ok(call) => answer(call.noted(&noted), method, body).await,
        Err(error) => (reply::response(Err(&error), None), Some(error)),
    };
    response.0.headers_mut().insert(head::REQUEST_ID, id);
    response.0.headers_mut().extend(noted.metadata.get().cloned().unwrap_or_default());
    let metrics = noted.metrics.get().map(Arc::as_ref).unwrap_or_else(|| shared.grpc.metrics(method));
    observe(&shared, method, &response, metrics, (trace, start));
    response.0
}

/// What is refused in HTTP's own terms (PROTOCOL-HTTP2).
fn not_a_call(head: &http::request::Parts) -> Option<Response<Body>> {
    if head.version != Version::HTTP_2 {
        return Some(respond::detail(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2"));
    }
    if head.method != HttpMethod::POST {
        return Some(respond::method_not_allowed(HeaderValue::from_static("POST")));
    }
    let known =
        essence(&head.headers).is_some_and(|e| e == b"application/grpc" || e == b"application/grpc+proto");
    (!known).then(|| {
        let text = "gRPC with protobuf messages is application/grpc or application/grpc+proto";
        respond::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })
}

fn prepare(
    shared: Arc<Shared>,
    from: (IpAddr, Option<Scope>),
    head: http::request::Parts,
    in_flight: InFlight,
    start: Instant,
) -> Result<Call, Error> {
    match head::ambiguity(&head) {
        Some(problem) => Err(Error::invalid(problem)),
        None => Call::new(shared, from, head, in_flight, start),
    }
}

/// What is known of a call once it is answered.
#[derive(Default)]
struct Noted {
    /// What it counts for, once it is known which model it asks.
    metrics: OnceLock<Arc<RouteMetrics>>,
    /// What the answer's metadata say besides.
    metadata: OnceLock<HeaderMap>,
}

/// The answer, and why there is none.
type Answered = (Response<Body>, Option<Error>);

async fn answer(call: Call, method: Option<Method>, body: Incoming) -> Answered {
    let coding = call.answers;
    let result = match method {
        Some(method) => dispatch(call, method, body).await,
        None => Err(Error::new(
            ErrorCode::Unsupported,
            "there is no such method; reflection lists those there are",
        )),
    };
    match result {
        Ok(reply) => (reply::response(Ok(reply), coding), None),
        Err(error) => (reply::response(Err(&error), None), Some(error)),
    }
}

async fn dispatch(call: Call, method: Method, body: Incoming) -> Result<Reply, Error> {
    match method {
        Method::ServerLive => call.small(body, inference::live).await,
        Method::ServerReady => call.small(body, inference::ready).await,
        Method::ModelReady => call.small(body, inference::model_ready).await,
        Method::ServerMetadata => call.small(body, inference::server_metadata).await,
        Method::ModelMetadata => call.small(body, inference::model_metadata).await,
        Method::ModelConfig => call.small(body, inference::config).await,
        Method::ModelStatistics => call.small(body, inference::statistics).await,
        Method::RepositoryIndex => call.small(body, inference::index).await,
        Method::ModelInfer => inference::infer(call, body).await,
        Method::RepositoryModelLoad => inference::load(call, body).await,
        Method::RepositoryModelUnload => inference::unload(call, body).await,
        Method::TraceSetting => settings::trace(call, body).await,
        Method::LogSettings => settings::log(call, body).await,
        Method::ModelStreamInfer => stream::infer(call, body),
        Method::HealthCheck => call.small(body, health::check).await,
        Method::HealthWatch => health::watch(call, body).await,
        Method::Reflection | Method::ReflectionAlpha => reflection::answer(call, body),
    }
}

fn observe(
    shared: &Shared,
    method: Option<Method>,
    answered: &Answered,
    metrics: &RouteMetrics,
    (mut trace, start): (Trace, Instant),
) {
    let end = shared.predictor.clock().now();
    let took = end - start;
    let (response, error) = answered;
    let sampled = trace.end_grpc(error.as_ref().map(|error| error.code), end);
    // The status of the same error over HTTP: one label has one meaning.
    let status = error.as_ref().map_or(200, |e| e.code.http_status());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    metrics.observe(status, took, at_the_end(shared, sampled));
    let (trace_id, span_id) = trace.ids();
    if shared.is_logged(status, took, trace_id) {
        let id = response.headers().get(head::REQUEST_ID).and_then(|id| id.to_str().ok());
        tracing::info!(
            target: "weir::access",
            method = "gRPC",
            route = method.map_or("unmatched", Method::path),
            status = error.as_ref().map_or(0, |e| e.code.grpc_status()),
            duration_ms = took.as_secs_f64() * 1e3,
            request_id = id,
            trace_id = trace_id.map(tracing::field::display),
            span_id = span_id.map(tracing::field::display),
            sampled = sampled.is_some(),
            "request"
        );
    }
}

/// Reads a serialised `ModelInferRequest` up to its tensors, and returns how many elements
/// they have: for the fuzz target, and for the test that replays its corpus.
///
/// # Errors
/// What is wrong with it, as callers are told.
pub fn read_request(message: Bytes) -> Result<usize, Error> {
    weight::of_request(&message)?;
    let (request, _) = messages::request(frame::decode(message)?)?;
    Ok(request.inputs.iter().map(|input| input.tensor.data().len()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let of = |text: &'static str| {
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))])
        };
        for yes in
            ["application/grpc", "application/grpc+proto", "application/grpc;x=y", "application/grpc+json"]
        {
            assert!(is_grpc(&of(yes)), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", "application/grpcx"] {
            assert!(!is_grpc(&of(no)), "{no}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn the_corpus_is_answered_without_harm() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/grpc_infer");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert!(files.len() >= 15, "{} files", files.len());
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&file).unwrap();
            let length = bytes.len();
            match read_request(bytes.into()) {
                Ok(elements) => assert!(name.starts_with("ok-") && elements <= length, "{name}"),
                Err(error) => {
                    let callers = matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::Unsupported);
                    assert!(name.starts_with("bad-") && callers, "{name}: {error}");
                }
            }
        }
    }
}
