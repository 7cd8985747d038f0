//! Online state over HTTP: features of entities, events of streams, idempotency keys. The
//! services are weir-features'; here they get paths, bodies and errors.

mod answer;
mod endpoint;
pub(crate) mod idempotency;
#[cfg(test)]
mod tests;

use weir_features::{Features, Idempotency, SharedStore};

pub(crate) use answer::{StateHandler, answer};
pub use endpoint::StateEndpoint;
pub(crate) use endpoint::{EVENTS, FEATURES, endpoints, unknown};

/// The online state that a server offers; by default none.
#[derive(Clone, Default)]
pub struct State {
    /// Feature views, and the streams that feed some of them.
    pub features: Option<Features>,
    /// Where both are kept, for metrics.
    pub store: Option<SharedStore>,
    /// Answers kept under `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
}
