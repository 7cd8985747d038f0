//! Online state: features of entities, aggregates of event streams, idempotency keys, in
//! memory, in a file of this process's own, or in a Redis that replicas share.

mod aggregate;

mod config;
mod encoding;
mod error;
mod events;
mod features;
mod idempotency;
mod store;
mod value;
mod view;

pub use config::{
    AggregateKind, FeatureConfig, FeatureType, IdempotencyConfig, KeyType, StateConfig, StoreKind, ViewConfig,
};
pub use error::{FeatureError, Part, Problem};
pub use events::{Event, Events, MAX_EVENT_ID_BYTES, Taken};
pub use features::{Features, Found, MAX_ROWS, Question, Row, ViewStats, Written};
pub use idempotency::{
    Begun, Idempotency, IdempotencyError, IdempotencyGuard, MAX_IDEMPOTENCY_KEY_BYTES, StoredAnswer,
};
pub use store::{
    Budget, Change, Decide, Embedded, MAX_KEY_BYTES, MAX_VALUE_BYTES, Memory, OpenError, RedisStore,
    SharedStore, Store, StoreError, StoreFuture, Stored, Update,
};
pub use value::{Entity, EventTime, MAX_ENTITY_BYTES, MAX_STRING_BYTES};
pub use view::{
    Aggregate, Feature, FeatureId, FeatureRef, MAX_FEATURES, MAX_PANES, MAX_ROW_BYTES, MAX_VIEWS, Stream,
    View, ViewId, ViewProblem, Views,
};
