//! Ids of traces and spans.

use super::{SpanId, TraceId};
use crate::Unique;

/// Makes ids. A source of its own: a traced request takes many.
#[derive(Debug, Default)]
pub(super) struct Ids(Unique);

impl Ids {
    pub(super) fn span(&self) -> SpanId {
        first(|| SpanId::new(self.0.narrow()))
    }

    pub(super) fn trace(&self) -> TraceId {
        first(|| TraceId::new(self.0.wide()))
    }
}

/// One number in 2^64 names nothing.
fn first<T>(make: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(id) = make() {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_randomness_of_traces_is_spread() {
        let ids = Ids::default();
        let low = (0..10_000).filter(|_| ids.trace().randomness() < 1 << 55).count();
        assert!((4_500..5_500).contains(&low), "{low} of 10000 in the lower half");
    }
}
