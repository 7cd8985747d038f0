//! Logs: pretty on a terminal, JSON lines anywhere else.

use std::io::{self, IsTerminal};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt};

use crate::environment;

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

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read.
pub(crate) fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = environment::log_filter().unwrap_or_else(|| config.level.clone());
    let filter = EnvFilter::try_new(&filter).map_err(|e| {
        anyhow::anyhow!("the log filter {filter:?} cannot be read: {e}; write for example \"info\"")
    })?;
    let terminal = io::stderr().is_terminal();
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let subscriber = fmt().with_env_filter(filter).with_writer(io::stderr);
    if pretty {
        subscriber.with_ansi(terminal && !environment::no_color()).with_target(false).init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
    Ok(())
}
