//! Operators on elements, with numpy's broadcasting.

use weir_types::{Tensor, TensorData};

use super::op::{
    Inputs, Op, Outcome, Source, broadcast, broadcast_steps, count, gather_offsets, input_error, needed,
    no_kernel, one, optional, tensor,
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
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // the answer has the base's type
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
#[allow(clippy::cast_precision_loss)] // exponents beyond 2^53 do not matter
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

/// A function of one float.
macro_rules! unary {
    ($(#[$doc:meta])* $name:ident, $single:expr, $double:expr) => {
        $(#[$doc])*
        pub(super) fn $name(_: &Source<'_>) -> Outcome<Op> {
            Ok(Box::new(|inputs, _| {
                let x = needed(inputs, 0)?;
                let data = match x.data() {
                    TensorData::Float32(v) => TensorData::Float32(v.iter().map(|&x| ($single)(x)).collect()),
                    TensorData::Float64(v) => TensorData::Float64(v.iter().map(|&x| ($double)(x)).collect()),
                    _ => return Err(no_kernel(x)),
                };
                one(x.shape().to_vec(), data)
            }))
        }
    };
}
unary!(/// `Sqrt`.
    sqrt, f32::sqrt, f64::sqrt);
unary!(/// `Exp`.
    exp, f32::exp, f64::exp);
unary!(/// `Log`.
    log, f32::ln, f64::ln);
unary!(/// `Tanh`.
    tanh, f32::tanh, f64::tanh);
unary!(/// `Sin`.
    sin, f32::sin, f64::sin);
unary!(/// `Cos`.
    cos, f32::cos, f64::cos);
unary!(/// `Floor`.
    floor, f32::floor, f64::floor);
unary!(/// `Ceil`.
    ceil, f32::ceil, f64::ceil);
unary!(/// `Round`, halves to even.
    round, f32::round_ties_even, f64::round_ties_even);
unary!(/// `Reciprocal`.
    reciprocal, |x: f32| 1.0 / x, |x: f64| 1.0 / x);
unary!(/// `Sigmoid`.
    sigmoid, super::post::logistic, |x: f64| 1.0 / (1.0 + (-x).exp()));
unary!(/// `Softplus`.
    softplus, |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p(), |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p());
unary!(/// `Erf`.
    erf, |x: f32| erf_of(x.into()) as f32, erf_of);

/// The error function to about 1e-15: its Maclaurin series near 0, Lentz's continued
/// fraction of the complement beyond (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erf_of(x: f64) -> f64 {
    let z = x.abs();
    if z.is_nan() || z > 6.0 {
        return if z.is_nan() { z } else { x.signum() };
    }
    let value = if z < 2.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..80 {
            term *= 2.0 * z * z / f64::from(2 * n + 1);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp() * sum
    } else {
        let tail = (1..60).rev().fold(0.0, |tail, n| f64::from(n) / 2.0 / (z + tail));
        1.0 - (-z * z).exp() / ((z + tail) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

/// A function of one number, for integers as well.
macro_rules! unary_number {
    ($(#[$doc:meta])* $name:ident, $x:ident => $float:expr, $int:expr) => {
        $(#[$doc])*
        pub(super) fn $name(_: &Source<'_>) -> Outcome<Op> {
            Ok(Box::new(|inputs, _| {
                let x = needed(inputs, 0)?;
                let data = match x.data() {
                    TensorData::Float32(v) => TensorData::Float32(v.iter().map(|&$x| $float).collect()),
                    TensorData::Float64(v) => TensorData::Float64(v.iter().map(|&$x| $float).collect()),
                    TensorData::Int64(v) => TensorData::Int64(v.iter().map(|&$x| $int).collect()),
                    TensorData::Int32(v) => TensorData::Int32(v.iter().map(|&$x| $int).collect()),
                    _ => return Err(no_kernel(x)),
                };
                one(x.shape().to_vec(), data)
            }))
        }
    };
}
unary_number!(/// `Abs`.
    abs, x => x.abs(), x.wrapping_abs());
unary_number!(/// `Neg`.
    neg, x => -x, x.wrapping_neg());
unary_number!(/// `Relu`; NaN stays.
    relu, x => if x < 0.0 { 0.0 } else { x }, x.max(0));
unary_number!(/// `Sign`; NaN stays, as in numpy.
    sign, x => if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x * 0.0 }, x.signum());

/// `IsNaN`.
pub(super) fn is_nan(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, _| {
        let x = needed(inputs, 0)?;
        let data = match x.data() {
            TensorData::Float32(v) => v.iter().map(|x| x.is_nan()).collect(),
            TensorData::Float64(v) => v.iter().map(|x| x.is_nan()).collect(),
            _ => return Err(no_kernel(x)),
        };
        one(x.shape().to_vec(), TensorData::Bool(data))
    }))
}

/// `IsInf`, of either sign or both.
pub(super) fn is_inf(source: &Source<'_>) -> Outcome<Op> {
    let counts = |name: &str| source.node.int(name).unwrap_or(1) != 0;
    let (negative, positive) = (counts("detect_negative"), counts("detect_positive"));
    let found = move |x: f64| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY);
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let data = match x.data() {
            TensorData::Float32(v) => v.iter().map(|&x| found(x.into())).collect(),
            TensorData::Float64(v) => v.iter().map(|&x| found(x)).collect(),
            _ => return Err(no_kernel(x)),
        };
        one(x.shape().to_vec(), TensorData::Bool(data))
    }))
}

