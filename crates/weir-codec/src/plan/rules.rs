//! A field's rules, compiled.

use std::collections::HashSet;

use regex::Regex;
use weir_types::{DType, Field, Rules, Scalar};

use crate::{CodecError, error::ContextValue, number, sink::Cell};

/// Type and limits of one value.
#[derive(Debug)]
pub(crate) enum Check {
    Float(FloatRules),
    Int(IntRules),
    Bool,
    Text(TextRules),
}

/// Limits of a float, in Pydantic's order of checking.
#[derive(Debug)]
pub(crate) struct FloatRules {
    pub(crate) allow_inf_nan: bool,
    pub(crate) le: Option<f64>,
    pub(crate) lt: Option<f64>,
    pub(crate) ge: Option<f64>,
    pub(crate) gt: Option<f64>,
    /// The largest magnitude that does not become infinite in the field's dtype.
    pub(crate) widest: f64,
    /// The dtype's largest finite value: what the error names.
    pub(crate) dtype_max: f64,
    /// All of the above as one closed interval: the good path's whole check.
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One bound of an integer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    /// The last integer that satisfies it.
    pub(crate) last: i128,
    /// The bound as configured, for the error.
    pub(crate) shown: ContextValue,
}

/// Limits of an integer, its dtype's own among them.
#[derive(Debug)]
pub(crate) struct IntRules {
    pub(crate) le: Option<Limit>,
    pub(crate) lt: Option<Limit>,
    pub(crate) ge: Option<Limit>,
    pub(crate) gt: Option<Limit>,
    pub(crate) min: i128,
    pub(crate) max: i128,
}

/// Limits of a string.
#[derive(Debug)]
pub(crate) struct TextRules {
    pub(crate) min_length: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) pattern: Option<Regex>,
}

/// Which limit a string breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFault {
    /// Fewer characters than this.
    TooShort(usize),
    /// More characters than this.
    TooLong(usize),
    /// The pattern is not found in it.
    Pattern,
}

impl TextRules {
    /// Whether any string passes.
    pub(crate) fn is_free(&self) -> bool {
        self.min_length.is_none() && self.max_length.is_none() && self.pattern.is_none()
    }

    /// The first limit that `text` breaks, in Pydantic's order.
    pub(crate) fn broken_by(&self, text: &str) -> Option<TextFault> {
        if self.min_length.is_some() || self.max_length.is_some() {
            let length = text.chars().count();
            if let Some(min) = self.min_length.filter(|&min| length < min) {
                return Some(TextFault::TooShort(min));
            }
            if let Some(max) = self.max_length.filter(|&max| length > max) {
                return Some(TextFault::TooLong(max));
            }
        }
        self.pattern.as_ref().filter(|p| !p.is_match(text)).map(|_| TextFault::Pattern)
    }
}

/// Allowed values.
#[derive(Debug)]
pub(crate) struct OneOf {
    values: Values,
    /// `'a', 'b' or 'c'`, as Python would print them.
    pub(crate) expected: String,
}

#[derive(Debug)]
enum Values {
    Float(Vec<f64>),
    Int(HashSet<i128>),
    Bool(Vec<bool>),
    Text(HashSet<String>),
}

impl OneOf {
    pub(crate) fn has_float(&self, x: f64) -> bool {
        matches!(&self.values, Values::Float(all) if all.contains(&x))
    }

    pub(crate) fn has_int(&self, n: i128) -> bool {
        matches!(&self.values, Values::Int(all) if all.contains(&n))
    }

    pub(crate) fn has_bool(&self, b: bool) -> bool {
        matches!(&self.values, Values::Bool(all) if all.contains(&b))
    }

    pub(crate) fn has_text(&self, text: &str) -> bool {
        matches!(&self.values, Values::Text(all) if all.contains(text))
    }
}

pub(crate) fn check(f: &Field) -> Result<Check, CodecError> {
    Ok(match f.dtype {
        DType::Bool => Check::Bool,
        DType::String => Check::Text(text(f)?),
        dtype => match dtype.int_bounds() {
            Some(bounds) => Check::Int(int(&f.rules, bounds)),
            None => Check::Float(float(&f.rules, dtype)),
        },
    })
}

fn text(f: &Field) -> Result<TextRules, CodecError> {
    let compile = |pattern: &String| {
        Regex::new(pattern).map_err(|why| CodecError::Pattern {
            field: f.name.clone(),
            pattern: pattern.clone(),
            why: why.to_string(),
        })
    };
    let pattern = f.rules.pattern.as_ref().map(compile).transpose()?;
    Ok(TextRules { min_length: f.rules.min_length, max_length: f.rules.max_length, pattern })
}

fn float(rules: &Rules, dtype: DType) -> FloatRules {
    let (widest, dtype_max) = number::float_range(dtype);
    let upper = [rules.le, rules.lt.map(f64::next_down)];
    let lower = [rules.ge, rules.gt.map(f64::next_up)];
    FloatRules {
        allow_inf_nan: rules.allow_inf_nan,
        le: rules.le,
        lt: rules.lt,
        ge: rules.ge,
        gt: rules.gt,
        widest,
        dtype_max,
        min: lower.into_iter().flatten().fold(-widest, f64::max),
        max: upper.into_iter().flatten().fold(widest, f64::min),
    }
}

