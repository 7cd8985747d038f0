//! What is wrong with a body, in FastAPI's form.

use std::{borrow::Cow, fmt};

use crate::number;

/// Why a decoder cannot be built: the operator's mistake, told when a model loads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A pattern is no regular expression.
    #[error("field `{field}`: pattern `{pattern}` is no regular expression: {why}")]
    Pattern {
        /// The field.
        field: String,
        /// The pattern as configured.
        pattern: String,
        /// What the regular-expression compiler says.
        why: String,
    },
    /// A default, or one of the allowed values, is of another type than its field.
    #[error("field `{field}`: {what} {value} is no {dtype}")]
    Value {
        /// The field.
        field: String,
        /// `default` or `enum value`.
        what: &'static str,
        /// The value.
        value: String,
        /// The field's element type.
        dtype: weir_types::DType,
    },
    /// A default cannot say how long a list is.
    #[error("field `{0}`: a default needs a fixed length, but the request decides the length of this field")]
    DefaultLength(String),
    /// An `enum` without values accepts nothing.
    #[error("field `{0}`: enum needs at least one value")]
    EmptyEnum(String),
    /// A field, column or input index points nowhere.
    #[error("{0}")]
    Shape(String),
    /// The nesting limit is below what valid bodies need.
    #[error("max_depth is {max_depth}, but a valid body nests {needed} levels")]
    Depth {
        /// The configured limit.
        max_depth: usize,
        /// What the schema needs.
        needed: usize,
    },
}

/// One step of the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loc {
    /// A key, or one of `body`, `query`, `path`.
    Key(Cow<'static, str>),
    /// A position in a list, or an offset in the body.
    Index(usize),
}

/// A value of an error's context.
#[derive(Debug, Clone, PartialEq)]
pub enum ContextValue {
    /// A whole number.
    Int(i128),
    /// A finite number.
    Float(f64),
    /// A text.
    Text(Cow<'static, str>),
    /// `{}`: what FastAPI makes of an exception object.
    Empty,
}

/// The parameters of an error's message, in Pydantic's order.
pub type Context = Vec<(&'static str, ContextValue)>;

/// A rejected value as valid JSON of bounded length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo(Box<str>);

impl Echo {
    /// Takes text that is valid JSON already.
    pub(crate) fn from_json(json: String) -> Self {
        Self(json.into_boxed_str())
    }

    /// A number.
    pub(crate) fn from_float(x: f64) -> Self {
        let mut json = String::new();
        push_json_float(&mut json, x);
        Self::from_json(json)
    }

    /// `null`.
    pub(crate) fn null() -> Self {
        Self::from_json("null".into())
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Pydantic's `type`.
    pub kind: &'static str,
    /// Where it is.
    pub loc: Vec<Loc>,
    /// What it is, for people.
    pub msg: String,
    /// The value at fault; the whole parent object where a key is missing.
    pub input: Echo,
    /// Parameters of the message.
    pub ctx: Option<Context>,
}

impl FieldError {
    /// A mistake in something that is no body, at `loc`, without the value at fault.
    pub fn elsewhere(kind: &'static str, loc: [&'static str; 2], msg: &'static str) -> Self {
        let loc = loc.map(|step| Loc::Key(step.into())).into();
        Self { kind, loc, msg: msg.into(), input: Echo::null(), ctx: None }
    }
}

/// Why a body gives no batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// Not UTF-8, nested too deep, or an integer of thousands of digits: 400.
    Unparsable,
    /// Everything that is wrong, in Pydantic's order: 422.
    Invalid(Vec<FieldError>),
}

impl Rejection {
    /// The HTTP status (RFC 9110).
    pub fn status(&self) -> u16 {
        match self {
            Rejection::Unparsable => 400,
            Rejection::Invalid(_) => 422,
        }
    }

    /// Appends the response body, FastAPI's `{"detail": …}`.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Rejection::Unparsable => {
                out.extend_from_slice(br#"{"detail":"There was an error parsing the body"}"#);
            }
            Rejection::Invalid(errors) => write_detail(errors, out),
        }
    }
}

