//! One message to the receiver.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use tokio::time::timeout;
use weir_clients::{CallError, GrpcPool, HttpPool, PoolOptions, plain};

use super::super::Protocol;

/// Largest answer; it says how many spans were refused, and why.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Traces.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Headers that a message has besides its own.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

enum Transport {
    Http(HttpPool),
    Grpc(GrpcPool),
}

/// A receiver of telemetry.
pub(crate) struct Otlp {
    transport: Transport,
    headers: Headers,
    timeout: Duration,
    /// Whether the last message did not arrive: then the log knows.
    away: AtomicBool,
}

/// Why a message was not taken.
pub(crate) struct Problem(CallError);

impl Problem {
    /// Whether the same message may be taken later: what the specification lists as such.
    pub(crate) fn may_pass(&self) -> bool {
        match &self.0 {
            CallError::Connection(_) | CallError::TimedOut | CallError::Overloaded { .. } => true,
            CallError::Status { status, .. } => matches!(status, 502 | 504),
            _ => false,
        }
    }
}

impl Otlp {
    /// A receiver at `endpoint`. Connects when it is first sent to.
    pub(crate) fn new(
        endpoint: &str,
        protocol: Protocol,
        headers: Headers,
        timeout: Duration,
    ) -> Result<Self, String> {
        let options =
            PoolOptions { max_idle: 1, max_answer_bytes: MAX_ANSWER_BYTES, ..PoolOptions::default() };
        if endpoint.starts_with("https://") {
            return Err(
                "TLS is not spoken here: send to a collector beside this process (http://…), which does"
                    .into(),
            );
        }
        let transport = match protocol {
            Protocol::Http => Transport::Http(HttpPool::new(endpoint, &options)?),
            Protocol::Grpc => {
                let rest = endpoint.trim_start_matches("http://").trim_end_matches('/');
                Transport::Grpc(GrpcPool::new(&format!("grpc://{rest}"), &options)?)
            }
        };
        Ok(Self { transport, headers, timeout, away: AtomicBool::new(false) })
    }

    /// Sends an encoded message and gives the answer's bytes. Waits for `timeout` at most.
    pub(crate) async fn send(&self, signal: Signal, message: &[u8]) -> Result<Bytes, Problem> {
        let sent = timeout(self.timeout, self.ask(signal, message)).await;
        let answer = sent.unwrap_or(Err(CallError::TimedOut)).map_err(Problem)?;
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("the receiver of telemetry takes it again");
        }
        Ok(answer)
    }

    async fn ask(&self, signal: Signal, message: &[u8]) -> Result<Bytes, CallError> {
        match &self.transport {
            Transport::Http(pool) => {
                let kind = HeaderValue::from_static("application/x-protobuf");
                let mut headers = vec![(header::CONTENT_TYPE, kind)];
                headers.extend_from_slice(&self.headers);
                let body = Some(Bytes::copy_from_slice(message));
                Ok(pool.send(signal.path(), &headers, body).await?.body)
            }
            Transport::Grpc(pool) => {
                pool.unary_with(signal.method(), message, self.timeout, &self.headers).await
            }
        }
    }

    /// Tells the log of a message that was not taken: once until one is again.
    pub(crate) fn told(&self, problem: &Problem, items: usize) {
        if !self.away.swap(true, Ordering::Relaxed) {
            let error = plain(&problem.0.to_string());
            tracing::warn!(items, error, "the receiver of telemetry does not take it; serving goes on");
        }
    }
}

/// Headers from a file, one `name: value` a line, and from the environment, `name=value` with commas
/// between (OTEL_EXPORTER_OTLP_HEADERS).
///
/// # Errors
/// A file that cannot be read; lines that are no headers, without what they hold.
pub(crate) fn headers(file: Option<&Path>, environment: Option<&str>) -> anyhow::Result<Headers> {
    let mut all = Vec::new();
    if let Some(file) = file {
        let text = fs::read_to_string(file)
            .with_context(|| format!("`telemetry.headers_file`: {} cannot be read", file.display()))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (number, line) in lines {
            all.push(
                one(line, ':')
                    .ok_or_else(|| anyhow!("{}:{}: a header is `name: value`", file.display(), number + 1))?,
            );
        }
    }
    for pair in environment.unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty()) {
        let header = one(pair, '=');
        all.push(header.ok_or_else(|| {
            anyhow!("OTEL_EXPORTER_OTLP_HEADERS: headers are `name=value` with commas between")
        })?);
    }
    Ok(all)
}

fn one(text: &str, between: char) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(between)?;
    let name = name.trim().to_ascii_lowercase().parse().ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    // Kept out of what is logged.
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_from_a_file_and_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "Authorization: Bearer abc:def\n\nx-scope: 7\n").unwrap();
        let read = headers(Some(file.path()), Some("a=1,b=2=3")).unwrap();
        let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(read, [("authorization", "Bearer abc:def"), ("x-scope", "7"), ("a", "1"), ("b", "2=3")]);
        fs::write(file.path(), "x: 1\nsecret\n").unwrap();
        let error = headers(Some(file.path()), None).unwrap_err().to_string();
        assert!(error.contains(":2:") && !error.contains("secret"), "{error}");
        assert!(headers(None, Some("nothing")).is_err());
        assert!(headers(Some(Path::new("/nowhere")), None).unwrap_err().to_string().contains("headers_file"));
    }

    #[test]
    fn endpoints_are_plain_and_others_are_told() {
        let of = |endpoint, protocol| {
            Otlp::new(endpoint, protocol, Vec::new(), Duration::from_secs(1)).map(|_| ())
        };
        for good in ["http://localhost:4317", "http://collector.monitoring:4317/"] {
            assert_eq!(of(good, Protocol::Grpc), Ok(()), "{good}");
            assert_eq!(of(good, Protocol::Http), Ok(()), "{good}");
        }
        assert!(of("https://a:4318", Protocol::Http).unwrap_err().contains("TLS"));
        assert!(of("localhost:4318", Protocol::Http).is_err());
    }
}
