//! What an operator writes about the server and its routes (`weir.toml`).

mod address;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};

pub use address::parse as parse_address;

/// The `[server]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Model files, model folders, or folders of model folders; relative to this file.
    pub models: Vec<PathBuf>,
    /// Address of the public listener.
    #[schemars(with = "String")]
    #[serde(deserialize_with = "address::one")]
    pub listen: SocketAddr,
    /// Address for `/metrics` alone; without it they are on the public listener.
    #[schemars(with = "Option<String>")]
    #[serde(deserialize_with = "address::maybe")]
    pub metrics_listen: Option<SocketAddr>,
    /// Address for gRPC alone; without it, it is on the public listener.
    #[schemars(with = "Option<String>")]
    #[serde(deserialize_with = "address::maybe")]
    pub grpc_listen: Option<SocketAddr>,
    /// Address of the admin API, on loopback: there is no authentication yet. Without it, there is
    /// none. `weir cache` looks for it at 127.0.0.1:8001.
    #[schemars(with = "Option<String>")]
    #[serde(deserialize_with = "address::maybe")]
    pub admin_listen: Option<SocketAddr>,
    /// Threads that serve requests; 0 means one a core, and in a container the quota rounded to the
    /// nearest whole number.
    pub threads: usize,
    /// Path of the ONNX Runtime library (1.24 or later) to use for neural networks.
    pub onnxruntime: Option<PathBuf>,
    /// Memory that all models share. What was not asked for longest is dropped when others need
    /// the room, and loaded again when it is asked. Without it, all stay loaded.
    pub memory_budget: Option<ByteSize>,
    /// Most connections at once; one more is answered 503 and closed.
    pub max_connections: usize,
    /// Largest request body.
    pub max_body: ByteSize,
    /// Most bytes of request bodies held at once, all connections together; left out, at most an
    /// eighth of the container's memory limit.
    pub max_body_in_flight: ByteSize,
    /// Most requests that wait for one model's threads; one more is answered 503.
    pub max_queue: usize,
    /// How long a client may take to send a request's head, and to begin one on an idle
    /// connection.
    pub header_timeout: HumanDuration,
    /// Longest pause between two parts of a request body.
    pub body_timeout: HumanDuration,
    /// Longest time that a client may take no byte of an answer.
    pub write_timeout: HumanDuration,
    /// Deadline of a request that sets none itself.
    pub request_timeout: HumanDuration,
    /// On SIGTERM: how long to answer on, not ready, before connections are refused. Load
    /// balancers need this long to notice.
    pub drain_delay: HumanDuration,
    /// On SIGTERM: how long requests in flight may take to finish.
    pub drain_timeout: HumanDuration,
    /// Whether requests are logged.
    pub access_log: bool,
    /// The share of requests that are, 0 to 1. Answers with a status of 500 or more, and slow
    /// requests, are logged in any case.
    pub access_log_sample: f64,
    /// Requests that take at least so long are logged in any case.
    pub access_log_slow: HumanDuration,
    /// File for traces of single requests, which clients switch on through the V2 trace
    /// settings where `model_control` lets them; relative to this file.
    pub trace_file: Option<PathBuf>,
    /// Most bytes of traces that one run writes; later ones are dropped and counted.
    pub trace_max: ByteSize,
    /// Whether clients may load and unload models, and change trace and log settings, through
    /// the V2 endpoints.
    pub model_control: ModelControlMode,
}

