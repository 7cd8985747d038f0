//! A configuration with one of everything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weir_config::{ByteSize, HumanDuration};

/// A configuration with one of everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where it listens.
    pub(crate) server: Server,
    /// Faces of models.
    pub(crate) route: Vec<Route>,
    /// How much to tell.
    pub(crate) log: Level,
    /// Names by key, `"a.b" = "c"`.
    pub(crate) names: BTreeMap<String, String>,
}

/// Where it listens,
/// on one or more addresses.
///
/// A second paragraph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// Address and port.
    pub(crate) listen: String,
    /// Address and port of the admin face; off by default.
    pub(crate) admin_listen: Option<String>,
    /// How long a request may take to arrive.
    pub(crate) timeout: HumanDuration,
    /// Longest body.
    pub(crate) max_body: ByteSize,
    /// Threads.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) workers: u16,
    /// Share of requests that are traced.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) sample: f64,
    /// Folders of models.
    #[schemars(length(max = 3))]
    pub(crate) models: Vec<String>,
    /// Whether it can be controlled.
    pub(crate) control: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8000".into(),
            admin_listen: None,
            timeout: HumanDuration::from_secs(10),
            max_body: ByteSize::mib(16),
            workers: 2,
            sample: 0.5,
            models: vec!["models".into()],
            control: false,
        }
    }
}

/// A face of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path.
    pub(crate) path: String,
    /// What the body is.
    pub(crate) request: Option<Request>,
    /// What to do.
    pub(crate) action: Option<Action>,
}

/// What the body is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Request {
    /// A word.
    Word(RequestWord),
    /// A list of rows.
    Rows(Rows),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RequestWord {
    One,
    Raw,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    pub(crate) rows: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Action {
    File { path: String },
    Http { url: String, retries: Option<u8> },
}

/// How much to tell.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Little.
    Warn,
    /// What matters.
    #[default]
    Info,
    Debug,
}
