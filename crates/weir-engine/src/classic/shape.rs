//! Operators that change the shape, move elements or make them out of nothing.

use weir_artifact::onnx::tensor as read_tensor;
use weir_types::{Tensor, TensorData};

use super::op::{
    Inputs, Op, Outcome, Source, axis, broadcast, broadcast_steps, count, gather_offsets, input_error,
    integers, list, needed, no_kernel, one, optional, repeat, strides, take, tensor, unsupported,
};

fn same_data(x: &Tensor, shape: Vec<usize>) -> Outcome<Vec<Tensor>> {
    one(shape, x.data().clone())
}

/// Dimensions given as integers.
fn dims(list: &[i64]) -> Outcome<Vec<usize>> {
    let dim = |&d: &i64| usize::try_from(d).map_err(|_| input_error(format!("shape {list:?} cannot be")));
    list.iter().map(dim).collect()
}

/// `Identity`.
pub(super) fn identity(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| Ok(vec![needed(inputs, 0)?.clone()])))
}

/// `Reshape`: 0 keeps a dimension (unless `allowzero`), -1 takes what is left.
pub(super) fn reshape(source: &Source<'_>) -> Outcome<Op> {
    let keep_zero = source.node.int("allowzero").unwrap_or(0) == 0;
    Ok(Box::new(move |inputs, _| {
        let (x, target) = (needed(inputs, 0)?, integers(needed(inputs, 1)?)?);
        let bad = || input_error(format!("shape {:?} does not become {target:?}", x.shape()));
        let mut shape = Vec::with_capacity(target.len());
        let mut open = None;
        for (i, &d) in target.iter().enumerate() {
            shape.push(match d {
                0 if keep_zero => *x.shape().get(i).ok_or_else(bad)?,
                -1 if open.is_none() => {
                    open = Some(i);
                    1
                }
                _ => usize::try_from(d).map_err(|_| bad())?,
            });
        }
        if let Some(open) = open {
            let known = count(&shape)?;
            // Where another dimension is 0 nothing is left for this one.
            shape[open] = x.data().len().checked_div(known).unwrap_or_default();
        }
        if count(&shape)? != x.data().len() {
            return Err(bad());
        }
        same_data(x, shape)
    }))
}

/// `Flatten`: everything before `axis` becomes rows.
pub(super) fn flatten(source: &Source<'_>) -> Outcome<Op> {
    let at = source.node.int("axis").unwrap_or(1);
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let rank = x.shape().len();
        let at = if at == rank as i64 { rank } else { axis(at, rank)? };
        let (rows, columns) = x.shape().split_at(at);
        same_data(x, vec![count(rows)?, count(columns)?])
    }))
}

/// `Squeeze`: given dimensions of size 1, or all of them, go.
pub(super) fn squeeze(source: &Source<'_>) -> Outcome<Op> {
    let attribute = source.node.ints("axes").to_vec();
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let shape = x.shape();
        let gone: Vec<usize> = match list(inputs, 1, &attribute)? {
            Some(axes) => axes.iter().map(|&a| axis(a, shape.len())).collect::<Outcome<_>>()?,
            None => (0..shape.len()).filter(|&d| shape[d] == 1).collect(),
        };
        if let Some(d) = gone.iter().find(|&&d| shape[d] != 1) {
            return Err(input_error(format!("dimension {d} of shape {shape:?} is not 1")));
        }
        let left = (0..shape.len()).filter(|d| !gone.contains(d)).map(|d| shape[d]).collect();
        same_data(x, left)
    }))
}

/// `Unsqueeze`: dimensions of size 1 come in.
pub(super) fn unsqueeze(source: &Source<'_>) -> Outcome<Op> {
    let attribute = source.node.ints("axes").to_vec();
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let axes = list(inputs, 1, &attribute)?.unwrap_or_default();
        let rank = x.shape().len() + axes.len();
        let new = axes.iter().map(|&a| axis(a, rank)).collect::<Outcome<Vec<_>>>()?;
        let mut old = x.shape().iter().copied();
        let shape: Vec<usize> =
            (0..rank).map(|d| if new.contains(&d) { 1 } else { old.next().unwrap_or(1) }).collect();
        same_data(x, shape)
    }))
}

/// `Shape`, of dimensions `start` to `end`.
pub(super) fn shape(source: &Source<'_>) -> Outcome<Op> {
    let (start, end) = (source.node.int("start").unwrap_or(0), source.node.int("end").unwrap_or(i64::MAX));
    Ok(Box::new(move |inputs, _| {
        let shape = needed(inputs, 0)?.shape();
        let rank = shape.len() as i64;
        let at = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
        let part = shape.get(at(start)..at(end)).unwrap_or(&[]);
        one(vec![part.len()], TensorData::Int64(part.iter().map(|&d| d as i64).collect()))
    }))
}

/// `Size`.
pub(super) fn size(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| one(Vec::new(), TensorData::Int64(vec![needed(inputs, 0)?.data().len() as i64]))))
}

