//! Ids of traces and spans.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{SpanId, TraceId};

/// Makes ids: well mixed numbers of a counter, from where chance set it. Unique, not secret; a
/// random generator a thread would be no better and need thread locals.
#[derive(Debug)]
pub(super) struct Ids {
    counter: AtomicU64,
    salt: u64,
}

impl Default for Ids {
    fn default() -> Self {
        let chance = |word: &str| RandomState::new().hash_one(word);
        Self { counter: AtomicU64::new(chance("counter")), salt: chance("salt") }
    }
}

impl Ids {
    pub(super) fn span(&self) -> SpanId {
        self.next(0, |bits| SpanId::new(mix(bits)))
    }

    pub(super) fn trace(&self) -> TraceId {
        self.next(self.salt, |bits| {
            let (high, low) = (mix(bits ^ self.salt), mix(bits));
            TraceId::new(u128::from(high) << 64 | u128::from(low))
        })
    }

    /// One number in 2^64 names nothing.
    fn next<T>(&self, salt: u64, make: impl Fn(u64) -> Option<T>) -> T {
        loop {
            let bits = self.counter.fetch_add(1, Ordering::Relaxed);
            if let Some(id) = make(bits.wrapping_add(salt)) {
                return id;
            }
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): a bijection, so that no number comes twice.
fn mix(bits: u64) -> u64 {
    let mut z = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_spread() {
        let ids = Ids::default();
        let spans: HashSet<_> = (0..10_000).map(|_| ids.span()).collect();
        assert_eq!(spans.len(), 10_000);
        let traces: Vec<_> = (0..10_000).map(|_| ids.trace()).collect();
        assert_eq!(traces.iter().collect::<HashSet<_>>().len(), 10_000);
        let low = traces.iter().filter(|id| id.randomness() < 1 << 55).count();
        assert!((4_500..5_500).contains(&low), "{low} of 10000 in the lower half");
    }
}
