//! Which fields a row has had.

/// A set of small numbers; up to 128 of them live without an allocation.
#[derive(Debug)]
pub(crate) struct Seen {
    few: [u64; 2],
    many: Vec<u64>,
    count: usize,
}

impl Seen {
    /// An empty set of numbers below `len`.
    pub(crate) fn new(len: usize) -> Self {
        let many = if len > 128 { vec![0; len.div_ceil(64)] } else { Vec::new() };
        Self { few: [0; 2], many, count: 0 }
    }

    fn words(&mut self) -> &mut [u64] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.words().fill(0);
    }

    /// Adds `index`; `false` if it was there.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let bit = 1 << (index % 64);
        let word = &mut self.words()[index / 64];
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    /// Whether `index` is in it.
    pub(crate) fn contains(&mut self, index: usize) -> bool {
        self.words()[index / 64] & (1 << (index % 64)) != 0
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_few_and_many() {
        for len in [3, 128, 129, 1000] {
            let mut seen = Seen::new(len);
            assert!(seen.insert(len - 1) && !seen.insert(len - 1) && seen.insert(0));
            assert!(seen.contains(0) && !seen.contains(1) && seen.len() == 2);
            seen.clear();
            assert!(!seen.contains(len - 1) && seen.len() == 0);
        }
    }
}
