//! Which texts are encoded together.

use std::ops::Range;

/// Most tokens, padding included, in one call of the encoder. Bounds the memory of a large
/// request (a call's attention scores take `heads * tokens * longest` floats), and is fast:
/// what a call computes on the way stays in the processor's cache. 32 texts of 256 tokens on
/// MiniLM, one thread, in milliseconds on ONNX Runtime and rten: 1297 and 1203 with 512;
/// 1363 and 1292 with 1,024; 1479 and 1357, and 550 MB instead of 230, with 4,096.
pub(super) const MAX_TOKENS: usize = 512;

/// A call may grow while each of its texts fills at least this share of the longest one...
const FILLED: f64 = 0.8;
/// ...or while it is so small that a call's fixed costs outweigh the padding.
const SMALL: usize = 64;

/// Texts in the order in which they are encoded, and the calls as ranges of that order.
#[derive(Debug, PartialEq)]
pub(super) struct Runs {
    /// Indices of texts, longest first; equal lengths in the request's order.
    pub(super) order: Vec<usize>,
    /// One range of `order` a call. Together they cover it.
    pub(super) ranges: Vec<Range<usize>>,
}

/// Cuts texts of these `lengths` into calls of at most `max_rows` texts. Similar lengths
/// share a call, since every text is padded to the longest beside it.
pub(super) fn plan(lengths: &[usize], max_rows: usize) -> Runs {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut ranges = Vec::new();
    let mut start = 0;
    for end in 1..=order.len() {
        if end == order.len() || !joins(lengths[order[start]], lengths[order[end]], end - start, max_rows) {
            ranges.push(start..end);
            start = end;
        }
    }
    Runs { order, ranges }
}

/// Whether a text of `length` joins a call of `rows` texts, the longest of `longest`.
fn joins(longest: usize, length: usize, rows: usize, max_rows: usize) -> bool {
    let padded = (rows + 1) * longest;
    let similar = length as f64 >= longest as f64 * FILLED || padded <= SMALL;
    rows < max_rows && padded <= MAX_TOKENS && similar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_in_one_call_and_none_exceeds_the_bounds() {
        let mut seed = 7u64;
        for count in [0, 1, 2, 17, 500] {
            let lengths: Vec<usize> = (0..count)
                .map(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    1 + (seed >> 33) as usize % 600
                })
                .collect();
            for max_rows in [1, 32, usize::MAX] {
                let runs = plan(&lengths, max_rows);
                let mut seen = runs.order.clone();
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
                assert_eq!(
                    runs.ranges.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                    (0..count).collect::<Vec<_>>()
                );
                for range in runs.ranges {
                    let longest = lengths[runs.order[range.start]];
                    assert!(
                        range.len() <= max_rows && (range.len() == 1 || range.len() * longest <= MAX_TOKENS)
                    );
                }
            }
        }
    }

    #[test]
    fn a_text_longer_than_the_bound_is_encoded_alone() {
        assert_eq!(plan(&[10_000, 10_000], usize::MAX).ranges, [0..1, 1..2]);
    }
}
