//! Sums of floats that do not depend on the order in which they were added.
//!
//! A float is a whole number times a power of two, and all float64 together span 2,098 bits: so
//! a fixed-point number of that width holds any sum exactly (U. Kulisch, "Computer Arithmetic
//! and Validity", 2008, ch. 8; R. M. Neal, "Fast exact summation using small and large
//! superaccumulators", arXiv:1505.05571). It is rounded once, when it is read. Compensated sums
//! (Kahan, Neumaier) were rejected, as they still depend on the order; exact expansions
//! (Shewchuk) as they have many forms for one value.

use crate::encoding::Reader;

/// Digits of 32 bits: 2,098 bits for every float64, and 78 beyond for sums of up to 2^63.
const LIMBS: usize = 68;

const DIGIT: i64 = 1 << 32;

/// Most bytes of the stored form: a byte, then five for each digit.
pub(super) const MAX_BYTES: usize = 1 + 5 * LIMBS;

/// An exact sum: `limbs[i]` counts multiples of 2^(32 i - 1074). After [`carry`](Self::carry) all
/// but the last are digits from 0 to 2^32 - 1, and the last has the sign: so each value has one
/// form, which is what is rounded and stored.
#[derive(Debug, Clone)]
pub(crate) struct Exact {
    limbs: [i64; LIMBS],
}

impl Exact {
    pub(super) const ZERO: Exact = Exact { limbs: [0; LIMBS] };

    /// Adds a finite float.
    pub(super) fn add(&mut self, x: f64) {
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        // Subnormal floats have the exponent of the least normal ones, without the leading 1.
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let (at, within) = (shift as usize / 32, shift % 32);
        let wide = u128::from(mantissa) << within;
        for (i, limb) in self.limbs[at..at + 3].iter_mut().enumerate() {
            let digit = (wide >> (32 * i)) as u32;
            *limb += if x.is_sign_negative() { -i64::from(digit) } else { i64::from(digit) };
        }
        self.carry();
    }

    /// Adds a whole number, which one float may not hold: two do.
    pub(super) fn add_int(&mut self, i: i64) {
        self.add((i >> 32) as f64 * DIGIT as f64);
        self.add((i & (DIGIT - 1)) as f64);
    }

    /// Adds another sum. Nothing is carried, which a window's panes need not be either: a limb
    /// has room for 2^30 of them.
    pub(super) fn merge(&mut self, other: &Exact) {
        self.limbs.iter_mut().zip(other.limbs).for_each(|(limb, more)| *limb += more);
    }

    fn carry(&mut self) {
        for i in 0..LIMBS - 1 {
            let up = self.limbs[i].div_euclid(DIGIT);
            self.limbs[i] -= up * DIGIT;
            self.limbs[i + 1] += up;
        }
    }

    /// Whether it is negative, and its distance from zero.
    fn magnitude(&self) -> (bool, Exact) {
        let mut size = self.clone();
        size.carry();
        let negative = size.limbs[LIMBS - 1] < 0;
        if negative {
            size.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            size.carry();
        }
        (negative, size)
    }

    /// The nearest float64, ties to even; beyond the largest, that one.
    pub(super) fn round(&self) -> f64 {
        let (negative, size) = self.magnitude();
        let Some(last) = size.limbs.iter().rposition(|&limb| limb != 0) else { return 0.0 };
        let top = 32 * last + size.limbs[last].ilog2() as usize;
        // Below 2^53 units of 2^-1074 every sum is a float, and its bits are that number.
        let low = top.saturating_sub(52);
        let mantissa = size.bits(low) & ((1 << 53) - 1);
        let even = mantissa & 1 == 0;
        let up = low > 0 && size.bits(low - 1) & 1 == 1 && !(even && size.is_zero_below(low - 1));
        let bits = ((low as u64) << 52) + mantissa + u64::from(up);
        let float = f64::from_bits(bits.min(f64::MAX.to_bits()));
        if negative { -float } else { float }
    }

    /// 64 bits from bit `low` on.
    fn bits(&self, low: usize) -> u64 {
        let limb = |i: usize| self.limbs.get(i).map_or(0, |&limb| limb as u128);
        let at = low / 32;
        ((limb(at) | limb(at + 1) << 32 | limb(at + 2) << 64) >> (low % 32)) as u64
    }

    fn is_zero_below(&self, bit: usize) -> bool {
        let (at, within) = (bit / 32, bit % 32);
        self.limbs[..at].iter().all(|&limb| limb == 0) && self.limbs[at] & ((1 << within) - 1) == 0
    }

