//! The settings, global and of single models, and how they are changed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use weir_types::{Error, ErrorCode};

use super::{InForce, Sampler};
use crate::v2::core::cut;

/// Triton's default: one request in so many.
const DEFAULT_RATE: u64 = 1000;
/// Without end.
const NO_END: i64 = -1;

/// A setting's name and what it shall be; no values to clear it.
pub(crate) type Change = (String, Vec<String>);

/// Each setting's name and values, as clients read them.
pub(crate) type Shown = Vec<(&'static str, Vec<String>)>;

/// What is set in one place. What is not follows the global settings, those their defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    on: Option<bool>,
    rate: Option<u64>,
    remaining: Option<Arc<AtomicI64>>,
    frequency: Option<u64>,
    /// Requests seen since the rate was set.
    seen: Arc<AtomicU64>,
}

/// What a change of one place has to know of the others.
#[derive(Clone, Copy)]
pub(super) struct Shared<'s> {
    /// Whether the change is of one model.
    pub(super) of_model: bool,
    /// The name of the file there is to trace into.
    pub(super) file: Option<&'s str>,
    /// Traces in one file.
    pub(super) frequency: u64,
}

impl Scope {
    /// Traces in one file; 0 for all of them.
    pub(super) fn frequency(&self) -> u64 {
        self.frequency.unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.on.is_none() && self.rate.is_none() && self.remaining.is_none() && self.frequency.is_none()
    }

    /// Makes one change.
    ///
    /// # Errors
    /// As [`Tracer::change`](super::Tracer::change).
    pub(super) fn apply(&mut self, (name, values): &Change, shared: Shared<'_>) -> Result<(), Error> {
        let file = shared.file;
        match name.as_str() {
            "trace_level" => self.on = level(values, file.is_some())?,
            "trace_rate" => {
                self.rate = one(name, values)?.map(|text| whole(name, text, 1)).transpose()?;
                self.seen = Arc::default();
            }
            "trace_count" => {
                let count = one(name, values)?.map(count).transpose()?;
                self.remaining = count.map(|n| Arc::new(AtomicI64::new(n)));
            }
            "log_frequency" if shared.of_model => {
                // What was read of a model may be sent back.
                let own = shared.frequency.to_string();
                let text = "of the file, which all models share: set it without a model";
                one(name, values)?.map_or(Ok(()), |value| fixed_to(name, value, &own, text))?;
            }
            "log_frequency" => {
                self.frequency = one(name, values)?.map(|text| whole(name, text, 0)).transpose()?;
            }
            "trace_file" => fixed(name, values, file.unwrap_or_default(), "`trace_file` under [server]")?,
            "trace_mode" => fixed(name, values, "triton", "no other mode")?,
            _ => {
                return Err(Error::invalid(format!(
                    "there is no trace setting {:?}, they are: trace_level, trace_rate, trace_count, \
                     log_frequency, trace_file, trace_mode",
                    cut(name)
                )));
            }
        }
        Ok(())
    }
}

/// Whether requests are traced.
fn level(values: &[String], can_trace: bool) -> Result<Option<bool>, Error> {
    let words: Vec<&str> = values.iter().map(String::as_str).collect();
    match words[..] {
        [] => Ok(None),
        ["OFF"] => Ok(Some(false)),
        ["TIMESTAMPS"] if can_trace => Ok(Some(true)),
        ["TIMESTAMPS"] => Err(Error::new(
            ErrorCode::Unsupported,
            "there is no file to trace into: set `trace_file` under [server]",
        )),
        _ if words.contains(&"TENSORS") => Err(Error::new(
            ErrorCode::Unsupported,
            "the trace level TENSORS is not supported: tensors are not written to files; use TIMESTAMPS",
        )),
        _ => {
            let shown = cut(&words.join(", "));
            Err(Error::invalid(format!("`trace_level` is OFF or TIMESTAMPS, got {shown:?}")))
        }
    }
}

/// The one value, none to clear.
fn one<'v>(name: &str, values: &'v [String]) -> Result<Option<&'v str>, Error> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(Error::invalid(format!("`{name}` has one value, got {}", values.len()))),
    }
}

fn whole(name: &str, text: &str, least: u64) -> Result<u64, Error> {
    let wrong = || Error::invalid(format!("`{name}` is a whole number from {least}, got {:?}", cut(text)));
    text.parse().ok().filter(|n| *n >= least).ok_or_else(wrong)
}

fn count(text: &str) -> Result<i64, Error> {
    let wrong =
        || Error::invalid(format!("`trace_count` is a whole number, -1 for no end, got {:?}", cut(text)));
    text.parse().ok().filter(|n| *n >= NO_END).ok_or_else(wrong)
}

/// A setting that clients may send back as they read it, and not change.
fn fixed(name: &str, values: &[String], own: &str, whose: &str) -> Result<(), Error> {
    let text = format!("not changed over the network: it is {whose}");
    one(name, values)?.map_or(Ok(()), |value| fixed_to(name, value, own, &text))
}

fn fixed_to(name: &str, value: &str, own: &str, text: &str) -> Result<(), Error> {
    if value == own {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Unsupported, format!("`{name}` is {text}")))
}

/// The settings of all places.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    pub(super) global: Scope,
    /// Of models that have some of their own; names of served models, so their number is
    /// bounded.
    models: BTreeMap<String, Scope>,
}

impl Scopes {
    pub(super) fn of(&self, model: Option<&str>) -> Scope {
        match model {
            None => self.global.clone(),
            Some(model) => self.models.get(model).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn replace(&mut self, model: Option<&str>, scope: Scope) {
        match model {
            None => self.global = scope,
            Some(model) if scope.is_empty() => drop(self.models.remove(model)),
            Some(model) => drop(self.models.insert(model.to_owned(), scope)),
        }
    }

    pub(super) fn in_force(&self) -> InForce {
        let global = self.sampler(&self.global);
        let models: BTreeMap<_, _> =
            self.models.iter().map(|(name, scope)| (name.clone(), self.sampler(scope))).collect();
        let any = global.on || models.values().any(|s| s.on);
        InForce { any, frequency: self.global.frequency(), global, models }
    }

    fn sampler(&self, scope: &Scope) -> Sampler {
        let (on, rate, remaining) = self.resolved(scope);
        Sampler { on, rate, remaining, seen: scope.seen.clone() }
    }

    /// The scope's own settings, else the global ones, else the defaults.
    fn resolved(&self, scope: &Scope) -> (bool, u64, Arc<AtomicI64>) {
        let global = &self.global;
        let remaining = scope.remaining.as_ref().or(global.remaining.as_ref()).cloned();
        (
            scope.on.or(global.on).unwrap_or(false),
            scope.rate.or(global.rate).unwrap_or(DEFAULT_RATE),
            remaining.unwrap_or_else(|| Arc::new(AtomicI64::new(NO_END))),
        )
    }

    pub(super) fn shown(&self, model: Option<&str>, file: &str) -> Shown {
        let (on, rate, remaining) = self.resolved(&self.of(model));
        let level = if on { "TIMESTAMPS" } else { "OFF" };
        vec![
            ("trace_level", vec![level.to_owned()]),
            ("trace_rate", vec![rate.to_string()]),
            ("trace_count", vec![remaining.load(Ordering::Relaxed).to_string()]),
            ("log_frequency", vec![self.global.frequency().to_string()]),
            ("trace_file", vec![file.to_owned()]),
            ("trace_mode", vec!["triton".to_owned()]),
        ]
    }
}
