//! One field's rules: whether they make sense for its type, and together.

use regex::RegexBuilder;
use weir_types::{DType, Rules, Scalar};

use crate::{FieldTable, report::Report};

/// Most bytes a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Most values of an `enum`: they are listed in every error and on the docs page.
const MAX_ENUM_VALUES: usize = 1000;

/// The field's rules; `path` is its place in `model.toml`.
pub(crate) fn rules(table: &FieldTable, dtype: DType, path: &str, report: &mut Report) -> Rules {
    check_applicable(table, dtype, path, report);
    check_bounds(table, path, report);
    check_pattern(table, path, report);
    Rules {
        ge: table.ge,
        gt: table.gt,
        le: table.le,
        lt: table.lt,
        one_of: one_of(table, dtype, path, report),
        min_length: table.min_length,
        max_length: table.max_length,
        pattern: table.pattern.clone(),
        allow_inf_nan: table.allow_inf_nan,
    }
}

fn check_applicable(table: &FieldTable, dtype: DType, path: &str, report: &mut Report) {
    let numeric = !matches!(dtype, DType::String | DType::Bool);
    let keys = [
        ("ge", table.ge.is_some(), numeric, "numbers"),
        ("gt", table.gt.is_some(), numeric, "numbers"),
        ("le", table.le.is_some(), numeric, "numbers"),
        ("lt", table.lt.is_some(), numeric, "numbers"),
        ("min_length", table.min_length.is_some(), dtype == DType::String, "strings"),
        ("max_length", table.max_length.is_some(), dtype == DType::String, "strings"),
        ("pattern", table.pattern.is_some(), dtype == DType::String, "strings"),
        ("allow_inf_nan", table.allow_inf_nan, dtype.is_float(), "floats"),
    ];
    for (key, given, applies, what) in keys {
        if given && !applies {
            let message = format!("`{key}` is a rule for {what}, field `{}` is {dtype}", table.name);
            report.at(&format!("{path}.{key}"), message);
        }
    }
}

fn check_bounds(table: &FieldTable, path: &str, report: &mut Report) {
    let bounds = [("ge", table.ge), ("gt", table.gt), ("le", table.le), ("lt", table.lt)];
    for (key, _) in bounds.iter().filter(|(_, bound)| bound.is_some_and(f64::is_nan)) {
        report.at(&format!("{path}.{key}"), format!("`{key}` cannot be nan: no value would pass"));
    }
    let low = table.ge.into_iter().chain(table.gt).fold(f64::NEG_INFINITY, f64::max);
    let high = table.le.into_iter().chain(table.lt).fold(f64::INFINITY, f64::min);
    let open = table.gt == Some(low) || table.lt == Some(high);
    if low > high || (low == high && open && low.is_finite()) {
        report.at(
            path,
            format!(
                "no value of field `{}` can pass: it would have to be both above {low} and below {high}",
                table.name
            ),
        );
    }
    if let (Some(min), Some(max)) = (table.min_length, table.max_length)
        && min > max
    {
        report
            .at(&format!("{path}.min_length"), format!("`min_length` {min} is more than `max_length` {max}"));
    }
}

fn check_pattern(table: &FieldTable, path: &str, report: &mut Report) {
    let Some(pattern) = &table.pattern else { return };
    if let Err(error) = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        report.at(&format!("{path}.pattern"), format!("`pattern` is no regular expression: {reason}"));
    }
}

fn one_of(table: &FieldTable, dtype: DType, path: &str, report: &mut Report) -> Option<Vec<Scalar>> {
    let values = table.one_of.as_ref()?;
    let path = format!("{path}.enum");
    if values.is_empty() || values.len() > MAX_ENUM_VALUES {
        report.at(&path, format!("`enum` takes 1 to {MAX_ENUM_VALUES} values, got {}", values.len()));
    }
    let fit = |(i, v): (usize, &Scalar)| report.keep(&format!("{path}[{i}]"), scalar(v, dtype));
    Some(values.iter().enumerate().filter_map(fit).collect())
}

/// The value as one of `dtype`.
///
/// # Errors
/// A sentence where it is none.
pub(crate) fn scalar(value: &Scalar, dtype: DType) -> Result<Scalar, String> {
    let wrong = |got: String| Err(format!("{got} is no {dtype}"));
    match value {
        Scalar::Bool(b) if dtype == DType::Bool => Ok(Scalar::Bool(*b)),
        Scalar::Bool(b) => wrong(b.to_string()),
        Scalar::String(s) if dtype == DType::String => Ok(Scalar::String(s.clone())),
        Scalar::String(s) => wrong(format!("{s:?}")),
        Scalar::Float(f) if dtype.is_float() => Ok(Scalar::Float(*f)),
        Scalar::Float(f) => wrong(f.to_string()),
        Scalar::Int(i) if dtype.is_float() => Ok(Scalar::Float(*i as f64)),
        Scalar::Int(i) => match dtype.int_bounds() {
            Some((low, high)) if (low..=high).contains(&i128::from(*i)) => Ok(Scalar::Int(*i)),
            _ => wrong(i.to_string()),
        },
    }
}

/// Why the value breaks the rules, if it does. The pattern was checked before, one that
/// does not compile breaks nothing here.
pub(crate) fn broken(value: &Scalar, rules: &Rules) -> Option<String> {
    if rules.one_of.as_ref().is_some_and(|all| !all.contains(value)) {
        return Some("it is not in `enum`".into());
    }
    match value {
        Scalar::Int(i) => broken_bound(*i as f64, rules),
        Scalar::Float(f) if !f.is_finite() && !rules.allow_inf_nan => {
            Some("it is not finite and `allow_inf_nan` is false".into())
        }
        Scalar::Float(f) => broken_bound(*f, rules),
        Scalar::String(s) => broken_text(s, rules),
        Scalar::Bool(_) => None,
    }
}

fn broken_bound(n: f64, rules: &Rules) -> Option<String> {
    let bounds = [
        ("ge", rules.ge, rules.ge.is_none_or(|b| n >= b)),
        ("gt", rules.gt, rules.gt.is_none_or(|b| n > b)),
        ("le", rules.le, rules.le.is_none_or(|b| n <= b)),
        ("lt", rules.lt, rules.lt.is_none_or(|b| n < b)),
    ];
    let first = bounds.into_iter().find(|(_, _, holds)| !holds && !n.is_nan())?;
    Some(format!("it breaks `{} = {}`", first.0, first.1?))
}

fn broken_text(text: &str, rules: &Rules) -> Option<String> {
    let length = text.chars().count();
    if let Some(min) = rules.min_length.filter(|&min| length < min) {
        return Some(format!("it has {length} characters, `min_length` is {min}"));
    }
    if let Some(max) = rules.max_length.filter(|&max| length > max) {
        return Some(format!("it has {length} characters, `max_length` is {max}"));
    }
    let pattern = RegexBuilder::new(rules.pattern.as_deref()?).size_limit(MAX_PATTERN_BYTES).build().ok()?;
    (!pattern.is_match(text)).then(|| "it does not match `pattern`".into())
}
