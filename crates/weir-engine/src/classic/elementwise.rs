//! Operators on elements, with numpy's broadcasting.

use weir_types::{Tensor, TensorData};

use super::op::{
    Inputs, Op, Outcome, Source, broadcast, broadcast_steps, count, gather_offsets, input_error, needed,
    no_kernel, one, tensor,
};

/// Calls `f` on each pair of elements of the broadcast of `a` and `b`.
fn zip<A: Copy, B: Copy, R>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    shape: &[usize],
    f: impl Fn(A, B) -> R,
) -> Outcome<Vec<R>> {
    let n = count(shape)?;
    if a.len() == n && b.len() == n {
        return Ok(a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect());
    }
    if let (true, [b]) = (a.len() == n, b) {
        return Ok(a.iter().map(|&a| f(a, *b)).collect());
    }
    if let ([a], true) = (a, b.len() == n) {
        return Ok(b.iter().map(|&b| f(*a, b)).collect());
    }
    // One row against many: the usual case of a bias or a mean.
    let suffix = b_shape.iter().rev().zip(shape.iter().rev()).all(|(b, s)| b == s);
    if a.len() == n && suffix && !b.is_empty() {
        return Ok(a.chunks(b.len()).flat_map(|row| row.iter().zip(b)).map(|(&a, &b)| f(a, b)).collect());
    }
    let a_at = gather_offsets(shape, &broadcast_steps(a_shape, shape), 0)?;
    let b_at = gather_offsets(shape, &broadcast_steps(b_shape, shape), 0)?;
    Ok(a_at.iter().zip(&b_at).map(|(&i, &j)| f(a[i], b[j])).collect())
}

/// Both inputs and the shape of their broadcast.
fn pair<'a>(inputs: &Inputs<'a>) -> Outcome<(&'a Tensor, &'a Tensor, Vec<usize>)> {
    let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
    Ok((a, b, broadcast(a.shape(), b.shape())?))
}

