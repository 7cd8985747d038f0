//! One value against its field's type and rules, as Pydantic's core does it
//! (`pydantic-core/src/input/input_python.rs` and `validators/`): FastAPI hands it what
//! Python's `json` module read.

use weir_types::Scalar;

use super::{
    doc::{Doc, Kind, NodeId},
    report::Fault,
};
use crate::{
    ContextValue,
    number::{self, Int, IntTextError},
    plan::{Check, FieldPlan, FloatRules, IntRules, Limit, OneOf, TextFault, TextRules},
    sink::Cell,
};

/// A value that passed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Checked {
    /// The value.
    Cell(Cell),
    /// `null` of a nullable field.
    Missing,
}

/// What JSON, or a query string, offers for a value.
enum Given<'a> {
    Null,
    Bool(bool),
    Int(&'a str),
    Float(f64),
    /// The flag says that a lone surrogate is in it.
    Text(&'a str, bool),
    Other,
}

/// Checks the value at `node`.
pub(super) fn check(doc: &Doc<'_>, field: &FieldPlan, strict: bool, node: NodeId) -> Result<Checked, Fault> {
    let text;
    let given = match doc.kind(node) {
        Kind::Null => Given::Null,
        Kind::True => Given::Bool(true),
        Kind::False => Given::Bool(false),
        Kind::Int => Given::Int(doc.raw(node)),
        Kind::Float => Given::Float(doc.raw(node).parse().unwrap_or(f64::NAN)),
        Kind::Nan => Given::Float(f64::NAN),
        Kind::Infinity => Given::Float(f64::INFINITY),
        Kind::MinusInfinity => Given::Float(f64::NEG_INFINITY),
        Kind::Plain | Kind::Escaped => {
            text = doc.string(node);
            Given::Text(&text.chars, text.lone)
        }
        Kind::List | Kind::Object => Given::Other,
    };
    check_given(field, strict, &given)
}

/// Checks a value that came as text, in a query string.
pub(crate) fn check_text(field: &FieldPlan, text: &str) -> Result<Checked, Fault> {
    check_given(field, false, &Given::Text(text, false))
}

/// Checks a value that the server has, by the rules for one in a body.
pub(crate) fn check_scalar(field: &FieldPlan, value: &Scalar) -> Result<Checked, Fault> {
    let digits;
    let given = match value {
        Scalar::Bool(b) => Given::Bool(*b),
        Scalar::Int(n) => {
            digits = n.to_string();
            Given::Int(&digits)
        }
        Scalar::Float(x) => Given::Float(*x),
        Scalar::String(text) => Given::Text(text, false),
    };
    check_given(field, false, &given)
}

fn check_given(field: &FieldPlan, strict: bool, given: &Given<'_>) -> Result<Checked, Fault> {
    if field.nullable && matches!(given, Given::Null) {
        return Ok(Checked::Missing);
    }
    let one_of = field.one_of.as_ref();
    let cell = match &field.check {
        Check::Float(rules) => {
            let x = allowed(one_of, float(given, strict), |all, &x| all.has_float(x))?;
            Cell::Float(float_rules(rules, x)?)
        }
        Check::Int(rules) => {
            let n = int(given, strict);
            // Pydantic looks its members up by 64 bits.
            if one_of.is_some()
                && matches!(n, Ok(n) if n.exceeds(i64::MAX.into()) || n.falls_below(i64::MIN.into()))
            {
                return Err(int_size());
            }
            let n = allowed(one_of, n, |all, &n| matches!(n, Int::Exact(n) if all.has_int(n)))?;
            Cell::Int(int_rules(rules, n)?)
        }
        Check::Bool => Cell::Bool(allowed(one_of, boolean(given, strict), |all, &b| all.has_bool(b))?),
        Check::Text(rules) => {
            // Half a surrogate pair is a string to Pydantic until something looks into it.
            let looked_into = one_of.is_some() || !rules.is_free();
            if looked_into && matches!(given, Given::Text(_, true)) {
                return Err(unicode());
            }
            let text = allowed(one_of, string(given), |all, text| all.has_text(text))?;
            text_rules(rules, text)?;
            Cell::Text(text.to_owned())
        }
    };
    Ok(Checked::Cell(cell))
}

/// Whatever is wrong with the value of an enumeration, Pydantic says one thing.
fn allowed<T>(
    one_of: Option<&OneOf>,
    value: Result<T, Fault>,
    has: impl FnOnce(&OneOf, &T) -> bool,
) -> Result<T, Fault> {
    let Some(all) = one_of else { return value };
    match value {
        Ok(value) if has(all, &value) => Ok(value),
        _ => Err(Fault {
            kind: "enum",
            msg: format!("Input should be {}", all.expected),
            ctx: Some(vec![("expected", ContextValue::Text(all.expected.clone().into()))]),
        }),
    }
}

fn unicode() -> Fault {
    Fault::plain(
        "string_unicode",
        "Input should be a valid string, unable to parse raw data as a unicode string",
    )
}

fn float(given: &Given<'_>, strict: bool) -> Result<f64, Fault> {
    let wrong_type = || Err(Fault::plain("float_type", "Input should be a valid number"));
    match given {
        Given::Float(x) => Ok(*x),
        Given::Int(digits) => match digits.parse::<f64>() {
            // An integer beyond double is no float to Python; its zero has no sign.
            Ok(x) if x.is_finite() => Ok(x + 0.0),
            _ => wrong_type(),
        },
        Given::Bool(b) if !strict => Ok(f64::from(u8::from(*b))),
        Given::Text(_, true) if !strict => Err(unicode()),
        Given::Text(text, _) if !strict => number::float_from_text(text).ok_or_else(|| {
            Fault::plain(
                "float_parsing",
                "Input should be a valid number, unable to parse string as a number",
            )
        }),
        _ => wrong_type(),
    }
}

fn float_rules(rules: &FloatRules, x: f64) -> Result<f64, Fault> {
    if !rules.allow_inf_nan && !x.is_finite() {
        return Err(not_finite());
    }
    let bound = |holds: bool, kind, words, key, bound: f64| {
        if holds { Ok(()) } else { Err(Fault::bound(kind, words, key, ContextValue::Float(bound))) }
    };
    // Asked this way round, every bound is broken by NaN.
    if let Some(le) = rules.le {
        bound(x <= le, "less_than_equal", "less than or equal to", "le", le)?;
    }
    if let Some(lt) = rules.lt {
        bound(x < lt, "less_than", "less than", "lt", lt)?;
    }
    if let Some(ge) = rules.ge {
        bound(x >= ge, "greater_than_equal", "greater than or equal to", "ge", ge)?;
    }
    if let Some(gt) = rules.gt {
        bound(x > gt, "greater_than", "greater than", "gt", gt)?;
    }
    // A finite number must not become infinite in a narrower type.
    if x.is_finite() {
        let most = rules.dtype_max;
        bound(x <= rules.widest, "less_than_equal", "less than or equal to", "le", most)?;
        bound(x >= -rules.widest, "greater_than_equal", "greater than or equal to", "ge", -most)?;
    }
    Ok(x)
}

fn not_finite() -> Fault {
    Fault::plain("finite_number", "Input should be a finite number")
}

fn int_size() -> Fault {
    Fault::plain("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size")
}

fn int(given: &Given<'_>, strict: bool) -> Result<Int, Fault> {
    match given {
        Given::Int(digits) => Ok(Int::from_digits(digits)),
        Given::Bool(b) if !strict => Ok(Int::Exact(i128::from(*b))),
        Given::Float(x) if !strict => int_from_float(*x).map(Int::Exact),
        Given::Text(_, true) if !strict => Err(unicode()),
        Given::Text(text, _) if !strict => number::int_from_text(text).map_err(|why| match why {
            IntTextError::Size => int_size(),
            IntTextError::Form => Fault::plain(
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
            ),
        }),
        _ => Err(Fault::plain("int_type", "Input should be a valid integer")),
    }
}

/// Pydantic takes whole floats strictly within the range of `i64`.
fn int_from_float(x: f64) -> Result<i128, Fault> {
    if !x.is_finite() {
        return Err(not_finite());
    }
    if x.fract() != 0.0 {
        return Err(Fault::plain(
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
        ));
    }
    if (i64::MIN as f64) < x && x < (i64::MAX as f64) { Ok(x as i128) } else { Err(int_size()) }
}

fn int_rules(rules: &IntRules, n: Int) -> Result<i128, Fault> {
    let above = |limit: &Option<Limit>| limit.clone().filter(|l| n.exceeds(l.last));
    let below = |limit: &Option<Limit>| limit.clone().filter(|l| n.falls_below(l.last));
    if let Some(limit) = above(&rules.le) {
        return Err(Fault::bound("less_than_equal", "less than or equal to", "le", limit.shown));
    }
    if let Some(limit) = above(&rules.lt) {
        return Err(Fault::bound("less_than", "less than", "lt", limit.shown));
    }
    if let Some(limit) = below(&rules.ge) {
        return Err(Fault::bound("greater_than_equal", "greater than or equal to", "ge", limit.shown));
    }
    if let Some(limit) = below(&rules.gt) {
        return Err(Fault::bound("greater_than", "greater than", "gt", limit.shown));
    }
    match n {
        Int::Exact(n) => Ok(n),
        // Not reached: the dtype's own range is among the rules.
        Int::Huge { .. } => Err(int_size()),
    }
}

fn boolean(given: &Given<'_>, strict: bool) -> Result<bool, Fault> {
    let wrong_type = || Err(Fault::plain("bool_type", "Input should be a valid boolean"));
    let unreadable =
        || Err(Fault::plain("bool_parsing", "Input should be a valid boolean, unable to interpret input"));
    let number = |n: i64| match n {
        0 => Ok(false),
        1 => Ok(true),
        _ => unreadable(),
    };
    match given {
        Given::Bool(b) => Ok(*b),
        _ if strict => wrong_type(),
        Given::Int(digits) => digits.parse().map_or_else(|_| wrong_type(), number),
        Given::Float(x) => int_from_float(*x).map_or_else(|_| wrong_type(), |n| number(n as i64)),
        Given::Text(_, true) => Err(unicode()),
        Given::Text(text, _) => match text.to_ascii_lowercase().as_str() {
            "0" | "f" | "n" | "no" | "off" | "false" => Ok(false),
            "1" | "t" | "y" | "on" | "yes" | "true" => Ok(true),
            _ => unreadable(),
        },
        _ => wrong_type(),
    }
}

/// The string itself: no other type becomes one.
fn string<'a>(given: &Given<'a>) -> Result<&'a str, Fault> {
    match given {
        Given::Text(text, _) => Ok(text),
        _ => Err(Fault::plain("string_type", "Input should be a valid string")),
    }
}

fn text_rules(rules: &TextRules, text: &str) -> Result<(), Fault> {
    let length = |kind, words, key, bound: usize| Fault {
        kind,
        msg: format!("String should have {words} {bound} character{}", if bound == 1 { "" } else { "s" }),
        ctx: Some(vec![(key, ContextValue::Int(bound as i128))]),
    };
    match rules.broken_by(text) {
        None => Ok(()),
        Some(TextFault::TooShort(min)) => Err(length("string_too_short", "at least", "min_length", min)),
        Some(TextFault::TooLong(max)) => Err(length("string_too_long", "at most", "max_length", max)),
        Some(TextFault::Pattern) => {
            let pattern = rules.pattern.as_ref().map(ToString::to_string).unwrap_or_default();
            Err(Fault {
                kind: "string_pattern_mismatch",
                msg: format!("String should match pattern '{pattern}'"),
                ctx: Some(vec![("pattern", ContextValue::Text(pattern.into()))]),
            })
        }
    }
}
