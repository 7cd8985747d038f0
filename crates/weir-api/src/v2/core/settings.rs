//! What clients may change about the server, where the operator lets them: models, traces,
//! logs.

use std::sync::Arc;

use weir_serving::ModelControl;
use weir_types::{Error, ErrorCode};

pub(crate) use super::logging::{LogChange, LogValue};
use super::{Change, LogControl, Shown, logging};
use crate::server::Shared;

/// The control of models.
///
/// # Errors
/// `PermissionDenied` where clients do not have it.
pub(crate) fn control(shared: &Shared) -> Result<&ModelControl, Error> {
    shared.control().ok_or_else(|| {
        let text =
            "clients control nothing here: set `model_control = \"explicit\"` under [server] to let them";
        Error::new(ErrorCode::PermissionDenied, text)
    })
}

/// The trace settings of `model` (none, or an empty name: the global ones).
///
/// # Errors
/// `PermissionDenied`; `NotFound` without such a model.
pub(crate) fn trace_settings(shared: &Shared, model: Option<&str>) -> Result<Shown, Error> {
    control(shared)?;
    Ok(shared.tracer.shown(served(shared, model)?.as_deref()))
}

/// Changes trace settings and returns what holds then.
///
/// # Errors
/// As [`trace_settings`], and what is wrong with the changes.
pub(crate) fn change_trace(shared: &Shared, model: Option<&str>, changes: &[Change]) -> Result<Shown, Error> {
    control(shared)?;
    shared.tracer.change(served(shared, model)?.as_deref(), changes)
}

/// The name of a model as it is served.
fn served(shared: &Shared, model: Option<&str>) -> Result<Option<String>, Error> {
    let Some(name) = model.filter(|name| !name.is_empty()) else { return Ok(None) };
    let face = shared.face();
    Ok(Some(face.v2.view(name, None)?.version().spec.name.to_string()))
}

/// What is logged.
///
/// # Errors
/// `PermissionDenied`.
pub(crate) fn log_settings(shared: &Shared) -> Result<Vec<(&'static str, LogValue)>, Error> {
    Ok(logging::shown(log_control(shared)?.settings()))
}

/// Changes what is logged and returns what holds then.
///
/// # Errors
/// `PermissionDenied`, and what is wrong with the changes.
pub(crate) fn change_log(
    shared: &Shared,
    changes: &[LogChange],
) -> Result<Vec<(&'static str, LogValue)>, Error> {
    let control = log_control(shared)?;
    control.apply(logging::changed(control.settings(), changes)?).map_err(Error::internal)?;
    log_settings(shared)
}

fn log_control(shared: &Shared) -> Result<&Arc<dyn LogControl>, Error> {
    control(shared)?;
    let text = "the logs of this server are not changed while it runs";
    shared.log_control().ok_or_else(|| Error::new(ErrorCode::Unsupported, text))
}