/// `Transpose`; without `perm` the dimensions are reversed.
pub(super) fn transpose(source: &Source<'_>) -> Outcome<Op> {
    let perm = source.node.ints("perm").to_vec();
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let rank = x.shape().len();
        let order: Vec<usize> = match perm.is_empty() {
            true => (0..rank).rev().collect(),
            false => perm.iter().map(|&p| axis(p, rank)).collect::<Outcome<_>>()?,
        };
        let once = (0..rank).all(|d| order.contains(&d));
        if order.len() != rank || !once {
            return Err(input_error(format!("perm {perm:?} for {rank} dimensions")));
        }
        let own = strides(x.shape());
        let shape: Vec<usize> = order.iter().map(|&d| x.shape()[d]).collect();
        let steps: Vec<usize> = order.iter().map(|&d| own[d]).collect();
        let at = gather_offsets(&shape, &steps, 0)?;
        one(shape, take(x.data(), &at))
    }))
}

/// `Expand`: broadcasts to a shape.
pub(super) fn expand(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let (x, target) = (needed(inputs, 0)?, dims(&integers(needed(inputs, 1)?)?)?);
        let shape = broadcast(x.shape(), &target)?;
        let at = gather_offsets(&shape, &broadcast_steps(x.shape(), &shape), 0)?;
        one(shape, take(x.data(), &at))
    }))
}

/// `Tile`: repeats along each dimension.
pub(super) fn tile(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let (x, repeats) = (needed(inputs, 0)?, dims(&integers(needed(inputs, 1)?)?)?);
        if repeats.len() != x.shape().len() {
            return Err(input_error(format!("repeats {repeats:?} for shape {:?}", x.shape())));
        }
        // Seen as [repeats, dimension] pairs, repeating is a broadcast.
        let pairs = || repeats.iter().zip(x.shape());
        let view: Vec<usize> = pairs().flat_map(|(&r, &d)| [r, d]).collect();
        let steps: Vec<usize> = strides(x.shape()).iter().flat_map(|&s| [0, s]).collect();
        let at = gather_offsets(&view, &steps, 0)?;
        let shape = pairs().map(|(r, d)| r * d).collect();
        one(shape, take(x.data(), &at))
    }))
}

/// `Concat` along `axis`.
pub(super) fn concat(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").ok_or_else(|| source.broken("axis is missing"))?;
    Ok(Box::new(move |inputs, _| {
        let first = needed(inputs, 0)?;
        let along = axis(along, first.shape().len())?;
        let mut shape = first.shape().to_vec();
        shape[along] = 0;
        let mut parts = Vec::with_capacity(inputs.len());
        for i in 0..inputs.len() {
            let part = needed(inputs, i)?;
            let fits = part.shape().len() == shape.len()
                && part.shape().iter().enumerate().all(|(d, &n)| d == along || n == shape[d]);
            if !fits {
                return Err(input_error(format!(
                    "shapes {:?} and {:?} do not join",
                    first.shape(),
                    part.shape()
                )));
            }
            shape[along] = shape[along].saturating_add(part.shape()[along]);
            parts.push(part);
        }
        count(&shape)?;
        let outer = count(&shape[..along])?;
        let mut data = TensorData::with_capacity(first.dtype(), count(&shape)?);
        for row in 0..outer {
            for part in &parts {
                let block = part.data().len() / outer;
                if !append_range(&mut data, part.data(), row * block..(row + 1) * block) {
                    return Err(no_kernel(part));
                }
            }
        }
        one(shape, data)
    }))
}

/// Appends a part of `from`; `false` if the types differ.
fn append_range(to: &mut TensorData, from: &TensorData, range: std::ops::Range<usize>) -> bool {
    macro_rules! same {
        ($($variant:ident),*) => {
            match (to, from) {
                $((TensorData::$variant(to), TensorData::$variant(from)) => to.extend_from_slice(&from[range]),)*
                _ => return false,
            }
        };
    }
    same!(
        Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Bfloat16, Float32, Float64,
        String
    );
    true
}

/// `Split` along `axis`: into given sizes, or into parts as even as can be.
pub(super) fn split(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(0);
    let attribute = source.node.ints("split").to_vec();
    let parts = source.node.output.len();
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let along = axis(along, x.shape().len())?;
        let whole = x.shape()[along];
        let sizes = match list(inputs, 1, &attribute)? {
            Some(sizes) => dims(&sizes)?,
            None => {
                let most = whole.div_ceil(parts.max(1));
                (0..parts).map(|i| most.min(whole.saturating_sub(i * most))).collect()
            }
        };
        let sum = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
        if sum != Some(whole) || sizes.len() != parts {
            return Err(input_error(format!("{whole} elements do not split into {sizes:?}")));
        }
        let steps = strides(x.shape());
        let mut start = 0;
        let mut out = Vec::with_capacity(parts);
        for size in sizes {
            let mut shape = x.shape().to_vec();
            shape[along] = size;
            let at = gather_offsets(&shape, &steps, start * steps[along])?;
            out.push(tensor(shape, take(x.data(), &at))?);
            start += size;
        }
        Ok(out)
    }))
}