/// Who may change what is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelControlMode {
    /// The operator alone, by files and signals.
    #[default]
    None,
    /// Clients too, as Triton's mode of this name.
    Explicit,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let seconds = |s| HumanDuration(Duration::from_secs(s));
        Self {
            models: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            metrics_listen: None,
            grpc_listen: None,
            admin_listen: None,
            threads: 0,
            onnxruntime: None,
            memory_budget: None,
            max_connections: 10_000,
            max_body: ByteSize(16 << 20),
            max_body_in_flight: ByteSize(256 << 20),
            max_queue: 1_024,
            header_timeout: seconds(10),
            body_timeout: seconds(10),
            write_timeout: seconds(30),
            request_timeout: seconds(30),
            drain_delay: seconds(0),
            drain_timeout: seconds(30),
            access_log: false,
            access_log_sample: 1.0,
            access_log_slow: seconds(1),
            trace_file: None,
            trace_max: ByteSize(256 << 20),
            model_control: ModelControlMode::None,
        }
    }
}

/// One `[[route]]`: a path that the operator declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The path; `{x}` is a path parameter of a templated route.
    pub path: String,
    /// The method.
    #[serde(default)]
    pub method: RouteMethod,
    /// The model that answers; without one, `response` is the answer itself.
    pub model: Option<String>,
    /// The version that answers; the latest without it.
    pub version: Option<String>,
    /// Groups routes on the docs page.
    pub tag: Option<String>,
    /// One line for the docs page.
    pub summary: Option<String>,
    /// How a body holds rows; without it the body is one row.
    #[serde(default)]
    pub request: RequestShape,
    /// Query parameters of a templated route.
    #[serde(default)]
    pub query: Vec<ParameterConfig>,
    /// Types of the path parameters of a templated route; strings where not named.
    #[serde(default)]
    pub path_parameters: Vec<ParameterConfig>,
    /// The answer. For a model: key → word, one of `prediction`, `label`, `score`, `labels`,
    /// `scores`, `probability:<label>`, `output:<tensor>`, `answer` (all that `:predict` answers for
    /// a row), `model`, `version`, `feature_asof` (the oldest time among the features that were looked
    /// up). Otherwise any value; `{x}` in its strings stands for a parameter.
    pub response: serde_json::Map<String, serde_json::Value>,
}

/// Method of a declared route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // the names say it
pub enum RouteMethod {
    Get,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl RouteMethod {
    /// As HTTP writes it (RFC 9110 section 9.1).
    pub fn name(self) -> &'static str {
        match self {
            RouteMethod::Get => "GET",
            RouteMethod::Post => "POST",
            RouteMethod::Put => "PUT",
            RouteMethod::Patch => "PATCH",
            RouteMethod::Delete => "DELETE",
        }
    }
}

/// How a body holds rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestShape {
    /// The body is `{"<rows>": [row, …]}`.
    pub rows: Option<String>,
    /// The body is `{"<key>": [value, …], …}`: body key → field.
    pub columns: Option<BTreeMap<String, String>>,
}

/// A query or path parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterConfig {
    /// Its name.
    pub name: String,
    /// Its type: string, bool, or any integer or float type.
    #[serde(default = "string_dtype")]
    pub dtype: String,
    /// Whether a request without it is refused.
    #[serde(default = "yes")]
    pub required: bool,
    /// Its value when absent.
    pub default: Option<serde_json::Value>,
    /// At least.
    pub ge: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// At most.
    pub le: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// Shortest string, in characters.
    pub min_length: Option<usize>,
    /// Longest string, in characters.
    pub max_length: Option<usize>,
    /// Regular expression that must be found in the string.
    pub pattern: Option<String>,
    /// The only values allowed.
    #[serde(rename = "enum")]
    pub one_of: Option<Vec<serde_json::Value>>,
    /// One line for the docs page.
    pub description: Option<String>,
    /// A typical value, for the docs page.
    pub example: Option<serde_json::Value>,
}

fn string_dtype() -> String {
    "string".into()
}

fn yes() -> bool {
    true
}

impl ParameterConfig {
    /// A required string called `name`.
    pub fn string(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dtype: string_dtype(),
            required: true,
            default: None,
            ge: None,
            gt: None,
            le: None,
            lt: None,
            min_length: None,
            max_length: None,
            pattern: None,
            one_of: None,
            description: None,
            example: None,
        }
    }
}
