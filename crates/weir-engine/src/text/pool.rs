//! From one vector a token to one vector a text.

use weir_artifact::Pooling;

/// Smallest length that a vector is divided by, as PyTorch's `normalize` has it: a vector of
/// zeros stays one.
const SHORTEST: f64 = 1e-12;

/// Pools the vectors of one text: `tokens` is `[length, hidden]`, padding left out, and
/// `out` is `[hidden]`.
pub(super) fn pool(pooling: Pooling, tokens: &[f32], out: &mut [f32]) {
    let vectors = tokens.chunks_exact(out.len());
    match pooling {
        Pooling::None | Pooling::Cls => out.copy_from_slice(&tokens[..out.len()]),
        Pooling::Max => {
            out.fill(f32::NEG_INFINITY);
            for vector in vectors {
                out.iter_mut().zip(vector).for_each(|(o, &v)| *o = o.max(v));
            }
        }
        Pooling::Mean => {
            let count = vectors.len() as f64;
            let mut sums = vec![0f64; out.len()];
            for vector in vectors {
                sums.iter_mut().zip(vector).for_each(|(s, &v)| *s += f64::from(v));
            }
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = (s / count) as f32);
        }
    }
}

/// Scales a vector to length 1.
pub(super) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(SHORTEST);
    vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_is_what_its_name_says() {
        let tokens = [1.0, -2.0, 3.0, -4.0, 5.0, -9.0];
        for (pooling, expected) in
            [(Pooling::Cls, [1.0, -2.0]), (Pooling::Mean, [3.0, -5.0]), (Pooling::Max, [5.0, -2.0])]
        {
            let mut out = [0.0; 2];
            pool(pooling, &tokens, &mut out);
            assert_eq!(out, expected, "{pooling:?}");
        }
    }

    #[test]
    fn a_normalised_vector_has_length_one_and_zeros_stay_zeros() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zeros = [0.0; 3];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