/// A binary operator: one function for floats, one for integers.
macro_rules! arithmetic {
    ($(#[$doc:meta])* $name:ident, $float:expr, $int:expr) => {
        $(#[$doc])*
        pub(super) fn $name(_: &Source<'_>) -> Outcome<Op> {
            fn run(a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
                let shape = broadcast(a.shape(), b.shape())?;
                let (s, t) = (a.shape(), b.shape());
                let data = match (a.data(), b.data()) {
                    (TensorData::Float32(a), TensorData::Float32(b)) => {
                        TensorData::Float32(zip((a, s), (b, t), &shape, $float)?)
                    }
                    (TensorData::Float64(a), TensorData::Float64(b)) => {
                        TensorData::Float64(zip((a, s), (b, t), &shape, $float)?)
                    }
                    (TensorData::Int64(a), TensorData::Int64(b)) => {
                        TensorData::Int64(zip((a, s), (b, t), &shape, $int)?)
                    }
                    (TensorData::Int32(a), TensorData::Int32(b)) => {
                        TensorData::Int32(zip((a, s), (b, t), &shape, $int)?)
                    }
                    _ => return Err(no_kernel(a)),
                };
                tensor(shape, data)
            }
            Ok(Box::new(|inputs, _| fold(inputs, run)))
        }
    };
}

/// Joins all inputs from the left; one alone is the answer itself.
fn fold(inputs: &Inputs<'_>, run: impl Fn(&Tensor, &Tensor) -> Outcome<Tensor>) -> Outcome<Vec<Tensor>> {
    let first = needed(inputs, 0)?;
    let mut whole = match inputs {
        [_, second, ..] => run(first, second.ok_or_else(|| input_error("an input is missing"))?)?,
        _ => first.clone(),
    };
    for i in 2..inputs.len() {
        whole = run(&whole, needed(inputs, i)?)?;
    }
    Ok(vec![whole])
}

arithmetic!(/// `Add` and `Sum`.
    add, |a, b| a + b, |a, b| a.wrapping_add(b));
arithmetic!(/// `Sub`.
    sub, |a, b| a - b, |a, b| a.wrapping_sub(b));
arithmetic!(/// `Mul`.
    mul, |a, b| a * b, |a, b| a.wrapping_mul(b));
arithmetic!(/// `Div`; integers are cut toward zero, by zero gives zero instead of ending the process.
    div, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0));
arithmetic!(/// `Max`; NaN wins.
    max, |a, b| if a.is_nan() || a > b { a } else { b }, |a, b| a.max(b));
arithmetic!(/// `Min`; NaN wins.
    min, |a, b| if a.is_nan() || a < b { a } else { b }, |a, b| a.min(b));

/// `Mean` of all inputs.
pub(super) fn mean(source: &Source<'_>) -> Outcome<Op> {
    let sum = add(source)?;
    Ok(Box::new(move |inputs, cancel| {
        let whole = sum(inputs, cancel)?;
        let n = inputs.len();
        let x = needed(&whole.iter().map(Some).collect::<Vec<_>>(), 0)?.clone();
        let shape = x.shape().to_vec();
        match x.into_data() {
            TensorData::Float32(v) => {
                one(shape, TensorData::Float32(v.iter().map(|x| x / n as f32).collect()))
            }
            TensorData::Float64(v) => {
                one(shape, TensorData::Float64(v.iter().map(|x| x / n as f64).collect()))
            }
            _ => Err(super::op::unsupported("Mean of integers")),
        }
    }))
}

/// `Mod`: the sign follows the divisor, or the dividend with `fmod`.
pub(super) fn modulo(source: &Source<'_>) -> Outcome<Op> {
    let fmod = source.node.int("fmod").unwrap_or(0) != 0;
    fn whole(a: i64, b: i64, fmod: bool) -> i64 {
        let rest = a.checked_rem(b).unwrap_or(0);
        if !fmod && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
    }
    Ok(Box::new(move |inputs, _| {
        let (a, b, shape) = pair(inputs)?;
        let (s, t) = (a.shape(), b.shape());
        let data = match (a.data(), b.data()) {
            (TensorData::Float32(a), TensorData::Float32(b)) => {
                TensorData::Float32(zip((a, s), (b, t), &shape, |a, b| a % b)?)
            }
            (TensorData::Float64(a), TensorData::Float64(b)) => {
                TensorData::Float64(zip((a, s), (b, t), &shape, |a, b| a % b)?)
            }
            (TensorData::Int64(a), TensorData::Int64(b)) => {
                TensorData::Int64(zip((a, s), (b, t), &shape, |a, b| whole(a, b, fmod))?)
            }
            _ => return Err(no_kernel(a)),
        };
        one(shape, data)
    }))
}

/// `Pow`; the exponent may be of another type than the base, whose type the answer has.
pub(super) fn pow(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let (a, b, shape) = pair(inputs)?;
        let (s, t) = (a.shape(), b.shape());
        let exponents = wide(b)?;
        let data = match a.data() {
            TensorData::Float32(v) => {
                TensorData::Float32(zip((v, s), (&exponents, t), &shape, |x, e| powf(x, e as f32))?)
            }
            TensorData::Float64(v) => {
                TensorData::Float64(zip((v, s), (&exponents, t), &shape, |x: f64, e| x.powf(e))?)
            }
            TensorData::Int64(v) => {
                TensorData::Int64(zip((v, s), (&exponents, t), &shape, |x, e| (x as f64).powf(e) as i64)?)
            }
            TensorData::Int32(v) => {
                TensorData::Int32(zip((v, s), (&exponents, t), &shape, |x, e| f64::from(x).powf(e) as i32)?)
            }
            _ => return Err(no_kernel(a)),
        };
        one(shape, data)
    }))
}

fn powf(x: f32, exponent: f32) -> f32 {
    if exponent == 2.0 { x * x } else { x.powf(exponent) }
}

/// Any numbers as float64.
fn wide(tensor: &Tensor) -> Outcome<Vec<f64>> {
    Ok(match tensor.data() {
        TensorData::Float32(v) => v.iter().map(|&x| x.into()).collect(),
        TensorData::Float64(v) => v.clone(),
        TensorData::Int64(v) => v.iter().map(|&x| x as f64).collect(),
        TensorData::Int32(v) => v.iter().map(|&x| x.into()).collect(),
        _ => return Err(no_kernel(tensor)),
    })
}

