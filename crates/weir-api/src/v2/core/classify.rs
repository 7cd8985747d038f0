//! Triton's classification extension: the highest values of an output as text.

use half::{bf16, f16};
use weir_types::{Error, Tensor, TensorData};

use super::cut;

/// The `top` highest values of each row of `tensor`, as `"value:index"` or, where there is
/// a label for each column, `"value:index:label"`: a string tensor `[rows, top]` (fewer
/// columns where the output has fewer). NaN comes last.
///
/// # Errors
/// `InvalidArgument` for an output of text.
pub(super) fn classify(name: &str, tensor: &Tensor, top: usize, labels: &[String]) -> Result<Tensor, Error> {
    let values = numbers(tensor.data()).ok_or_else(|| {
        Error::invalid(format!("output `{}` is text: there is nothing to classify by", cut(name)))
    })?;
    let (rows, width) = (tensor.rows(), tensor.row_width());
    let top = top.min(width);
    let labels = (labels.len() == width).then_some(labels);
    let mut texts = Vec::with_capacity(rows * top);
    for row in 0..rows {
        let scores = &values[row * width..(row + 1) * width];
        let mut order: Vec<usize> = (0..width).collect();
        // Stable, so that the first of equals comes first.
        order.sort_by(|&a, &b| rank(scores[b]).total_cmp(&rank(scores[a])));
        texts.extend(order.into_iter().take(top).map(|i| {
            let value = shown(tensor.data(), row * width + i);
            labels.map_or_else(|| format!("{value}:{i}"), |labels| format!("{value}:{i}:{}", labels[i]))
        }));
    }
    Tensor::new(vec![rows, top], TensorData::String(texts)).map_err(|e| Error::internal(e.to_string()))
}

/// NaN below everything.
fn rank(score: f64) -> f64 {
    if score.is_nan() { f64::NEG_INFINITY } else { score }
}

fn numbers(data: &TensorData) -> Option<Vec<f64>> {
    Some(match data {
        TensorData::Bool(v) => v.iter().map(|b| f64::from(u8::from(*b))).collect(),
        TensorData::Int8(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Int16(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Int32(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Int64(v) => v.iter().map(|n| *n as f64).collect(),
        TensorData::Uint8(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Uint16(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Uint32(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Uint64(v) => v.iter().map(|n| *n as f64).collect(),
        TensorData::Float16(v) => v.iter().map(|n| f16::from_bits(*n).to_f64()).collect(),
        TensorData::Bfloat16(v) => v.iter().map(|n| bf16::from_bits(*n).to_f64()).collect(),
        TensorData::Float32(v) => v.iter().map(|n| f64::from(*n)).collect(),
        TensorData::Float64(v) => v.clone(),
        TensorData::String(_) => return None,
    })
}

/// The element as text: the shortest that reads back as the same value.
fn shown(data: &TensorData, at: usize) -> String {
    match data {
        TensorData::Bool(v) => u8::from(v[at]).to_string(),
        TensorData::Int8(v) => v[at].to_string(),
        TensorData::Int16(v) => v[at].to_string(),
        TensorData::Int32(v) => v[at].to_string(),
        TensorData::Int64(v) => v[at].to_string(),
        TensorData::Uint8(v) => v[at].to_string(),
        TensorData::Uint16(v) => v[at].to_string(),
        TensorData::Uint32(v) => v[at].to_string(),
        TensorData::Uint64(v) => v[at].to_string(),
        TensorData::Float16(v) => f16::from_bits(v[at]).to_string(),
        TensorData::Bfloat16(v) => bf16::from_bits(v[at]).to_string(),
        TensorData::Float32(v) => v[at].to_string(),
        TensorData::Float64(v) => v[at].to_string(),
        TensorData::String(v) => v[at].clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(data: TensorData, shape: &[usize], top: usize, labels: &[&str]) -> Vec<String> {
        let labels: Vec<_> = labels.iter().map(ToString::to_string).collect();
        let tensor = Tensor::new(shape.to_vec(), data).unwrap();
        classify("y", &tensor, top, &labels).unwrap().as_strings().unwrap().to_vec()
    }

    #[test]
    fn the_highest_come_first_with_index_and_label() {
        let scores = || TensorData::Float32(vec![0.25, 0.5, 0.25, f32::NAN, 1.0, 2.0]);
        assert_eq!(texts(scores(), &[2, 3], 2, &["a", "b", "c"]), ["0.5:1:b", "0.25:0:a", "2:2:c", "1:1:b"]);
        assert_eq!(texts(TensorData::Int32(vec![3, 9]), &[1, 2], 7, &[]), ["9:1", "3:0"]);
        assert_eq!(texts(scores(), &[6], 1, &[])[0], "0.25:0", "a row of one value is its own best");
    }

    #[test]
    fn text_cannot_be_classified() {
        let tensor = Tensor::new(vec![1], TensorData::String(vec!["x".into()])).unwrap();
        assert!(classify("y", &tensor, 1, &[]).is_err());
    }
}
