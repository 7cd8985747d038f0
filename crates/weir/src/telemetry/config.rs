//! The `[telemetry]` table: what is sent to an OTLP receiver, and how.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{HumanDuration, Places, Problem};

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Protobuf over HTTP/1.1, usually port 4318.
    Http,
    /// gRPC, usually port 4317.
    Grpc,
}

/// The `[telemetry]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetryConfig {
    /// The OTLP receiver, for example `http://localhost:4318` or `https://…`; nothing is sent without one.
    /// The environment variable `OTEL_EXPORTER_OTLP_ENDPOINT` wins.
    pub(crate) endpoint: Option<String>,
    /// How to speak to it: `http` (protobuf) or `grpc`. `OTEL_EXPORTER_OTLP_PROTOCOL` wins, where
    /// `http/protobuf` and `http/json` are `http`.
    pub(crate) protocol: Protocol,
    /// PEM file of authorities beside the machine's that may vouch for a receiver with `https`.
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE` wins.
    pub(crate) ca_file: Option<PathBuf>,
    /// A file with one `name: value` a line, sent with every message: where the receiver wants a key.
    pub(crate) headers_file: Option<PathBuf>,
    /// What this service is called; without it, as `resource` says (`service.name`), else `weir`.
    /// `OTEL_SERVICE_NAME` wins.
    pub(crate) service_name: Option<String>,
    /// What else is known of this process, `name=value` with commas between, for example
    /// `deployment.environment.name=prod`. `OTEL_RESOURCE_ATTRIBUTES` wins.
    pub(crate) resource: String,
    /// Whether requests are traced, where there is an endpoint.
    pub(crate) traces: bool,
    /// Share of the requests that are traced, 0 to 1. A caller's own decision counts before it.
    pub(crate) sample: f64,
    /// Trace all requests that fail by the server's fault. Then all are recorded, which costs.
    pub(crate) errors: bool,
    /// Trace all requests that take at least so long. Then all are recorded, which costs.
    pub(crate) slow: Option<HumanDuration>,
    /// Whether metrics are sent, where there is an endpoint; `/metrics` has them in any case.
    pub(crate) metrics: bool,
    /// How often metrics are sent.
    pub(crate) metrics_interval: HumanDuration,
    /// Spans that wait to be sent; more are dropped and counted.
    pub(crate) queue: usize,
    /// How often what waits is sent; sooner where there is much.
    pub(crate) interval: HumanDuration,
    /// How long a receiver may take.
    pub(crate) timeout: HumanDuration,
    /// How long the end of the process waits for what is still to be sent.
    pub(crate) flush_timeout: HumanDuration,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: Protocol::Http,
            ca_file: None,
            headers_file: None,
            service_name: None,
            resource: String::new(),
            traces: true,
            sample: 0.01,
            errors: false,
            slow: None,
            metrics: false,
            metrics_interval: HumanDuration::from_secs(60),
            queue: 8_192,
            interval: HumanDuration::from_secs(1),
            timeout: HumanDuration::from_secs(10),
            flush_timeout: HumanDuration::from_secs(3),
        }
    }
}

impl TelemetryConfig {
    /// What is valid and cannot work, each with its place.
    pub(crate) fn impossible(&self, places: &Places) -> Vec<Problem> {
        const LEAST_METRICS_INTERVAL: Duration = Duration::from_millis(100);
        const MOST_SPANS: usize = 1 << 20;
        let zero = |duration: HumanDuration| duration.get().is_zero();
        let checks = [
            ("sample", !(0.0..=1.0).contains(&self.sample), "is a share, from 0 to 1"),
            (
                "queue",
                !(super::otlp::BATCH..=MOST_SPANS).contains(&self.queue),
                "must be from 512, one message, to 1048576",
            ),
            ("interval", zero(self.interval), "must be longer than nothing"),
            (
                "metrics_interval",
                self.metrics_interval.get() < LEAST_METRICS_INTERVAL,
                "must be 100ms at least: each message has all metrics",
            ),
            ("timeout", zero(self.timeout), "must be longer than nothing: nothing could be sent"),
        ];
        let broken = checks.into_iter().filter(|(_, broken, _)| *broken);
        let broken = broken.map(|(key, _, why)| (key, why.to_owned()));
        let endpoint = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.and_then(super::otlp::wrong_endpoint).map(|why| ("endpoint", why));
        let resource = super::otlp::said(&self.resource).err();
        let resource = resource.map(|why| ("resource", format!("cannot be read: {why}")));
        broken
            .chain(endpoint)
            .chain(resource)
            .map(|(key, why)| places.problem(&format!("telemetry.{key}"), format!("`telemetry.{key}` {why}")))
            .collect()
    }

    /// What is wrong with headers that the environment gives, if they are sent anywhere. Those of a
    /// file are another matter: it is a secret, which need not be where settings are only shown
    /// ([`wrong_files`](Self::wrong_files)).
    pub(crate) fn wrong_headers(&self, said: Option<&str>) -> Option<Problem> {
        self.endpoint.as_ref().filter(|endpoint| !endpoint.is_empty())?;
        let why = super::otlp::of_environment(said?).err()?;
        Some(Problem::new(Path::new("the environment"), why.to_string()))
    }
}
