//! Preprocessing: `Scaler`, `Normalizer`, `Imputer`, `Binarizer`, `FeatureVectorizer`,
//! `ArrayFeatureExtractor`.

use weir_types::TensorData;

use super::op::{
    Inputs, Op, Outcome, Source, count, floats, gather_offsets, input_error, integers, matrix, needed,
    no_kernel, one, strides, take,
};

/// Elements that share one parameter each: the second dimension, or the only one.
fn stride(shape: &[usize]) -> usize {
    match *shape {
        [n] | [_, n, ..] => n,
        [] => 1,
    }
}

/// `Scaler`: `(x - offset) * scale`; in float64 only for float64 rows, as in onnxruntime.
pub(super) fn scaler(source: &Source<'_>) -> Outcome<Op> {
    let (offset, scale) = (source.node.floats("offset").to_vec(), source.node.floats("scale").to_vec());
    if scale.is_empty() || offset.len() != scale.len() {
        return Err(source.broken(format!("{} offsets, {} scales", offset.len(), scale.len())));
    }
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let n = parameters(scale.len(), stride(x.shape()))?;
        let out = match x.data() {
            TensorData::Float64(v) => {
                let scaled =
                    |(i, x): (usize, &f64)| ((x - f64::from(offset[i % n])) * f64::from(scale[i % n])) as f32;
                v.iter().enumerate().map(scaled).collect()
            }
            _ => floats(x)?.iter().enumerate().map(|(i, x)| (x - offset[i % n]) * scale[i % n]).collect(),
        };
        one(x.shape().to_vec(), TensorData::Float32(out))
    }))
}

/// How many of `given` parameters columns of `stride` elements take turns with.
fn parameters(given: usize, stride: usize) -> Outcome<usize> {
    if given == stride || given == 1 || stride == 0 {
        return Ok(given.min(stride.max(1)));
    }
    Err(input_error(format!("the model has parameters for {given} columns, rows have {stride}")))
}

#[derive(Debug, Clone, Copy)]
enum Norm {
    Max,
    L1,
    L2,
}

/// `Normalizer`, by rows. MAX divides by the largest value, not the largest magnitude.
pub(super) fn normalizer(source: &Source<'_>) -> Outcome<Op> {
    let norm = source.word("norm", &[("MAX", Norm::Max), ("L1", Norm::L1), ("L2", Norm::L2)])?;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let (_, columns) = matrix(x)?;
        let mut out = floats(x)?.into_owned();
        if columns > 0 {
            out.chunks_mut(columns).for_each(|row| normalize(norm, row));
        }
        one(x.shape().to_vec(), TensorData::Float32(out))
    }))
}

fn normalize(norm: Norm, row: &mut [f32]) {
    let by = match norm {
        Norm::Max => row.iter().fold(f32::MIN, |m, &x| if m < x { x } else { m }),
        Norm::L1 => row.iter().fold(0.0, |sum, x| sum + x.abs()),
        Norm::L2 => row.iter().fold(0.0, |sum, x| sum + x * x),
    };
    if by == 0.0 {
        return;
    }
    match norm {
        // The root of the quotient, not the quotient by the root: it rounds differently.
        Norm::L2 => row.iter_mut().for_each(|x| {
            let root = (*x * *x / by).sqrt();
            *x = if *x < 0.0 { -root } else { root };
        }),
        _ => row.iter_mut().for_each(|x| *x /= by),
    }
}

