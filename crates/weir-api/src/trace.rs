//! What traces show of requests, by OpenTelemetry's semantic conventions
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>, …/rpc/grpc/).
//!
//! One departure: `url.path` and `url.query` are left out. They may hold what should not be kept, and
//! `http.route` says what was asked.

use std::{sync::Arc, time::Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, request::Parts};
use weir_types::{
    ErrorCode,
    trace::{RequestSpan, Scope, SpanId, TraceContext, TraceId, Tracing, trace_state},
};

use crate::{
    head,
    listener::Body,
    operation::{Builtin, Endpoint},
    routes::{Handler, Route},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a request is in a trace.
pub(crate) enum Trace {
    /// In none.
    None,
    /// In one that goes through here unseen.
    PassedOn(Scope),
    /// In one that this request has a part in.
    Ours(RequestSpan),
}

impl Trace {
    /// That of a request which began at `start`. A `traceparent` that is none begins a new trace,
    /// as the standard has it: it never stops a request.
    pub(crate) fn begin(
        tracing: Option<&Arc<Tracing>>,
        headers: &HeaderMap,
        (name, start): (&'static str, Instant),
    ) -> Self {
        let caller = caller(headers);
        let state = || {
            let fields = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
            caller.and_then(|_| trace_state(fields)).map(Arc::from)
        };
        match (tracing, caller) {
            (None, None) => Trace::None,
            (None, Some(caller)) => Trace::PassedOn(Scope::passed_on(caller, state())),
            (Some(tracing), caller) => Trace::Ours(tracing.begin((name, start), caller, state())),
        }
    }

    /// That of an HTTP request. Probes and files are in no trace: they would be most of what is
    /// recorded, and say nothing.
    pub(crate) fn of_http(
        tracing: Option<&Arc<Tracing>>,
        head: &Parts,
        route: Option<&Route>,
        start: Instant,
    ) -> Self {
        let tracing = tracing.filter(|_| route.is_none_or(is_work));
        let method = method(&head.method);
        let mut trace = Self::begin(tracing, &head.headers, (method, start));
        if let Trace::Ours(span) = &mut trace
            && span.scope().is_recorded()
        {
            let scope = span.scope();
            scope.note("http.request.method", method);
            scope.note("url.scheme", "http");
            scope.note("network.protocol.version", protocol(head.version));
            if let Some(route) = route {
                scope.note("http.route", route.path.clone());
                span.name(|| format!("{method} {}", route.path).into());
            }
        }
        trace
    }

    /// That of a gRPC call of `method`, a path without its slash.
    pub(crate) fn of_grpc(
        tracing: Option<&Arc<Tracing>>,
        headers: &HeaderMap,
        method: Option<&'static str>,
        start: Instant,
    ) -> Self {
        let name = method.map_or("gRPC", |path| path.trim_start_matches('/'));
        let trace = Self::begin(tracing, headers, (name, start));
        if let Some(scope) = trace.scope().filter(|scope| scope.is_recorded()) {
            scope.note("rpc.system", "grpc");
            if let Some((service, method)) = name.split_once('/') {
                scope.note("rpc.service", service);
                scope.note("rpc.method", method);
            }
        }
        trace
    }

    /// What goes along with the request's work.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        match self {
            Trace::None => None,
            Trace::PassedOn(scope) => Some(scope),
            Trace::Ours(span) => Some(span.scope()),
        }
    }

    /// What logs name: the trace, and this server's span in it where there is one.
    pub(crate) fn ids(&self) -> (Option<TraceId>, Option<SpanId>) {
        let trace = self.scope().map(|scope| scope.context().trace);
        match self {
            Trace::Ours(span) => (trace, Some(span.scope().context().span)),
            Trace::None | Trace::PassedOn(_) => (trace, None),
        }
    }

    /// The request was answered at `end`. Gives its place in its trace, if that can be found: then
    /// an exemplar may name it.
    pub(crate) fn end_http(&mut self, response: &Response<Body>, end: Instant) -> Option<TraceContext> {
        let status = response.status();
        self.end(end, status.is_server_error(), |span| {
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_server_error() {
                span.set("error.type", status.as_str().to_owned());
            }
            let id = response.headers().get(head::REQUEST_ID).and_then(|id| id.to_str().ok());
            id.into_iter().for_each(|id| span.set("weir.request.id", id.to_owned()));
        })
    }

    /// The same of a gRPC call.
    pub(crate) fn end_grpc(&mut self, error: Option<ErrorCode>, end: Instant) -> Option<TraceContext> {
        // Those that the conventions call the server's fault: DEADLINE_EXCEEDED, UNIMPLEMENTED,
        // INTERNAL, UNAVAILABLE.
        let failed = error.is_some_and(|code| matches!(code.grpc_status(), 4 | 12 | 13 | 14));
        self.end(end, failed, |span| {
            let status = error.map_or(0, |code| i64::from(code.grpc_status()));
            span.set("rpc.grpc.status_code", status);
            if failed {
                span.set("error.type", status.to_string());
            }
        })
    }

    fn end(
        &mut self,
        end: Instant,
        failed: bool,
        more: impl FnOnce(&mut weir_types::trace::Span),
    ) -> Option<TraceContext> {
        let Trace::Ours(span) = self else { return None };
        span.end(end, failed, more).then(|| span.scope().context())
    }
}

/// The caller's place. Two of them are none: which one counts would be anybody's guess.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => TraceContext::parse(only.as_bytes()),
        _ => None,
    }
}

/// Whether a route does work, rather than saying how the server is.
fn is_work(route: &Route) -> bool {
    match &route.handler {
        Handler::Builtin(builtin) => matches!(builtin, Builtin::Models),
        Handler::V2(endpoint) => !matches!(endpoint, Endpoint::Live | Endpoint::Ready | Endpoint::ModelReady),
        Handler::Asset => false,
        _ => true,
    }
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        // What callers make up must not make names.
        _ => "_OTHER",
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
