//! The collector of errors.

use super::{
    doc::{Doc, NodeId},
    echo,
};
use crate::{Context, ContextValue, DecodeLimits, Echo, FieldError, Loc, plan::Plan};

/// Pydantic's text for what should be an object.
pub(crate) const MODEL_TYPE_MSG: &str = "Input should be a valid dictionary or object to extract fields from";

/// What is wrong with one value, before it is known where the value stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) msg: String,
    pub(crate) ctx: Option<Context>,
}

impl Fault {
    /// A mistake whose message has no parameters.
    pub(crate) fn plain(kind: &'static str, msg: &str) -> Self {
        Self { kind, msg: msg.into(), ctx: None }
    }

    /// A broken bound: `kind` is Pydantic's type, `key` its parameter.
    pub(crate) fn bound(kind: &'static str, words: &str, key: &'static str, bound: ContextValue) -> Self {
        let shown = match &bound {
            ContextValue::Int(n) => n.to_string(),
            ContextValue::Float(x) => x.to_string(),
            _ => String::new(),
        };
        Self { kind, msg: format!("Input should be {words} {shown}"), ctx: Some(vec![(key, bound)]) }
    }

    /// A list of another length than it should have.
    pub(crate) fn list_length(too_long: bool, bound: usize, actual: usize) -> Self {
        let (kind, words, key) = if too_long {
            ("too_long", "at most", "max_length")
        } else {
            ("too_short", "at least", "min_length")
        };
        let s = if bound == 1 { "" } else { "s" };
        let int = |n: usize| ContextValue::Int(n as i128);
        Self {
            kind,
            msg: format!("List should have {words} {bound} item{s} after validation, not {actual}"),
            ctx: Some(vec![
                ("field_type", ContextValue::Text("List".into())),
                (key, int(bound)),
                ("actual_length", int(actual)),
            ]),
        }
    }

    /// A mistake that Pydantic has no type for, worded as one of a validator function.
    pub(crate) fn value_error(msg: &str) -> Self {
        Self {
            kind: "value_error",
            msg: format!("Value error, {msg}"),
            ctx: Some(vec![("error", ContextValue::Empty)]),
        }
    }
}

/// Errors found so far, and the place that is being looked at.
pub(crate) struct Report<'d> {
    pub(crate) doc: &'d Doc<'d>,
    pub(crate) errors: Vec<FieldError>,
    limits: DecodeLimits,
    loc: Vec<Loc>,
}

impl<'d> Report<'d> {
    pub(crate) fn new(plan: &'d Plan, doc: &'d Doc<'d>) -> Self {
        Self::of(plan.limits, doc)
    }

    /// For a body that no plan describes.
    pub(crate) fn of(limits: DecodeLimits, doc: &'d Doc<'d>) -> Self {
        Self { doc, errors: Vec::new(), limits, loc: vec![Loc::Key("body".into())] }
    }

    /// Whether so many errors were found that no more are looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= self.limits.max_errors.max(1)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Runs `look` one step further in.
    pub(crate) fn at<T>(&mut self, step: Loc, look: impl FnOnce(&mut Self) -> T) -> T {
        self.loc.push(step);
        let found = look(self);
        self.loc.pop();
        found
    }

    /// Looks one step further in, until [`loc_leave`](Self::loc_leave).
    pub(crate) fn loc_enter(&mut self, step: Loc) {
        self.loc.push(step);
    }

    /// Looks one step further out again.
    pub(crate) fn loc_leave(&mut self) {
        self.loc.pop();
    }

    /// A key as a step, cut as echoed values are.
    pub(crate) fn key_step(&self, key: &str) -> Loc {
        let mut end = self.limits.max_echo_bytes.min(key.len());
        while !key.is_char_boundary(end) {
            end -= 1;
        }
        let cut = if end < key.len() { "…" } else { "" };
        Loc::Key(format!("{}{cut}", &key[..end]).into())
    }

    pub(crate) fn push(&mut self, fault: Fault, input: NodeId) {
        let input = echo::value(self.doc, input, self.limits.max_echo_bytes);
        self.push_echo(fault, input);
    }

    fn push_echo(&mut self, fault: Fault, input: Echo) {
        if !self.is_full() {
            let Fault { kind, msg, ctx } = fault;
            self.errors.push(FieldError { kind, loc: self.loc.clone(), msg, input, ctx });
        }
    }

    pub(crate) fn missing(&mut self, parent: NodeId) {
        self.push(Fault::plain("missing", "Field required"), parent);
    }

    pub(crate) fn no_object(&mut self, node: NodeId) {
        self.push(Fault::plain("model_attributes_type", MODEL_TYPE_MSG), node);
    }

    pub(crate) fn no_list(&mut self, node: NodeId) {
        self.push(Fault::plain("list_type", "Input should be a valid list"), node);
    }

    pub(crate) fn extra(&mut self, key: &str, value: NodeId) {
        let step = self.key_step(key);
        self.at(step, |r| r.push(Fault::plain("extra_forbidden", "Extra inputs are not permitted"), value));
    }
}