/// `Constant`.
pub(super) fn constant(source: &Source<'_>) -> Outcome<Op> {
    let node = source.node;
    let vector = |data: TensorData| tensor(vec![data.len()], data);
    let value = if let Some(proto) = node.tensor("value") {
        read_tensor(proto).map_err(|why| source.broken(why))?
    } else if let Some(v) = node.float("value_float") {
        tensor(Vec::new(), TensorData::Float32(vec![v]))?
    } else if let Some(v) = node.int("value_int") {
        tensor(Vec::new(), TensorData::Int64(vec![v]))?
    } else if let Some(v) = node.string("value_string") {
        tensor(Vec::new(), TensorData::String(vec![v]))?
    } else if node.attribute("value_floats").is_some() {
        vector(TensorData::Float32(node.floats("value_floats").to_vec()))?
    } else if node.attribute("value_ints").is_some() {
        vector(TensorData::Int64(node.ints("value_ints").to_vec()))?
    } else if node.attribute("value_strings").is_some() {
        vector(TensorData::String(node.strings("value_strings")))?
    } else {
        return Err(source.unsupported("a sparse constant, or none"));
    };
    Ok(Box::new(move |_, _| Ok(vec![value.clone()])))
}

/// `ConstantOfShape`.
pub(super) fn constant_of_shape(source: &Source<'_>) -> Outcome<Op> {
    let value = match source.node.tensor("value") {
        Some(proto) => read_tensor(proto).map_err(|why| source.broken(why))?.into_data(),
        None => TensorData::Float32(vec![0.0]),
    };
    if value.len() != 1 {
        return Err(source.broken("value must be one element"));
    }
    Ok(Box::new(move |inputs, _| {
        let shape = dims(&integers(needed(inputs, 0)?)?)?;
        let n = count(&shape)?;
        one(shape, repeat(&value, n))
    }))
}

/// `Pad` with a constant.
pub(super) fn pad(source: &Source<'_>) -> Outcome<Op> {
    if source.node.string("mode").is_some_and(|mode| mode != "constant") {
        return Err(source.unsupported("only constants are padded with"));
    }
    let (attribute, value) = (source.node.ints("pads").to_vec(), source.node.float("value").unwrap_or(0.0));
    Ok(Box::new(move |inputs, _| pad_run(inputs, &attribute, value)))
}

fn pad_run(inputs: &Inputs<'_>, attribute: &[i64], value: f32) -> Outcome<Vec<Tensor>> {
    let x = needed(inputs, 0)?;
    let pads = list(inputs, 1, attribute)?.unwrap_or_default();
    let rank = x.shape().len();
    let axes: Vec<usize> = match list(inputs, 3, &[])? {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Outcome<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(input_error(format!("{} pads for {} dimensions", pads.len(), axes.len())));
    }
    let (mut before, mut shape) = (vec![0i64; rank], x.shape().to_vec());
    for (i, &d) in axes.iter().enumerate() {
        before[d] = pads[i];
        let size = (shape[d] as i64).checked_add(pads[i]).and_then(|n| n.checked_add(pads[i + axes.len()]));
        let size = size.and_then(|n| usize::try_from(n).ok());
        shape[d] = size.ok_or_else(|| input_error(format!("pads {pads:?} for shape {:?}", x.shape())))?;
    }
    count(&shape)?;
    // The padding stands behind the elements, so that one list of positions picks from both.
    let mut data = x.data().clone();
    let padding = match optional(inputs, 2) {
        Some(value) => value.data().clone(),
        None => match x.data() {
            TensorData::Float32(_) => TensorData::Float32(vec![value]),
            TensorData::Float64(_) => TensorData::Float64(vec![value.into()]),
            TensorData::Int64(_) => TensorData::Int64(vec![value as i64]),
            TensorData::Int32(_) => TensorData::Int32(vec![value as i32]),
            _ => return Err(no_kernel(x)),
        },
    };
    if padding.len() != 1 || !data.append(&padding) {
        return Err(unsupported("a padding of another type"));
    }
    let steps = strides(x.shape());
    let outer = gather_offsets(&shape, &strides(&shape), 0)?;
    let own = strides(&shape);
    let place = |flat: usize| {
        let mut at = 0;
        for d in 0..rank {
            let i = (flat / own[d] % shape[d]) as i64 - before[d];
            match usize::try_from(i).ok().filter(|&i| i < x.shape()[d]) {
                Some(i) => at += i * steps[d],
                None => return x.data().len(),
            }
        }
        at
    };
    let at: Vec<usize> = outer.into_iter().map(place).collect();
    one(shape, take(&data, &at))
}
