//! Random numbers that are the same in every run and on every machine.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
/// Written here because a load must repeat bit for bit from its seed in the next release too,
/// which libraries do not promise.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream that belongs to `seed` and `part`: parts of one seed do not overlap in practice.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut rng = Self(seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03));
        rng.bits();
        rng
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `n`; 0 for 0. The bias of the multiplication is below 2^-32 for any list
    /// that fits in memory.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Uniform in `[low, high]`.
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        (low + (high - low) * self.unit()).clamp(low, high)
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        // The reference implementation's first outputs for the seed 0.
        let mut rng = Rng(0);
        assert_eq!([rng.bits(), rng.bits()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }

    #[test]
    fn draws_stay_in_their_ranges_and_have_their_means() {
        let mut rng = Rng::new(7, 0);
        let mut sum = 0.0;
        for _ in 0..100_000 {
            assert!(rng.below(3) < 3);
            assert!((-2.0..=5.0).contains(&rng.within(-2.0, 5.0)));
            sum += rng.exponential();
        }
        assert!((sum / 100_000.0 - 1.0).abs() < 0.02);
        assert_eq!(rng.below(0), 0);
    }
}
