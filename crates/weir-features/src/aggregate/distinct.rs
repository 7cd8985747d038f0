//! How many different values there are, estimated in bounded memory.
//!
//! HyperLogLog (P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, "HyperLogLog: the analysis of a
//! near-optimal cardinality estimation algorithm", 2007) with hashes of 64 bits (S. Heule,
//! M. Nunkesser, A. Hall, 2013) and the estimator of O. Ertl, "New cardinality estimation
//! algorithms for HyperLogLog sketches", arXiv:1702.01284, algorithm 6, which needs no tables of
//! corrections. Registers only grow, so the order of values and of merges does not matter.

use sha2::{Digest, Sha256};
use weir_types::Scalar;

use crate::encoding::{Reader, put_scalar};

/// Bits of the hash that choose a register.
const P: u32 = 12;

const REGISTERS: usize = 1 << P;

/// Bits of the hash that are left for runs of zeros.
const Q: u32 = 64 - P;

/// Registers that are listed one by one; more are stored all together, in fewer bytes.
const MAX_LISTED: usize = REGISTERS / 3;

/// Most bytes of the stored form.
pub(super) const MAX_BYTES: usize = 2 + REGISTERS;

/// A sketch: for each register, the longest run of zeros seen plus one; 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sketch {
    /// Sorted by register; the others are 0.
    Listed(Vec<(u16, u8)>),
    /// All of them.
    Whole(Box<[u8; REGISTERS]>),
}

impl Sketch {
    /// The sketch of one value.
    pub(super) fn one(value: &Scalar) -> Self {
        let hash = hash(value);
        let register = (hash >> Q) as u16;
        let run = (hash << P).leading_zeros().min(Q) + 1;
        Sketch::Listed(vec![(register, run as u8)])
    }

    /// The sketch of what either has seen.
    pub(super) fn merge(&mut self, other: &Sketch) {
        match other {
            Sketch::Listed(list) => list.iter().for_each(|&(register, run)| self.raise(register, run)),
            Sketch::Whole(all) => {
                let mut mine = self.take_whole();
                mine.iter_mut().zip(all.iter()).for_each(|(a, b)| *a = (*a).max(*b));
                *self = Sketch::Whole(mine);
            }
        }
    }

    fn raise(&mut self, register: u16, run: u8) {
        match self {
            Sketch::Whole(all) => {
                let there = &mut all[usize::from(register) % REGISTERS];
                *there = (*there).max(run);
            }
            Sketch::Listed(list) => {
                match list.binary_search_by_key(&register, |(register, _)| *register) {
                    Ok(at) => list[at].1 = list[at].1.max(run),
                    Err(at) => list.insert(at, (register, run)),
                }
                if list.len() > MAX_LISTED {
                    *self = Sketch::Whole(self.take_whole());
                }
            }
        }
    }

    /// All registers, taken out of the sketch.
    fn take_whole(&mut self) -> Box<[u8; REGISTERS]> {
        match std::mem::replace(self, Sketch::Listed(Vec::new())) {
            Sketch::Whole(all) => all,
            Sketch::Listed(list) => {
                let mut all = Box::new([0; REGISTERS]);
                list.iter().for_each(|&(register, run)| all[usize::from(register) % REGISTERS] = run);
                all
            }
        }
    }

