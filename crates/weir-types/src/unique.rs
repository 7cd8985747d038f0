//! Numbers that nobody else has, in this process or another: ids of requests, traces and spans, owners of
//! leases, tokens of what is written, names of files.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Makes numbers: a counter from where chance set it, well mixed. Unique, not secret; a random
/// generator a thread would be no better and need thread locals.
///
/// Two processes make the same number of 64 bits only where their counters meet: one chance in 2^24
/// for two that make 2^39 numbers each. Of 128 bits the upper half is another process's beside.
#[derive(Debug)]
pub struct Unique {
    counter: AtomicU64,
    salt: u64,
}

impl Default for Unique {
    fn default() -> Self {
        // Each state hashes by keys of its own, drawn at random.
        let chance = |word: &str| RandomState::new().hash_one(word);
        Self { counter: AtomicU64::new(chance("counter")), salt: chance("salt") }
    }
}

impl Unique {
    /// The next number of 64 bits.
    pub fn narrow(&self) -> u64 {
        mix(self.count())
    }

    /// The next number of 128 bits. Its halves are apart from what [`narrow`](Self::narrow) makes, as far as
    /// the salt lies from the counter.
    pub fn wide(&self) -> u128 {
        let bits = self.count().wrapping_add(self.salt);
        u128::from(mix(bits ^ self.salt)) << 64 | u128::from(mix(bits))
    }

    fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}

/// The process's own source, for all that does not make so many that it should have one.
static PROCESS: LazyLock<Unique> = LazyLock::new(Unique::default);

/// A number of 64 bits that nobody else has.
pub fn unique() -> u64 {
    PROCESS.narrow()
}

/// A number of 128 bits that nobody else has.
pub fn unique_wide() -> u128 {
    PROCESS.wide()
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
    fn numbers_differ_and_are_spread() {
        let (one, other) = (Unique::default(), Unique::default());
        let sources = [&one, &other];
        let narrow: HashSet<_> = sources.iter().flat_map(|s| (0..10_000).map(|_| s.narrow())).collect();
        assert_eq!(narrow.len(), 20_000);
        let low = narrow.iter().filter(|number| **number < 1 << 63).count();
        assert!((9_000..11_000).contains(&low), "{low} of 20000 in the lower half");
        let wide: HashSet<_> = sources.iter().flat_map(|s| (0..10_000).map(|_| s.wide())).collect();
        assert_eq!(wide.len(), 20_000);
        let low = wide.iter().filter(|number| **number < 1 << 127).count();
        assert!((9_000..11_000).contains(&low), "{low} of 20000 in the lower half");
        assert!(wide.iter().all(|number| !narrow.contains(&(*number as u64))));
    }

    #[test]
    fn the_process_has_one_source() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| [unique(), unique_wide() as u64])).collect();
        let all: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 8);
    }
}
