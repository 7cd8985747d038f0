//! The complete path: reads JSON as Python's `json` module does, validates as Pydantic v2
//! does, and collects every error.

mod body;
mod check;
mod doc;
mod echo;
mod report;
mod scan;

use crate::{Context, ContextValue, Decoded, Echo, FieldError, Loc, Rejection, plan::Plan};
use scan::ScanError;

pub(crate) use check::{Checked, check_scalar, check_text};
pub(crate) use doc::{Doc, Kind, NodeId};
pub(crate) use echo::text as echo_text;
pub(crate) use report::{Fault, Report};

/// Decodes a body, or says everything that is wrong with it.
pub(crate) fn decode(plan: &Plan, body: &[u8]) -> Result<Decoded, Rejection> {
    body::validate(plan, &document(body, plan.limits.max_depth)?)
}

/// The document that a body is.
#[inline]
pub(crate) fn document(body: &[u8], max_depth: usize) -> Result<Doc<'_>, Rejection> {
    if body.is_empty() {
        return Err(invalid(missing_body()));
    }
    let text = std::str::from_utf8(body).map_err(|_| Rejection::Unparsable)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match scan::scan(text, max_depth) {
        Ok(doc) => Ok(doc),
        Err(ScanError::Unparsable) => Err(Rejection::Unparsable),
        Err(ScanError::Syntax { message, at }) => Err(invalid(json_invalid(text, message, at))),
    }
}

/// What FastAPI says of a body that it does not take for JSON.
pub(crate) fn reject_media_type(plan: &Plan, body: &[u8]) -> Rejection {
    if body.is_empty() {
        return invalid(missing_body());
    }
    // More than the echo shows need not be looked at; four bytes more, so that the cut is
    // seen to be one.
    let shown = &body[..body.len().min(plan.limits.max_echo_bytes + 4)];
    let input = echo::text(&String::from_utf8_lossy(shown), plan.limits.max_echo_bytes);
    invalid(error("model_attributes_type", vec![body_loc()], report::MODEL_TYPE_MSG.into(), input, None))
}

fn invalid(error: FieldError) -> Rejection {
    Rejection::Invalid(vec![error])
}

fn body_loc() -> Loc {
    Loc::Key("body".into())
}

fn error(kind: &'static str, loc: Vec<Loc>, msg: String, input: Echo, ctx: Option<Context>) -> FieldError {
    FieldError { kind, loc, msg, input, ctx }
}

fn missing_body() -> FieldError {
    error("missing", vec![body_loc()], "Field required".into(), Echo::null(), None)
}

/// Python counts characters, not bytes.
fn json_invalid(text: &str, message: &'static str, at: usize) -> FieldError {
    let offset = text.get(..at).map_or(at, |before| before.chars().count());
    error(
        "json_invalid",
        vec![body_loc(), Loc::Index(offset)],
        "JSON decode error".into(),
        Echo::from_json("{}".into()),
        Some(vec![("error", ContextValue::Text(message.into()))]),
    )
}
