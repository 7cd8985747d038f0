//! Operators on one tensor, element by element.

use weir_types::{Tensor, TensorData};

use super::op::{Op, Outcome, Source, input_error, needed, no_kernel, one, optional};

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