    /// Sign (top bit) and number of digits that are not 0, then each: its place, its value.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (negative, size) = self.magnitude();
        let at = out.len();
        out.push(0);
        let mut count = u8::from(negative) << 7;
        for (i, &limb) in size.limbs.iter().enumerate().filter(|(_, limb)| **limb != 0) {
            out.push(i as u8); // below LIMBS
            out.extend_from_slice(&(limb as u32).to_le_bytes());
            count += 1;
        }
        out[at] = count;
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let head = from.u8()?;
        let mut sum = Exact::ZERO;
        for _ in 0..head & 0x7f {
            let (at, digit) = (from.u8()?, from.u32()?);
            let digit = i64::from(digit);
            *sum.limbs.get_mut(usize::from(at))? = if head >> 7 == 1 { -digit } else { digit };
        }
        Some(sum)
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        let carried = |sum: &Exact| {
            let mut sum = sum.clone();
            sum.carry();
            sum.limbs
        };
        carried(self) == carried(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Exact {
        let mut sum = Exact::ZERO;
        values.iter().for_each(|&x| sum.add(x));
        sum
    }

    /// Shewchuk's exact sum, after Python's `math.fsum`: another algorithm with the same
    /// answer. Takes values whose sums do not overflow.
    fn fsum(values: &[f64]) -> f64 {
        let mut partials: Vec<f64> = Vec::new();
        for &value in values {
            let (mut x, mut kept) = (value, Vec::new());
            for &p in &partials {
                let (big, small) = if x.abs() < p.abs() { (p, x) } else { (x, p) };
                let high = big + small;
                let low = small - (high - big);
                if low != 0.0 {
                    kept.push(low);
                }
                x = high;
            }
            kept.push(x);
            partials = kept;
        }
        round_partials(partials)
    }

    fn round_partials(mut partials: Vec<f64>) -> f64 {
        let Some(mut high) = partials.pop() else { return 0.0 };
        let mut low = 0.0;
        while let Some(y) = partials.pop() {
            let x = high;
            high = x + y;
            low = y - (high - x);
            if low != 0.0 {
                break;
            }
        }
        let next = partials.last().copied().unwrap_or(0.0);
        if (low < 0.0 && next < 0.0) || (low > 0.0 && next > 0.0) {
            let (y, x) = (low * 2.0, high + low * 2.0);
            if y == x - high {
                high = x;
            }
        }
        high
    }

    #[test]
    fn golden_values() {
        assert_eq!(sum(&[0.1; 10]).round(), 1.0); // the plain sum is 0.9999999999999999
        assert_eq!(sum(&[1e308, 1.0, -1e308]).round(), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]).round(), 10_000_000_000_000_002.0); // the tie is broken far below
        assert_eq!(sum(&[1e16, 1.0]).round(), 1e16); // a tie goes to even
        assert_eq!(sum(&[5e-324, 5e-324]).round(), 1e-323);
        assert_eq!(sum(&[-0.0]).round().to_bits(), 0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).round(), f64::MAX);
        assert_eq!(sum(&[f64::MIN, f64::MIN]).round(), f64::MIN);
        assert_eq!(sum(&[f64::MAX, f64::MAX, f64::MIN, f64::MIN, 3.0]).round(), 3.0);
        let mut ints = Exact::ZERO;
        for i in [i64::MAX, 1, i64::MIN, -7] {
            ints.add_int(i);
        }
        assert_eq!(ints.round(), -7.0);
    }

    /// Floats of every size, the subnormal ones included, of both signs.
    fn floats() -> impl Strategy<Value = Vec<f64>> {
        let any = (any::<bool>(), 0u64..0x7e0, any::<u64>()).prop_map(|(negative, exponent, fraction)| {
            f64::from_bits(u64::from(negative) << 63 | exponent << 52 | fraction >> 12)
        });
        let near = (-1000i32..1000, 0i32..40).prop_map(|(n, e)| f64::from(n) * 2f64.powi(e - 20));
        prop::collection::vec(prop_oneof![any, near], 0..60)
    }

    proptest! {
        #[test]
        fn sums_are_exact_in_any_order(values in floats(), seed in any::<u64>()) {
            let forwards = sum(&values);
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|x| x.to_bits().wrapping_mul(seed | 1));
            prop_assert_eq!(&forwards, &sum(&shuffled));
            prop_assert_eq!(forwards.round(), fsum(&values));
        }

        #[test]
        fn sums_of_sums_are_sums(values in floats(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(values.len() + 1);
            let (mut left, right) = (sum(&values[..cut]), sum(&values[cut..]));
            left.merge(&right);
            prop_assert_eq!(&left, &sum(&values));
            let mut stored = Vec::new();
            left.write(&mut stored);
            prop_assert!(stored.len() <= MAX_BYTES);
            prop_assert_eq!(Exact::read(&mut Reader(&stored)), Some(left));
        }
    }
}