/// A comparison of numbers.
macro_rules! compare {
    ($(#[$doc:meta])* $name:ident, $op:tt) => {
        $(#[$doc])*
        pub(super) fn $name(_: &Source<'_>) -> Outcome<Op> {
            Ok(Box::new(|inputs, _| {
                let (a, b, shape) = pair(inputs)?;
                let (s, t) = (a.shape(), b.shape());
                let data = match (a.data(), b.data()) {
                    (TensorData::Float32(a), TensorData::Float32(b)) => zip((a, s), (b, t), &shape, |a, b| a $op b),
                    (TensorData::Float64(a), TensorData::Float64(b)) => zip((a, s), (b, t), &shape, |a, b| a $op b),
                    (TensorData::Int64(a), TensorData::Int64(b)) => zip((a, s), (b, t), &shape, |a, b| a $op b),
                    (TensorData::Int32(a), TensorData::Int32(b)) => zip((a, s), (b, t), &shape, |a, b| a $op b),
                    _ => return Err(no_kernel(a)),
                };
                one(shape, TensorData::Bool(data?))
            }))
        }
    };
}
compare!(/// `Less`.
    less, <);
compare!(/// `LessOrEqual`.
    less_or_equal, <=);
compare!(/// `Greater`.
    greater, >);
compare!(/// `GreaterOrEqual`.
    greater_or_equal, >=);
compare!(equal_numbers, ==);

/// `Equal`, also of strings and booleans.
pub(super) fn equal(source: &Source<'_>) -> Outcome<Op> {
    let numbers = equal_numbers(source)?;
    Ok(Box::new(move |inputs, cancel| {
        let (a, b, shape) = pair(inputs)?;
        let (s, t) = (a.shape(), b.shape());
        let data = match (a.data(), b.data()) {
            (TensorData::String(a), TensorData::String(b)) => {
                let (a, b): (Vec<&str>, Vec<&str>) =
                    (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
                zip((&a, s), (&b, t), &shape, |a, b| a == b)?
            }
            (TensorData::Bool(a), TensorData::Bool(b)) => zip((a, s), (b, t), &shape, |a, b| a == b)?,
            _ => return numbers(inputs, cancel),
        };
        one(shape, TensorData::Bool(data))
    }))
}

/// An operator on truth values.
fn logic(f: fn(bool, bool) -> bool) -> Op {
    Box::new(move |inputs, _| {
        let (a, b, shape) = pair(inputs)?;
        match (a.data(), b.data()) {
            (TensorData::Bool(v), TensorData::Bool(w)) => {
                let data = zip((v, a.shape()), (w, b.shape()), &shape, f)?;
                one(shape, TensorData::Bool(data))
            }
            _ => Err(no_kernel(a)),
        }
    })
}

/// `And`.
pub(super) fn and(_: &Source<'_>) -> Outcome<Op> {
    Ok(logic(|a, b| a && b))
}

/// `Or`.
pub(super) fn or(_: &Source<'_>) -> Outcome<Op> {
    Ok(logic(|a, b| a || b))
}

/// `Xor`.
pub(super) fn xor(_: &Source<'_>) -> Outcome<Op> {
    Ok(logic(|a, b| a != b))
}

/// `Not`.
pub(super) fn not(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let x = needed(inputs, 0)?;
        let TensorData::Bool(v) = x.data() else { return Err(no_kernel(x)) };
        one(x.shape().to_vec(), TensorData::Bool(v.iter().map(|x| !x).collect()))
    }))
}

/// `Where`, of elements of any type.
pub(super) fn choose(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let (condition, a, b) = (needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?);
        let TensorData::Bool(condition_data) = condition.data() else { return Err(no_kernel(condition)) };
        let shape = broadcast(&broadcast(condition.shape(), a.shape())?, b.shape())?;
        let at = |t: &Tensor| gather_offsets(&shape, &broadcast_steps(t.shape(), &shape), 0);
        let (c_at, a_at, b_at) = (at(condition)?, at(a)?, at(b)?);
        // Both sides behind one another, so that one list of positions chooses from them.
        let mut both = a.data().clone();
        if !both.append(b.data()) {
            return Err(no_kernel(b));
        }
        let offset = a.data().len();
        let pick = |i: usize| if condition_data[c_at[i]] { a_at[i] } else { offset + b_at[i] };
        let picks: Vec<usize> = (0..c_at.len()).map(pick).collect();
        one(shape, super::op::take(&both, &picks))
    }))
}
