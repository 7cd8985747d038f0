//! One message to the receiver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header};
use tokio::time::timeout;
use weir_clients::{CallError, GrpcPool, HttpPool, PoolOptions, Trust};
use weir_types::Clock;

use super::{
    super::{Protocol, TelemetryConfig},
    failures::Problem,
    headers::Headers,
};

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
    /// As `weir_telemetry_dropped_total` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }

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

enum Transport {
    Http(HttpPool),
    Grpc(GrpcPool),
}

/// A receiver of telemetry.
pub(crate) struct Otlp {
    transport: Transport,
    headers: Headers,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    away: Away,
}

/// Of which signals the last message did not arrive: then the log knows. A receiver may take the one
/// and not the other.
#[derive(Default)]
struct Away([AtomicBool; 2]);

impl Away {
    /// A message of `signal` arrived, or did not; says whether that is news.
    fn is_news(&self, signal: Signal, away: bool) -> bool {
        self.0[signal as usize].swap(away, Ordering::Relaxed) != away
    }
}

/// Why nothing can be sent to `endpoint`, if so. Keys are no part of it: settings are shown.
pub(crate) fn wrong_endpoint(endpoint: &str) -> Option<String> {
    if endpoint.contains('@') {
        return Some(
            "must not hold a user or a password, which `config show` would show: put `authorization: …` \
             into `telemetry.headers_file`"
                .into(),
        );
    }
    let known = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    let plain = endpoint.replacen("https://", "http://", 1);
    let address = HttpPool::new(&plain, &PoolOptions::default());
    // Not repeated: what is behind a question mark may be a key.
    (!known || address.is_err())
        .then(|| "is no URL of the form http(s)://host:port, with nothing behind ?".into())
}

/// What a receiver is reached by.
fn transport(config: &TelemetryConfig, endpoint: &str) -> Result<Transport, String> {
    let options = PoolOptions { max_idle: 1, max_answer_bytes: MAX_ANSWER_BYTES, ..PoolOptions::default() };
    // Only where it is asked for: reading the machine's authorities takes some milliseconds.
    let trust = || Trust::new(config.ca_file.as_deref()).map_err(|why| format!("`telemetry.ca_file`: {why}"));
    let of_endpoint = |why| format!("`telemetry.endpoint` {why}");
    let host = endpoint.trim_end_matches('/');
    let pool = match (config.protocol, host.strip_prefix("https://"), host.strip_prefix("http://")) {
        (Protocol::Http, Some(_), _) => HttpPool::secure(host, &options, &trust()?).map(Transport::Http),
        (Protocol::Http, None, _) => HttpPool::new(host, &options).map(Transport::Http),
        (Protocol::Grpc, Some(host), _) => {
            GrpcPool::secure(&format!("grpcs://{host}"), &options, &trust()?).map(Transport::Grpc)
        }
        (Protocol::Grpc, None, host) => {
            let host = host.unwrap_or_default();
            GrpcPool::new(&format!("grpc://{host}"), &options).map(Transport::Grpc)
        }
    };
    pool.map_err(of_endpoint)
}

impl Otlp {
    /// The receiver at `endpoint`, sent to as `config` says. Connects when it is first sent to.
    ///
    /// # Errors
    /// What is wrong with the endpoint, or the file of authorities.
    pub(crate) fn new(
        config: &TelemetryConfig,
        endpoint: &str,
        headers: Headers,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        if let Some(why) = wrong_endpoint(endpoint) {
            return Err(format!("`telemetry.endpoint` {why}"));
        }
        let transport = transport(config, endpoint)?;
        Ok(Self { transport, headers, timeout: config.timeout.get(), clock, away: Away::default() })
    }

    /// Sends an encoded message and gives the answer's bytes. Waits for `timeout` at most.
    pub(crate) async fn send(&self, signal: Signal, message: &[u8]) -> Result<Bytes, Problem> {
        let sent = timeout(self.timeout, self.ask(signal, message)).await;
        let answer = sent.unwrap_or_else(|_| Err(Problem::of_call(&CallError::TimedOut)))?;
        if self.away.is_news(signal, false) {
            tracing::info!(signal = signal.name(), "the receiver of telemetry takes it again");
        }
        Ok(answer)
    }

