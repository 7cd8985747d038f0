//! The linear head and what turns its logits into scores.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use weir_artifact::Activation;

use crate::EngineError;

/// `logits = weight · vector + bias`.
#[derive(Debug)]
pub(super) struct Head {
    /// `[labels, hidden]`, row-major.
    weight: Vec<f32>,
    /// `[labels]`.
    bias: Vec<f32>,
    pub(super) hidden: usize,
}

impl Head {
    /// Reads float32 `weight` `[labels, hidden]` and `bias` `[labels]` from a safetensors file.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] that says what is missing or does not fit.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, EngineError> {
        let wrong = |what: String| EngineError::Artifact(format!("the head: {what}"));
        let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
        let tensor = |name: &str| file.tensor(name).map_err(|e| wrong(format!("`{name}`: {e}")));
        let (weight, bias) = (tensor("weight")?, tensor("bias")?);
        let &[labels, hidden] = weight.shape() else {
            return Err(wrong(format!("`weight` has the shape {:?}, not [labels, hidden]", weight.shape())));
        };
        if bias.shape() != [labels] || labels == 0 || hidden == 0 {
            let (w, b) = (weight.shape(), bias.shape());
            return Err(wrong(format!("`weight` {w:?} and `bias` {b:?} do not fit together")));
        }
        let floats = |name: &str, t: &TensorView<'_>| {
            floats(t).ok_or_else(|| wrong(format!("`{name}` is not float32")))
        };
        Ok(Self { weight: floats("weight", &weight)?, bias: floats("bias", &bias)?, hidden })
    }

    /// Number of labels.
    pub(super) fn labels(&self) -> usize {
        self.bias.len()
    }

    /// Appends the logits of one vector of `hidden` elements to `out`.
    pub(super) fn apply(&self, vector: &[f32], out: &mut Vec<f32>) {
        let rows = self.weight.chunks_exact(self.hidden).zip(&self.bias);
        out.extend(rows.map(|(row, &bias)| {
            let dot: f64 = row.iter().zip(vector).map(|(&w, &v)| f64::from(w) * f64::from(v)).sum();
            (dot + f64::from(bias)) as f32
        }));
    }
}

fn floats(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let little_endian = |b: &[u8]| b.try_into().map(f32::from_le_bytes).ok();
    (tensor.dtype() == Dtype::F32).then(|| tensor.data().chunks_exact(4).map(little_endian).collect())?
}

/// What classifiers of the `transformers` library are read with where the model does not
/// say: sigmoid for several labels at once and for a single one, else softmax.
pub(super) fn usual(multi_label: bool, labels: usize) -> Activation {
    if multi_label || labels == 1 { Activation::Sigmoid } else { Activation::Softmax }
}

/// Turns one text's logits into scores.
pub(super) fn activate(activation: Activation, logits: &mut [f32]) {
    match activation {
        Activation::Sigmoid => {
            logits.iter_mut().for_each(|v| *v = (1.0 / (1.0 + (-f64::from(*v)).exp())) as f32);
        }
        Activation::Softmax => softmax(logits),
        Activation::None => {}
    }
}

fn softmax(logits: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits.iter().map(|&v| (f64::from(v) - f64::from(top)).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    logits.iter_mut().zip(exponentials).for_each(|(v, e)| *v = (e / sum) as f32);
}

#[cfg(test)]
mod tests {
    use safetensors::serialize;

    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
        serialize(views, None).unwrap()
    }

    #[test]
    fn a_head_is_a_matrix_and_a_bias() {
        let weight = ("weight", Dtype::F32, vec![2, 3], bytes(&[1.0, 0.0, -1.0, 2.0, 2.0, 2.0]));
        let head = Head::new(&file(&[weight, ("bias", Dtype::F32, vec![2], bytes(&[0.5, -1.0]))])).unwrap();
        let mut out = Vec::new();
        head.apply(&[1.0, 2.0, 3.0], &mut out);
        assert_eq!((out, head.labels(), head.hidden), (vec![-1.5, 11.0], 2, 3));
    }

    #[test]
    fn a_wrong_head_is_refused_with_what_is_wrong() {
        let bias = || ("bias", Dtype::F32, vec![2], bytes(&[0.0; 2]));
        for (tensors, words) in [
            (vec![bias()], "`weight`"),
            (vec![("weight", Dtype::F32, vec![3, 1], bytes(&[0.0; 3])), bias()], "do not fit together"),
            (vec![("weight", Dtype::F32, vec![2], bytes(&[0.0; 2])), bias()], "not [labels, hidden]"),
            (vec![("weight", Dtype::I32, vec![2, 1], bytes(&[0.0; 2])), bias()], "not float32"),
        ] {
            let error = Head::new(&file(&tensors)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(matches!(Head::new(b"garbage"), Err(EngineError::Artifact(_))));
    }

    #[test]
    fn scores_survive_large_logits() {
        let mut logits = [1000.0, 1000.0, -1000.0];
        activate(usual(false, 3), &mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
        let mut logits = [1000.0, 0.0, -1000.0];
        activate(usual(true, 3), &mut logits);
        assert_eq!(logits, [1.0, 0.5, 0.0]);
        assert_eq!(usual(false, 1), Activation::Sigmoid);
        activate(Activation::None, &mut logits);
        assert_eq!(logits, [1.0, 0.5, 0.0]);
    }
}