/// `Clip`; bounds are attributes before opset 11, inputs since. NaN stays.
pub(super) fn clip(source: &Source<'_>) -> Outcome<Op> {
    let (low, high) = (source.node.float("min"), source.node.float("max"));
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let bounds = (optional(inputs, 1), optional(inputs, 2));
        macro_rules! clipped {
            ($variant:ident, $v:expr, $low:expr, $high:expr) => {{
                let bound = |t: Option<&Tensor>| match t.map(Tensor::data) {
                    None => Ok(None),
                    Some(TensorData::$variant(b)) if b.len() == 1 => Ok(Some(b[0])),
                    Some(_) => Err(input_error("a bound of Clip is not one number of the input's type")),
                };
                let (low, high) = (bound(bounds.0)?.or($low), bound(bounds.1)?.or($high));
                let clip = |&x: &_| {
                    let x = if low.is_some_and(|low| x < low) { low.unwrap_or(x) } else { x };
                    if high.is_some_and(|high| x > high) { high.unwrap_or(x) } else { x }
                };
                TensorData::$variant($v.iter().map(clip).collect())
            }};
        }
        let data = match x.data() {
            TensorData::Float32(v) => clipped!(Float32, v, low, high),
            TensorData::Float64(v) => clipped!(Float64, v, low.map(f64::from), high.map(f64::from)),
            TensorData::Int64(v) => clipped!(Int64, v, None, None),
            TensorData::Int32(v) => clipped!(Int32, v, None, None),
            _ => return Err(no_kernel(x)),
        };
        one(x.shape().to_vec(), data)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_exact_to_1e_14() {
        // Values of the Digital Library of Mathematical Functions, table 7.
        let known =
            [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (2.0, 0.995_322_265_018_952_7)];
        for (x, y) in known.into_iter().chain([(3.0, 0.999_977_909_503_001_4), (0.0, 0.0)]) {
            assert!((erf_of(x) - y).abs() < 1e-14, "erf({x}) = {}", erf_of(x));
            assert_eq!(erf_of(-x), -erf_of(x));
        }
        assert!(erf_of(f64::NAN).is_nan());
        assert_eq!((erf_of(f64::INFINITY), erf_of(-30.0)), (1.0, -1.0));
    }
}
