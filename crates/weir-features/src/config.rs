//! `[state]`, `[idempotency]` and `[[view]]` of `weir.toml`, as an operator writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::{ByteSize, HumanDuration};
use weir_types::{DType, Scalar};

/// Where features, aggregates and idempotency keys are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// Which store: `memory` loses all when the process ends, `embedded` keeps it in a file of
    /// this server's own, `redis` shares it with other replicas (needs `[redis]`).
    pub store: StoreKind,
    /// The embedded store's file, made when there is none; relative to this file.
    pub path: String,
    /// Most bytes of features and aggregates that `memory` and `embedded` hold, keys included; a
    /// write beyond it is refused. The embedded store holds everything in memory too. Left out, at
    /// most an eighth of the container's memory limit.
    pub budget: ByteSize,
    /// Most writes that wait for the embedded store's disk; one more is refused.
    pub queue: usize,
    /// How far ahead of this server's clock an event time may be. One beyond it is refused: it
    /// would keep out every later write.
    pub ahead: HumanDuration,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            store: StoreKind::Memory,
            path: "weir-state.redb".into(),
            budget: ByteSize::mib(256),
            queue: 4096,
            ahead: HumanDuration::from_secs(300),
        }
    }
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// This process's memory.
    #[default]
    Memory,
    /// A file of this process's own.
    Embedded,
    /// A Redis that several replicas share.
    Redis,
}

/// How requests that carry an `Idempotency-Key` are remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencyConfig {
    /// How long an answer is kept.
    pub ttl: HumanDuration,
    /// How long after its deadline a request keeps its key taken if it never ended, because its
    /// server died: more than the clocks of servers that share a store differ by.
    pub lease: HumanDuration,
    /// Largest answer kept; a larger one is given out and not remembered.
    pub max_answer: ByteSize,
    /// Most bytes of keys and answers that the stores `memory` and `embedded` hold beside
    /// `[state] budget`; a request with a new key beyond it is refused. One with a short answer
    /// takes some 510 bytes for all of `ttl`. Left out, at most an eighth of the container's memory
    /// limit.
    pub budget: ByteSize,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self {
            ttl: HumanDuration::from_secs(24 * 3600),
            lease: HumanDuration::from_secs(30),
            max_answer: ByteSize::mib(1),
            budget: ByteSize::mib(256),
        }
    }
}

/// A feature view: what is known of each entity of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// The view's name, `[a-z0-9][a-z0-9._-]{0,127}` without `.`: a model's field names a
    /// feature as `view.feature`.
    pub name: String,
    /// What a row is about, such as `user_id`: the name that requests and docs use.
    pub entity: String,
    /// Type of the entity's key.
    #[serde(default)]
    pub key: KeyType,
    /// How long after its event time a value is given out. Default: for ever. For aggregates
    /// the window says it.
    pub ttl: Option<HumanDuration>,
    /// The event stream that feeds the view. Its features are then aggregates.
    pub stream: Option<String>,
    /// How much older than the entity's newest event another may be; later ones are refused
    /// and counted. Only with `stream`.
    pub lateness: Option<HumanDuration>,
    /// One sentence for the docs page.
    pub description: Option<String>,
    /// What is known of an entity.
    #[serde(default)]
    pub feature: Vec<FeatureConfig>,
}

/// Type of an entity's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Up to 256 bytes of text.
    #[default]
    String,
    /// A whole number.
    Int64,
}

/// One feature of a view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureConfig {
    /// The feature's name.
    pub name: String,
    /// Its type. Default for aggregates: `int64` for count and distinct, else `float64`.
    pub dtype: Option<FeatureType>,
    /// The value where none is known. Default: none; 0 for count, sum and distinct.
    pub default: Option<Scalar>,
    /// How events are drawn together.
    pub aggregate: Option<AggregateKind>,
    /// The events' field that is aggregated; `count` needs none.
    pub of: Option<String>,
    /// How far back the window reaches.
    pub window: Option<HumanDuration>,
    /// How far the window moves at a time; it divides the window. Default: the window itself
    /// (a tumbling window).
    pub slide: Option<HumanDuration>,
    /// One sentence for the docs page.
    pub description: Option<String>,
}

/// How the events of a window are drawn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AggregateKind {
    /// How many events, or with `of` how many that have the field.
    Count,
    /// The sum, rounded once from the exact one.
    Sum,
    /// The sum divided by the count.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// That of the newest event; of several equally new, the greatest.
    Last,
    /// How many different ones, estimated (standard error 1.6 %).
    Distinct,
}

/// Types a feature may have. The others have no exact form in JSON or in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum FeatureType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Float32,
    Float64,
    String,
}

impl From<FeatureType> for DType {
    fn from(word: FeatureType) -> Self {
        match word {
            FeatureType::Bool => DType::Bool,
            FeatureType::Int8 => DType::Int8,
            FeatureType::Int16 => DType::Int16,
            FeatureType::Int32 => DType::Int32,
            FeatureType::Int64 => DType::Int64,
            FeatureType::Uint8 => DType::Uint8,
            FeatureType::Uint16 => DType::Uint16,
            FeatureType::Uint32 => DType::Uint32,
            FeatureType::Float32 => DType::Float32,
            FeatureType::Float64 => DType::Float64,
            FeatureType::String => DType::String,
        }
    }
}