/// `Imputer`: one value for all columns, or one a column.
pub(super) fn imputer(source: &Source<'_>) -> Outcome<Op> {
    let node = source.node;
    let (values, ints) =
        (node.floats("imputed_value_floats").to_vec(), node.ints("imputed_value_int64s").to_vec());
    let (gap, int_gap) =
        (node.float("replaced_value_float").unwrap_or(0.0), node.int("replaced_value_int64").unwrap_or(0));
    if values.is_empty() == ints.is_empty() {
        return Err(source.broken("it needs imputed values, floats or integers"));
    }
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let width = stride(x.shape());
        // As many values as columns, else the first for all.
        let n = |given: usize| if given == width { given } else { 1 };
        let float = |x: f32| x == gap || (x.is_nan() && gap.is_nan());
        let data = match x.data() {
            TensorData::Float32(v) if !values.is_empty() => {
                let n = n(values.len());
                let fill = |(i, &x): (usize, &f32)| if float(x) { values[i % n] } else { x };
                TensorData::Float32(v.iter().enumerate().map(fill).collect())
            }
            TensorData::Float64(v) if !values.is_empty() => {
                let n = n(values.len());
                let missing = |x: f64| x == f64::from(gap) || (x.is_nan() && gap.is_nan());
                let fill = |(i, &x): (usize, &f64)| if missing(x) { values[i % n].into() } else { x };
                TensorData::Float64(v.iter().enumerate().map(fill).collect())
            }
            TensorData::Int64(v) if !ints.is_empty() => {
                let n = n(ints.len());
                let fill = |(i, &x): (usize, &i64)| if x == int_gap { ints[i % n] } else { x };
                TensorData::Int64(v.iter().enumerate().map(fill).collect())
            }
            _ => return Err(no_kernel(x)),
        };
        one(x.shape().to_vec(), data)
    }))
}

/// `Binarizer`: 1 strictly above the threshold.
pub(super) fn binarizer(source: &Source<'_>) -> Outcome<Op> {
    let threshold = source.node.float("threshold").unwrap_or(0.0);
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let TensorData::Float32(v) = x.data() else { return Err(no_kernel(x)) };
        let above = |&x: &f32| if x > threshold { 1.0 } else { 0.0 };
        one(x.shape().to_vec(), TensorData::Float32(v.iter().map(above).collect()))
    }))
}

/// `FeatureVectorizer`: columns side by side, each cut or padded to its declared width.
pub(super) fn feature_vectorizer(source: &Source<'_>) -> Outcome<Op> {
    let widths = source.node.ints("inputdimensions");
    let widths = widths.iter().map(|&w| usize::try_from(w)).collect::<Result<Vec<_>, _>>();
    let widths = widths.map_err(|_| source.broken("inputdimensions cannot be negative"))?;
    if widths.len() != source.node.input.len() {
        return Err(source.broken(format!("{} widths for {} inputs", widths.len(), source.node.input.len())));
    }
    Ok(Box::new(move |inputs, _| vectorize(inputs, &widths)))
}

fn vectorize(inputs: &Inputs<'_>, widths: &[usize]) -> Outcome<Vec<weir_types::Tensor>> {
    let (rows, _) = matrix(needed(inputs, 0)?)?;
    let total = widths.iter().try_fold(0usize, |n, &w| n.checked_add(w));
    let total = total.ok_or_else(|| input_error("the columns are too many"))?;
    let mut out = vec![0f32; count(&[rows, total])?];
    let mut start = 0;
    for (i, &width) in widths.iter().enumerate() {
        let x = needed(inputs, i)?;
        let (own, columns) = matrix(x)?;
        if own != rows {
            return Err(input_error(format!("inputs of {rows} and of {own} rows")));
        }
        let (data, kept) = (floats(x)?, width.min(columns));
        for row in 0..rows {
            let to = row * total + start;
            out[to..to + kept].copy_from_slice(&data[row * columns..row * columns + kept]);
        }
        start += width;
    }
    one(vec![rows, total], TensorData::Float32(out))
}

/// `ArrayFeatureExtractor`: elements of the last dimension; a vector gives a matrix of one row.
pub(super) fn array_feature_extractor(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let (x, chosen) = (needed(inputs, 0)?, integers(needed(inputs, 1)?)?);
        let Some((&width, outer)) = x.shape().split_last() else {
            return Err(input_error("features cannot be chosen from a single value"));
        };
        let inside = |&i: &i64| usize::try_from(i).ok().filter(|&i| i < width);
        let chosen = chosen.iter().map(inside).collect::<Option<Vec<_>>>();
        let chosen = chosen.filter(|c| !c.is_empty());
        let chosen =
            chosen.ok_or_else(|| input_error(format!("features outside of the {width} there are")))?;
        let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
        let outer_strides: Vec<usize> = strides(&shape).iter().map(|s| s * width).collect();
        let rows = gather_offsets(&shape, &outer_strides, 0)?;
        shape.push(chosen.len());
        count(&shape)?;
        let at: Vec<usize> = rows.iter().flat_map(|row| chosen.iter().map(move |c| row + c)).collect();
        one(shape, take(x.data(), &at))
    }))
}
