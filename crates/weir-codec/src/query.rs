//! Query and path parameters of routes that have no model behind them, by FastAPI's rules.

use std::borrow::Cow;

use weir_types::{DType, Field, Rules, Scalar};

use crate::{
    CodecError, DecodeLimits, Echo, FieldError, Loc,
    full::{Checked, Fault, check_text, echo_text},
    number,
    plan::FieldPlan,
    sink::Cell,
};

/// A declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryParam {
    /// The key.
    pub name: String,
    /// Type of the value.
    pub dtype: DType,
    /// Whether it must be there.
    pub required: bool,
    /// The value when it is absent and not required; the empty text without one.
    pub default: Option<Scalar>,
    /// Limits on the value.
    pub rules: Rules,
}

/// Validates the parameters of a request by their declaration.
#[derive(Debug)]
pub struct QueryDecoder {
    place: &'static str,
    params: Vec<QueryParam>,
    plans: Vec<FieldPlan>,
    limits: DecodeLimits,
}

/// Validated parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryValues(Vec<(String, Option<Scalar>)>);

impl QueryValues {
    /// The value of `name`; `None` if it is absent and has no default.
    pub fn get(&self, name: &str) -> Option<&Scalar> {
        self.0.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.as_ref())
    }

    /// The value of a declared parameter as Python's `str` would show it, for templates; the
    /// empty text if it is absent. `None` if no parameter is called that.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(match value {
            None => Cow::Borrowed(""),
            Some(Scalar::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(number::python_repr(other)),
        })
    }

    /// Names and values in declared order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Scalar>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }
}

impl QueryDecoder {
    /// Prepares a decoder of query strings (`loc` begins with `query`).
    ///
    /// # Errors
    /// [`CodecError`] for a pattern that is none, or a value of another type than its
    /// parameter.
    pub fn new(params: Vec<QueryParam>, limits: DecodeLimits) -> Result<Self, CodecError> {
        Self::at("query", params, limits)
    }

    /// Prepares a decoder of path parameters (`loc` begins with `path`), for
    /// [`decode_pairs`](Self::decode_pairs).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn path(params: Vec<QueryParam>, limits: DecodeLimits) -> Result<Self, CodecError> {
        Self::at("path", params, limits)
    }

    fn at(place: &'static str, params: Vec<QueryParam>, limits: DecodeLimits) -> Result<Self, CodecError> {
        let plans = params.iter().map(plan).collect::<Result<_, _>>()?;
        Ok(Self { place, params, plans, limits })
    }

    /// The declared parameters.
    pub fn params(&self) -> &[QueryParam] {
        &self.params
    }

    /// Validates a query string (without the `?`).
    ///
    /// # Errors
    /// Everything that is wrong, in declared order. `input` of a missing parameter is null.
    pub fn decode(&self, query: &str) -> Result<QueryValues, Vec<FieldError>> {
        self.decode_pairs(&pairs(query))
    }

    /// Validates decoded pairs. Of a repeated name the last counts; names that are not
    /// declared are ignored.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_pairs<N: AsRef<str>, V: AsRef<str>>(
        &self,
        pairs: &[(N, V)],
    ) -> Result<QueryValues, Vec<FieldError>> {
        let mut values = QueryValues::default();
        let mut errors = Vec::new();
        for (param, plan) in self.params.iter().zip(&self.plans) {
            let given = pairs.iter().rev().find(|(n, _)| n.as_ref() == param.name).map(|(_, v)| v.as_ref());
            match self.value(param, plan, given) {
                Ok(value) => values.0.push((param.name.clone(), value)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    fn value(
        &self,
        param: &QueryParam,
        plan: &FieldPlan,
        given: Option<&str>,
    ) -> Result<Option<Scalar>, FieldError> {
        let Some(text) = given else {
            return if param.required {
                Err(self.error(param, Fault::plain("missing", "Field required"), Echo::null()))
            } else {
                Ok(param.default.clone())
            };
        };
        match check_text(plan, text) {
            Ok(Checked::Cell(cell)) => Ok(Some(scalar(cell))),
            Ok(Checked::Missing) => Ok(None),
            Err(fault) => Err(self.error(param, fault, echo_text(text, self.limits.max_echo_bytes))),
        }
    }

    fn error(&self, param: &QueryParam, fault: Fault, input: Echo) -> FieldError {
        let Fault { kind, msg, ctx } = fault;
        let loc = vec![Loc::Key(self.place.into()), Loc::Key(param.name.clone().into())];
        FieldError { kind, loc, msg, input, ctx }
    }
}

fn plan(param: &QueryParam) -> Result<FieldPlan, CodecError> {
    let mut field = Field::new(param.name.clone(), param.dtype, 0, 0);
    field.rules = param.rules.clone();
    field.default = param.default.clone();
    if param.dtype == DType::Uint64 {
        // A scalar holds 64 bits with a sign.
        let most = i64::MAX as f64;
        field.rules.lt = Some(field.rules.lt.map_or(most, |lt| lt.min(most)));
    }
    FieldPlan::standalone(&field)
}

fn scalar(cell: Cell) -> Scalar {
    match cell {
        Cell::Float(x) => Scalar::Float(x),
        Cell::Int(n) => Scalar::Int(i64::try_from(n).unwrap_or(i64::MAX)),
        Cell::Bool(b) => Scalar::Bool(b),
        Cell::Text(text) => Scalar::String(text),
    }
}

/// Splits a query string as Python's `parse_qsl` with `keep_blank_values` does: at `&` only,
/// a name without `=` has the empty text.
fn pairs(query: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

/// `+` is a space, `%41` a byte; a percent sign before anything else stays, and bytes that
/// are no UTF-8 become U+FFFD.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hex_byte);
        at += if hex.is_some() { 3 } else { 1 };
        out.push(hex.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |d: u8| (d as char).to_digit(16);
    u8::try_from(digit(*digits.first()?)? * 16 + digit(*digits.get(1)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> QueryDecoder {
        let name = QueryParam {
            name: "name".into(),
            dtype: DType::String,
            required: true,
            default: None,
            rules: Rules::default(),
        };
        let times = QueryParam {
            name: "times".into(),
            dtype: DType::Int32,
            required: false,
            default: Some(Scalar::Int(1)),
            rules: Rules { ge: Some(1.0), ..Rules::default() },
        };
        QueryDecoder::new(vec![name, times], DecodeLimits::default()).unwrap()
    }

    #[test]
    fn names_and_values_are_read_as_fastapi_does() {
        for (query, name) in [
            ("name=a&name=b", "b"),
            ("name", ""),
            ("name=", ""),
            ("name=%zz", "%zz"),
            ("name=%ff", "\u{fffd}"),
            ("name=a;times=0", "a;times=0"),
            ("&&name=a+b%20c%2B", "a b c+"),
            ("n%61me=%C3%A9", "é"),
        ] {
            assert_eq!(hello().decode(query).unwrap().text("name").unwrap(), name, "{query}");
        }
    }

    #[test]
    fn all_errors_come_at_once() {
        let errors = hello().decode("times=0").unwrap_err();
        let kinds: Vec<_> = errors.iter().map(|e| (e.kind, e.input.as_json())).collect();
        assert_eq!(kinds, [("missing", "null"), ("greater_than_equal", "\"0\"")]);
    }

    #[test]
    fn defaults_fill_in() {
        let values = hello().decode("name=x").unwrap();
        assert_eq!((values.get("times"), values.text("nobody")), (Some(&Scalar::Int(1)), None));
    }
}
