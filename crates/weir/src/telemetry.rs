//! Logs: pretty on a terminal, JSON lines anywhere else. And what is sent to an OTLP receiver.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::environment;

mod config;
pub(crate) mod files;
mod otlp;
mod verbosity;

pub(crate) use config::{Protocol, TelemetryConfig};
pub(crate) use otlp::{Telemetry, probe};
pub(crate) use verbosity::Control;

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// What to log: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,weir_serving=debug`. The environment variable `RUST_LOG` wins.
    pub(crate) level: String,
    /// How to write it.
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

const HINT: &str = "write for example \"info\" or \"info,weir_serving=debug\"";

/// What is logged under `config`: the environment variable wins.
pub(crate) fn filter(config: &LogConfig) -> String {
    environment::log_filter().unwrap_or_else(|| config.level.clone())
}

/// What is wrong with a filter, if anything is.
pub(crate) fn wrong_filter(filter: &str) -> Option<String> {
    let error = tracing_subscriber::EnvFilter::try_new(filter).err()?;
    Some(format!("cannot be read: {error}; {HINT}"))
}

/// Starts logging to standard error; what is logged can be changed through what is returned.
///
/// # Errors
/// A filter that cannot be read.
pub(crate) fn start(config: &LogConfig) -> anyhow::Result<Arc<Control>> {
    let filter = filter(config);
    let (filter, control) = verbosity::filter(filter.clone())
        .map_err(|e| anyhow::anyhow!("the log filter {filter:?} cannot be read: {e}; {HINT}"))?;
    let terminal = io::stderr().is_terminal();
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let lines = fmt::layer().with_writer(io::stderr);
    if pretty {
        let lines = lines.with_ansi(terminal && !environment::no_color()).with_target(false);
        registry().with(lines.with_filter(filter)).init();
    } else {
        registry().with(lines.json().flatten_event(true).with_filter(filter)).init();
    }
    Ok(control)
}
