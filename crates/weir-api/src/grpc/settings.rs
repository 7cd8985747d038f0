//! `TraceSetting` and `LogSettings`: one method each to read and to change.

use hyper::body::Incoming;
use weir_types::{Access, Error};

use super::{
    call::Call,
    generated::inference::{
        LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
        log_settings_request, log_settings_response, trace_setting_response,
    },
    reply::Reply,
};
use crate::v2::core::{
    Change, LogChange, LogValue, change_log, change_trace, control, cut, log_settings, trace_settings,
};

/// `TraceSetting`.
///
/// # Errors
/// What is wrong with the settings, and `PermissionDenied`.
pub(super) async fn trace(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    control(&call.shared)?;
    let TraceSettingRequest { settings, model_name } = call.read_small(body).await?;
    let changes: Vec<Change> = settings.into_iter().map(|(name, value)| (name, value.value)).collect();
    let shown = match changes.is_empty() {
        true => trace_settings(&call.shared, Some(&model_name))?,
        false => change_trace(&call.shared, Some(&model_name), &changes)?,
    };
    let value = |(name, value): (&str, _)| (name.to_owned(), trace_setting_response::SettingValue { value });
    call.reply(&TraceSettingResponse { settings: shown.into_iter().map(value).collect() })
}

/// `LogSettings`.
///
/// # Errors
/// What is wrong with the settings, and `PermissionDenied`.
pub(super) async fn log(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    control(&call.shared)?;
    let LogSettingsRequest { settings } = call.read_small(body).await?;
    let changes: Vec<LogChange> = settings.into_iter().map(change).collect::<Result<_, _>>()?;
    let shown = match changes.is_empty() {
        true => log_settings(&call.shared)?,
        false => change_log(&call.shared, &changes)?,
    };
    let value = |(name, value): (&str, LogValue)| (name.to_owned(), shown_value(value));
    call.reply(&LogSettingsResponse { settings: shown.into_iter().map(value).collect() })
}

fn change((name, value): (String, log_settings_request::SettingValue)) -> Result<LogChange, Error> {
    use log_settings_request::setting_value::ParameterChoice;
    let value = match value.parameter_choice {
        Some(ParameterChoice::BoolParam(on)) => LogValue::Flag(on),
        Some(ParameterChoice::Uint32Param(n)) => LogValue::Number(n.into()),
        Some(ParameterChoice::StringParam(text)) => LogValue::Text(text),
        None => return Err(Error::invalid(format!("the log setting `{}` has no value", cut(&name)))),
    };
    Ok((name, value))
}

fn shown_value(value: LogValue) -> log_settings_response::SettingValue {
    use log_settings_response::setting_value::ParameterChoice;
    let choice = match value {
        LogValue::Flag(on) => ParameterChoice::BoolParam(on),
        LogValue::Number(n) => ParameterChoice::Uint32Param(u32::try_from(n).unwrap_or(u32::MAX)),
        LogValue::Text(text) => ParameterChoice::StringParam(text),
    };
    log_settings_response::SettingValue { parameter_choice: Some(choice) }
}