fn int(rules: &Rules, (least, most): (i128, i128)) -> IntRules {
    // A float beyond i128 saturates in the cast, and NaN becomes 0: neither is a bound that
    // a configuration can hold (`weir-config` refuses NaN).
    let limit = |bound: f64, last: i128| Limit { last, shown: shown(bound) };
    let le = rules.le.map(|b| limit(b, b.floor() as i128));
    let lt = rules.lt.map(|b| limit(b, (b.ceil() as i128).saturating_sub(1)));
    let ge = rules.ge.map(|b| limit(b, b.ceil() as i128));
    let gt = rules.gt.map(|b| limit(b, (b.floor() as i128).saturating_add(1)));
    let max = [&le, &lt].into_iter().flatten().map(|l| l.last).fold(most, i128::min);
    let min = [&ge, &gt].into_iter().flatten().map(|l| l.last).fold(least, i128::max);
    // The dtype's own range is told as `le` and `ge`, where the operator's is not narrower.
    let own = |n: i128| Some(Limit { last: n, shown: ContextValue::Int(n) });
    let within =
        |l: &Option<Limit>, ok: fn(i128, i128) -> bool, edge| l.as_ref().is_some_and(|l| ok(l.last, edge));
    let upper = within(&le, |a, b| a <= b, most) || within(&lt, |a, b| a <= b, most);
    let lower = within(&ge, |a, b| a >= b, least) || within(&gt, |a, b| a >= b, least);
    IntRules {
        le: if upper { le } else { own(most) },
        lt,
        ge: if lower { ge } else { own(least) },
        gt,
        min,
        max,
    }
}

/// A bound of an integer field: a whole number where it is one, as Pydantic has it.
fn shown(bound: f64) -> ContextValue {
    if bound.fract() == 0.0 && bound.abs() < 1e18 {
        ContextValue::Int(bound as i128)
    } else {
        ContextValue::Float(bound)
    }
}

/// The cell that a configured value is, if it is one of the field's dtype.
pub(crate) fn cell(value: &Scalar, dtype: DType) -> Option<Cell> {
    match (value, dtype) {
        (Scalar::Bool(b), DType::Bool) => Some(Cell::Bool(*b)),
        (Scalar::String(s), DType::String) => Some(Cell::Text(s.clone())),
        (Scalar::Int(n), _) if dtype.is_float() => Some(Cell::Float(*n as f64)),
        (Scalar::Float(x), _) if dtype.is_float() => {
            (!x.is_finite() || x.abs() <= number::float_range(dtype).0).then_some(Cell::Float(*x))
        }
        (Scalar::Int(n), _) => {
            let n = i128::from(*n);
            dtype.int_bounds().filter(|&(least, most)| (least..=most).contains(&n)).map(|_| Cell::Int(n))
        }
        _ => None,
    }
}

fn misfit(f: &Field, what: &'static str, value: &Scalar) -> CodecError {
    CodecError::Value { field: f.name.clone(), what, value: number::python_repr(value), dtype: f.dtype }
}

pub(crate) fn default(f: &Field) -> Result<Option<Cell>, CodecError> {
    let convert = |value| cell(value, f.dtype).ok_or_else(|| misfit(f, "default", value));
    f.default.as_ref().map(convert).transpose()
}

pub(crate) fn one_of(f: &Field) -> Result<Option<OneOf>, CodecError> {
    let Some(values) = &f.rules.one_of else { return Ok(None) };
    let convert = |value| cell(value, f.dtype).ok_or_else(|| misfit(f, "enum value", value));
    let cells = values.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
    let shown: Vec<_> = values.iter().map(|v| shown_value(v, f.dtype)).collect();
    let Some((last, rest)) = shown.split_last() else { return Err(CodecError::EmptyEnum(f.name.clone())) };
    let expected = if rest.is_empty() { last.clone() } else { format!("{} or {last}", rest.join(", ")) };
    Ok(Some(OneOf { values: collect(cells), expected }))
}

/// An allowed value as Python prints it; a whole number of a float field is a float.
fn shown_value(value: &Scalar, dtype: DType) -> String {
    match value {
        Scalar::Int(n) if dtype.is_float() => number::python_repr(&Scalar::Float(*n as f64)),
        other => number::python_repr(other),
    }
}

/// Cells of one dtype as a set. `cell` has seen to it that they are of one kind.
fn collect(cells: Vec<Cell>) -> Values {
    let (mut floats, mut ints, mut bools, mut texts) =
        (Vec::new(), HashSet::new(), Vec::new(), HashSet::new());
    for cell in cells {
        match cell {
            Cell::Float(x) => floats.push(x),
            Cell::Int(n) => drop(ints.insert(n)),
            Cell::Bool(b) => bools.push(b),
            Cell::Text(s) => drop(texts.insert(s)),
        }
    }
    if !floats.is_empty() {
        Values::Float(floats)
    } else if !ints.is_empty() {
        Values::Int(ints)
    } else if !bools.is_empty() {
        Values::Bool(bools)
    } else {
        Values::Text(texts)
    }
}