    async fn ask(&self, signal: Signal, message: &[u8]) -> Result<Bytes, Problem> {
        match &self.transport {
            Transport::Http(pool) => {
                let kind = HeaderValue::from_static("application/x-protobuf");
                let mut headers = vec![(header::CONTENT_TYPE, kind)];
                headers.extend_from_slice(&self.headers);
                let body = Some(Bytes::copy_from_slice(message));
                let answer = pool.ask(signal.path(), &headers, body).await;
                let answer = answer.map_err(|error| Problem::of_call(&error))?;
                Problem::of_http(&answer, self.clock.wall()).map_or(Ok(answer.body), Err)
            }
            Transport::Grpc(pool) => {
                let answer = pool.call(signal.method(), message, self.timeout, &self.headers).await;
                answer.map_err(|error| Problem::of_grpc(&error))
            }
        }
    }

    /// Tells the log of a message that was not taken: once until one of its signal is again.
    pub(crate) fn told(&self, signal: Signal, problem: &Problem, items: usize) {
        if self.away.is_news(signal, true) {
            let (signal, error) = (signal.name(), &problem.text);
            tracing::warn!(
                signal,
                items,
                error,
                "the receiver of telemetry does not take it; serving goes on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_types::SystemClock;

    use super::*;

    #[test]
    fn endpoints_are_urls_without_secrets_and_others_are_told() {
        let of = |endpoint, protocol| {
            let config = TelemetryConfig { protocol, ..TelemetryConfig::default() };
            Otlp::new(&config, endpoint, Vec::new(), Arc::new(SystemClock)).map(|_| ())
        };
        for good in
            ["http://localhost:4317", "http://collector.monitoring:4317/", "https://a:4317", "https://a/"]
        {
            assert_eq!(of(good, Protocol::Grpc), Ok(()), "{good}");
            assert_eq!(of(good, Protocol::Http), Ok(()), "{good}");
        }
        for bad in ["localhost:4318", "https://", "grpc://a", "http://a?key=hush", "hhttps://a"] {
            let why = of(bad, Protocol::Http).unwrap_err();
            assert!(why.contains("telemetry.endpoint") && why.contains("http(s)://host:port"), "{why}");
            assert!(!why.contains("hush"), "{why}");
        }
        for secret in ["http://me:hush@a:4318", "https://me:hush@a", "me:hush@a", "http://me:hu/sh@a"] {
            let why = of(secret, Protocol::Grpc).unwrap_err();
            assert!(why.contains("headers_file") && !why.contains("hush") && !why.contains("sh@"), "{why}");
        }
    }

    #[test]
    fn authorities_are_read_where_the_endpoint_is_https() {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let ca_file = Some("/nowhere/ca.pem".into());
            let config = TelemetryConfig { protocol, ca_file, ..TelemetryConfig::default() };
            let of = |endpoint| Otlp::new(&config, endpoint, Vec::new(), Arc::new(SystemClock)).map(|_| ());
            assert_eq!(of("http://a:4318"), Ok(()));
            let why = of("https://a:4318").unwrap_err();
            assert!(why.contains("telemetry.ca_file") && why.contains("/nowhere/ca.pem"), "{why}");
        }
    }

    #[test]
    fn each_signal_is_told_once_by_itself() {
        let away = Away::default();
        assert!(!away.is_news(Signal::Traces, false), "nothing was away");
        for _ in 0..3 {
            assert!(!away.is_news(Signal::Traces, false), "traces are taken");
            away.is_news(Signal::Metrics, true);
        }
        assert!(!away.is_news(Signal::Metrics, true), "and of metrics is known that they are not");
        assert!(away.is_news(Signal::Traces, true) && away.is_news(Signal::Metrics, false));
    }
}
