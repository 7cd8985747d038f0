//! `[remote]` in `model.toml`: a model that another server runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};

use crate::DTypeWord;

/// A model on another server of the Open Inference Protocol V2: Triton, MLServer, a KServe
/// runtime, another Weir.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteTable {
    /// Where the server is: `http://host:port` for REST, `grpc://host:port` for gRPC.
    pub url: String,
    /// What the server calls the model. Default: the same as here.
    pub model: Option<String>,
    /// Which version of it. Default: the one that the server chooses.
    pub version: Option<String>,
    /// How tensors are sent over REST; over gRPC they are always bytes.
    #[serde(default)]
    pub encoding: EncodingWord,
    /// Longest that one attempt may take, and the metadata when the model is loaded.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Longest that making a connection may take.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Largest answer that is read.
    #[serde(default = "max_answer")]
    pub max_answer: ByteSize,
    /// Asks a second time when there is no answer after this long, and takes the first that
    /// comes. For deterministic models only. Default: never.
    pub hedge_after: Option<HumanDuration>,
    /// When a call is repeated: after a failed connection, 429 and 503, for deterministic
    /// models only.
    #[serde(default)]
    pub retry: RetryTable,
    /// When the server is left alone.
    #[serde(default)]
    pub breaker: BreakerTable,
    /// How many calls are under way at once.
    #[serde(default)]
    pub limit: LimitTable,
    /// The model's inputs, for servers whose metadata does not name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<TensorTable>,
    /// The model's outputs, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<TensorTable>,
}

impl RemoteTable {
    /// Whether the server is asked over gRPC.
    pub fn is_grpc(&self) -> bool {
        self.url.starts_with("grpc://")
    }

    /// The server at `url`, everything else as by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: None,
            version: None,
            encoding: EncodingWord::default(),
            timeout: timeout(),
            connect_timeout: connect_timeout(),
            max_answer: max_answer(),
            hedge_after: None,
            retry: RetryTable::default(),
            breaker: BreakerTable::default(),
            limit: LimitTable::default(),
            input: Vec::new(),
            output: Vec::new(),
        }
    }
}

fn timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(1)
}

fn max_answer() -> ByteSize {
    ByteSize::mib(64)
}

/// How tensors are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncodingWord {
    /// As bytes if the server says that it takes them (`binary_tensor_data`), else as JSON.
    #[default]
    Auto,
    /// As bytes.
    Binary,
    /// As JSON.
    Json,
}

/// When a call is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryTable {
    /// Most times that one call is repeated.
    #[schemars(range(min = 0, max = 10))]
    pub most: u32,
    /// Repeats allowed for each success of the last ten seconds.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Repeats a second that are allowed besides.
    #[schemars(range(min = 0, max = 1000))]
    pub min_per_second: u32,
    /// The first wait is anything up to this, each further one up to double.
    pub backoff: HumanDuration,
    /// No wait is longer.
    pub max_backoff: HumanDuration,
}

impl Default for RetryTable {
    fn default() -> Self {
        let (backoff, max_backoff) = (HumanDuration::from_millis(20), HumanDuration::from_secs(1));
        Self { most: 2, ratio: 0.1, min_per_second: 1, backoff, max_backoff }
    }
}

/// When the server is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerTable {
    /// After so many failures in a row.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures: u32,
    /// When this share of the last ten seconds' calls failed, of 20 at least.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub ratio: f64,
    /// How long, the first time; doubled by each failed probe.
    pub open: HumanDuration,
    /// How long at most.
    pub max_open: HumanDuration,
}

impl Default for BreakerTable {
    fn default() -> Self {
        let (open, max_open) = (HumanDuration::from_secs(1), HumanDuration::from_secs(30));
        Self { failures: 5, ratio: 0.5, open, max_open }
    }
}

/// How many calls are under way at once: the server's latency decides, within these bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitTable {
    /// Before anything is known.
    #[schemars(range(min = 1, max = 100_000))]
    pub initial: u32,
    /// Never fewer.
    #[schemars(range(min = 1, max = 100_000))]
    pub min: u32,
    /// Never more.
    #[schemars(range(min = 1, max = 100_000))]
    pub max: u32,
}

impl Default for LimitTable {
    fn default() -> Self {
        Self { initial: 64, min: 2, max: 256 }
    }
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorTable {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DTypeWord,
    /// All dimensions, rows first, `-1` for any size.
    pub shape: Vec<i64>,
}