    /// The estimate, rounded.
    pub(super) fn estimate(&self) -> i64 {
        let mut counts = [0u32; Q as usize + 2];
        let mut count = |run: u8| counts[usize::from(run).min(Q as usize + 1)] += 1;
        match self {
            Sketch::Listed(list) => list.iter().for_each(|&(_, run)| count(run)),
            Sketch::Whole(all) => all.iter().for_each(|&run| count(run)),
        }
        if let Sketch::Listed(list) = self {
            counts[0] = (REGISTERS - list.len()) as u32;
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(counts[Q as usize + 1]) / m);
        for k in (1..=Q as usize).rev() {
            z = 0.5 * (z + f64::from(counts[k]));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as i64
    }

    /// The number of listed registers and each, or 65535 and all registers.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Sketch::Listed(list) => {
                out.extend_from_slice(&(list.len() as u16).to_le_bytes());
                for (register, run) in list {
                    out.extend_from_slice(&register.to_le_bytes());
                    out.push(*run);
                }
            }
            Sketch::Whole(all) => {
                out.extend_from_slice(&u16::MAX.to_le_bytes());
                out.extend_from_slice(&all[..]);
            }
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        match from.u16()? {
            u16::MAX => Some(Sketch::Whole(Box::new(from.array()?))),
            count if usize::from(count) > MAX_LISTED => None,
            count => {
                let list: Vec<_> =
                    (0..count).map(|_| Some((from.u16()?, from.u8()?))).collect::<Option<_>>()?;
                let sorted = list.is_sorted_by(|a, b| a.0 < b.0);
                let known = list.last().is_none_or(|last| usize::from(last.0) < REGISTERS);
                (sorted && known).then_some(Sketch::Listed(list))
            }
        }
    }
}

/// A hash that is the same in every process, release and machine. Equal numbers have equal
/// hashes, whatever their type.
fn hash(value: &Scalar) -> u64 {
    let mut bytes = Vec::with_capacity(16);
    match value {
        Scalar::Float(f) if f.fract() == 0.0 && f.abs() < 2f64.powi(63) => {
            put_scalar(&mut bytes, &Scalar::Int(*f as i64));
        }
        value => put_scalar(&mut bytes, value),
    }
    let digest = Sha256::digest(&bytes);
    digest.iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl IntoIterator<Item = i64>) -> Sketch {
        let mut sketch = Sketch::Listed(Vec::new());
        values.into_iter().for_each(|i| sketch.merge(&Sketch::one(&Scalar::Int(i))));
        sketch
    }

    /// The standard error is 1.04 / sqrt(4096) = 1.63 % where registers are full, less below.
    #[test]
    fn the_error_is_what_the_paper_says() {
        assert_eq!(sketch(0..0).estimate(), 0);
        let bounds = [(1, 0.0), (10, 0.0), (100, 0.015), (1000, 0.015), (10_000, 0.02), (100_000, 0.02)];
        for (count, most) in bounds {
            let errors: Vec<f64> = (0..20)
                .map(|run| sketch((0..count).map(|i| run << 40 | i)).estimate() as f64 / count as f64 - 1.0)
                .collect();
            let rms = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
            println!("{count}: rms error {rms:.4}");
            assert!(rms <= most, "{count}: {rms}");
        }
    }

    #[test]
    fn merging_is_seeing_both() {
        for (a, b) in [(0..50, 25..75), (0..5000, 4000..9000), (0..10, 0..9000)] {
            let mut merged = sketch(a.clone());
            merged.merge(&sketch(b.clone()));
            assert_eq!(merged, sketch(b.chain(a)));
            let mut stored = Vec::new();
            merged.write(&mut stored);
            assert!(stored.len() <= MAX_BYTES);
            assert_eq!(Sketch::read(&mut Reader(&stored)), Some(merged));
        }
    }

    #[test]
    fn equal_numbers_are_one_value() {
        assert_eq!(Sketch::one(&Scalar::Int(3)), Sketch::one(&Scalar::Float(3.0)));
        assert_ne!(Sketch::one(&Scalar::Int(3)), Sketch::one(&Scalar::String("3".into())));
    }

    #[test]
    fn a_list_out_of_order_is_no_sketch() {
        for bad in [&b"\x02\0\x05\0\x01\x04\0\x01"[..], b"\x01\0\xff\xff\x01", b"\x01\0", b"\xff\xff\0"] {
            assert_eq!(Sketch::read(&mut Reader(bad)), None);
        }
    }
}
