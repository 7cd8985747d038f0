//! The bodies of requests that change settings.

use serde_json::{Map, Value};
use weir_types::Error;

use crate::v2::core::{Change, LogChange, LogValue, cut};

/// Most settings in one request: more than there are.
const MAX_SETTINGS: usize = 32;

/// Reads changes of trace settings: values are text, whole numbers or lists of text, and
/// `null` clears a setting.
///
/// # Errors
/// `InvalidArgument` where the body is something else.
pub(crate) fn read_trace_changes(body: &[u8]) -> Result<Vec<Change>, Error> {
    let change = |(name, value): (String, Value)| {
        let values = match value {
            Value::Null => Some(Vec::new()),
            Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            other => text(&other).map(|text| vec![text]),
        };
        let values = values.ok_or_else(|| {
            Error::invalid(format!("the trace setting `{}` is text, a list of text or null", cut(&name)))
        })?;
        Ok((name, values))
    };
    object(body)?.into_iter().map(change).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) if !n.is_f64() => Some(n.to_string()),
        _ => None,
    }
}

/// Reads changes of log settings.
///
/// # Errors
/// `InvalidArgument` where the body is something else.
pub(crate) fn read_log_changes(body: &[u8]) -> Result<Vec<LogChange>, Error> {
    let change = |(name, value): (String, Value)| {
        let value = match &value {
            Value::Bool(on) => Some(LogValue::Flag(*on)),
            Value::String(text) => Some(LogValue::Text(text.clone())),
            Value::Number(n) => n.as_u64().map(LogValue::Number),
            _ => None,
        };
        let value = value.ok_or_else(|| {
            let name = cut(&name);
            Error::invalid(format!("the log setting `{name}` is a flag, a whole number from 0 or text"))
        })?;
        Ok((name, value))
    };
    object(body)?.into_iter().map(change).collect()
}

/// An object, or nothing, which changes nothing.
fn object(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let wrong = || Error::invalid("the request is a JSON object of settings");
    let settings: Map<String, Value> = serde_json::from_slice(body).map_err(|_| wrong())?;
    if settings.len() > MAX_SETTINGS {
        return Err(Error::invalid(format!("more than {MAX_SETTINGS} settings in one request")));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_lists_or_nothing() {
        let body =
            br#"{"trace_level":["TIMESTAMPS"],"trace_rate":"5","trace_count":-1,"log_frequency":null}"#;
        let mut changes = read_trace_changes(body).unwrap();
        changes.sort();
        let of =
            |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(ToString::to_string).collect());
        assert_eq!(
            changes,
            [
                of("log_frequency", &[]),
                of("trace_count", &["-1"]),
                of("trace_level", &["TIMESTAMPS"]),
                of("trace_rate", &["5"])
            ]
        );
        assert_eq!(read_trace_changes(b" "), Ok(Vec::new()));
        for bad in ["[]", "{", r#"{"trace_rate":1.5}"#, r#"{"trace_level":[1]}"#, r#"{"x":{}}"#] {
            assert!(read_trace_changes(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_values_keep_their_kind() {
        let body = br#"{"log_info":false,"log_verbose_level":2,"log_file":""}"#;
        let mut changes = read_log_changes(body).unwrap();
        changes.sort_by(|a, b| a.0.cmp(&b.0));
        let values: Vec<_> = changes.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [LogValue::Text(String::new()), LogValue::Flag(false), LogValue::Number(2)]);
        for bad in ["1", r#"{"log_verbose_level":-1}"#, r#"{"log_info":null}"#] {
            assert!(read_log_changes(bad.as_bytes()).is_err(), "{bad}");
        }
        let many: Map<String, Value> = (0..40).map(|i| (i.to_string(), true.into())).collect();
        assert!(read_log_changes(serde_json::to_string(&many).unwrap().as_bytes()).is_err());
    }
}