/// For logs and the command line: each place and what is wrong there.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection::Invalid(errors) = self else { return f.write_str("the row cannot be parsed") };
        for (i, error) in errors.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "; " })?;
            // `body` is where every row is.
            for step in error.loc.iter().filter(|step| **step != Loc::Key("body".into())) {
                match step {
                    Loc::Key(key) => write!(f, "{key}: ")?,
                    Loc::Index(index) => write!(f, "{index}: ")?,
                }
            }
            f.write_str(&error.msg)?;
        }
        Ok(())
    }
}

/// Appends `{"detail":[{"type":…,"loc":[…],"msg":…,"input":…,"ctx":{…}}, …]}`.
pub fn write_detail(errors: &[FieldError], out: &mut Vec<u8>) {
    let mut text = String::with_capacity(160 * errors.len() + 16);
    text.push_str(r#"{"detail":["#);
    for (i, error) in errors.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        error.write(&mut text);
    }
    text.push_str("]}");
    out.extend_from_slice(text.as_bytes());
}

impl FieldError {
    fn write(&self, out: &mut String) {
        out.push_str(r#"{"type":"#);
        push_json_string(out, self.kind);
        out.push_str(r#","loc":["#);
        for (i, step) in self.loc.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            match step {
                Loc::Key(key) => push_json_string(out, key),
                Loc::Index(at) => out.push_str(&at.to_string()),
            }
        }
        out.push_str(r#"],"msg":"#);
        push_json_string(out, &self.msg);
        out.push_str(r#","input":"#);
        out.push_str(self.input.as_json());
        if let Some(ctx) = &self.ctx {
            write_context(ctx, out);
        }
        out.push('}');
    }
}

fn write_context(ctx: &Context, out: &mut String) {
    out.push_str(r#","ctx":{"#);
    for (i, (key, value)) in ctx.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_json_string(out, key);
        out.push(':');
        match value {
            ContextValue::Int(n) => out.push_str(&n.to_string()),
            ContextValue::Float(x) => push_json_float(out, *x),
            ContextValue::Text(text) => push_json_string(out, text),
            ContextValue::Empty => out.push_str("{}"),
        }
    }
    out.push('}');
}

/// Appends a float as Python's `json` writes it (`90.0`, `1e+16`), or its name in quotes
/// where JSON has no number for it.
pub(crate) fn push_json_float(out: &mut String, x: f64) {
    if x.is_finite() {
        out.push_str(&number::python_float(x));
    } else {
        let name = if x.is_nan() {
            r#""NaN""#
        } else if x > 0.0 {
            r#""Infinity""#
        } else {
            r#""-Infinity""#
        };
        out.push_str(name);
    }
}

/// Appends `text` as a JSON string with the escapes that Python's `json` uses.
pub(crate) fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        push_json_char(out, c);
    }
    out.push('"');
}

/// Appends one character of a JSON string.
pub(crate) fn push_json_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_fastapis() {
        let error = FieldError {
            kind: "less_than_equal",
            loc: vec![Loc::Key("body".into()), Loc::Key("houses".into()), Loc::Index(3)],
            msg: "Input should be less than or equal to 90".into(),
            input: Echo::from_json("\"91\"".into()),
            ctx: Some(vec![("le", ContextValue::Float(90.0))]),
        };
        let mut out = Vec::new();
        Rejection::Invalid(vec![error]).write_body(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"detail":[{"type":"less_than_equal","loc":["body","houses",3],"msg":"Input should be less than or equal to 90","input":"91","ctx":{"le":90.0}}]}"#
        );
    }

    #[test]
    fn strings_and_floats_stay_valid_json() {
        let mut out = String::new();
        push_json_string(&mut out, "a\"\\\u{1}\u{2028}\u{10ffff}");
        for x in [f64::NAN, f64::NEG_INFINITY, 1e300, -0.0, 5e-324] {
            out.push(',');
            push_json_float(&mut out, x);
        }
        serde_json::from_str::<serde_json::Value>(&format!("[{out}]")).unwrap();
    }
}
