//! What traces show of one call to another server, and what that is told of the trace.

use std::time::Instant;

use http::{HeaderName, HeaderValue, Uri};
use weir_clients::CallError;
use weir_types::{
    Clock,
    trace::{Scope, Span, SpanKind},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a server is, as spans tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: Option<u16>,
    /// `http` or `grpc`.
    grpc: bool,
}

impl Address {
    /// The address in a URL that was checked.
    pub(super) fn of(url: &str) -> Self {
        let uri: Uri = url.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default().to_owned();
        Self { host, port: uri.port_u16(), grpc: uri.scheme_str() == Some("grpc") }
    }

    fn name(&self) -> &'static str {
        if self.grpc { "inference.GRPCInferenceService/ModelInfer" } else { "POST" }
    }

    /// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/> and …/rpc/grpc/.
    fn tell(&self, span: &mut Span) {
        if self.grpc {
            span.set("rpc.system", "grpc");
            span.set("rpc.service", "inference.GRPCInferenceService");
            span.set("rpc.method", "ModelInfer");
        } else {
            span.set("http.request.method", "POST");
            span.set("url.template", "/v2/models/{model}/infer");
        }
        span.set("server.address", self.host.clone());
        self.port.into_iter().for_each(|port| span.set("server.port", i64::from(port)));
    }
}

/// One try of a call. Dropped before it ended, it was given up: another try was faster, or nobody
/// waits any more.
pub(super) struct Attempt<'a> {
    around: &'a Scope,
    scope: Scope,
    address: &'a Address,
    clock: &'a dyn Clock,
    start: Instant,
    over: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(around: &'a Scope, address: &'a Address, clock: &'a dyn Clock) -> Self {
        Self { around, scope: around.within(), address, clock, start: clock.now(), over: false }
    }

    /// What the server is told: that its part is within this one. No caller's `baggage`: that may
    /// hold what is nobody else's business.
    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let parent = HeaderValue::try_from(self.scope.context().to_string()).ok();
        let state = self.scope.state().and_then(|state| HeaderValue::from_str(state).ok());
        let both = [(TRACEPARENT, parent), (TRACESTATE, state)];
        both.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    pub(super) fn end<T>(mut self, result: &Result<T, CallError>) {
        self.over = true;
        self.record(result.as_ref().err().map(kind));
    }

    fn record(&self, failed: Option<(&'static str, Option<u16>)>) {
        let times = (self.start, self.clock.now());
        self.scope.end(self.around, (self.address.name(), SpanKind::Client), times, |span| {
            self.address.tell(span);
            let Some((error, status)) = failed else { return };
            span.failed = true;
            span.set("error.type", error);
            status
                .filter(|_| !self.address.grpc)
                .into_iter()
                .for_each(|status| span.set("http.response.status_code", i64::from(status)));
        });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.record(Some(("cancelled", None)));
        }
    }
}

/// An error as few words as there are kinds of it, and the status.
fn kind(error: &CallError) -> (&'static str, Option<u16>) {
    match error {
        CallError::Connection(_) => ("connection", None),
        CallError::Untrusted(_) => ("untrusted", None),
        CallError::Overloaded { status, .. } => ("overloaded", Some(*status)),
        CallError::Status { status, .. } => ("status", Some(*status)),
        CallError::Broken(_) => ("broken", None),
        CallError::TimedOut => ("timeout", None),
        CallError::Limited(_) => ("limited", None),
        CallError::BreakerOpen(_) => ("breaker_open", None),
        CallError::Unsendable(_) => ("unsendable", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_by_host_and_port() {
        let of = |url| Address::of(url);
        assert_eq!(
            of("http://10.0.0.1:8000/x"),
            Address { host: "10.0.0.1".into(), port: Some(8000), grpc: false }
        );
        assert_eq!(of("grpc://triton:8001"), Address { host: "triton".into(), port: Some(8001), grpc: true });
        assert_eq!(of("http://[::1]"), Address { host: "[::1]".into(), port: None, grpc: false });
    }
}
