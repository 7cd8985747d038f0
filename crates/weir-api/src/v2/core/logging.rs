//! Triton's logging extension: what is logged, changed while the server runs.

use weir_types::{Error, ErrorCode};

use super::cut;

/// Most that a verbose level can be: everything.
const MAX_VERBOSE: u32 = 2;

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Messages of the level INFO, requests among them.
    pub info: bool,
    /// Messages of the level WARN.
    pub warning: bool,
    /// Messages of the level ERROR.
    pub error: bool,
    /// 0: what the operator configured; from 1 Weir's DEBUG messages too, from 2 TRACE.
    pub verbose_level: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { info: true, warning: true, error: true, verbose_level: 0 }
    }
}

/// Changes what is logged. The binary has the subscriber, so it implements this.
pub trait LogControl: Send + Sync {
    /// What is logged now.
    fn settings(&self) -> LogSettings;

    /// Logs as `settings` say from now on.
    ///
    /// # Errors
    /// Why that cannot be; then nothing changed.
    fn apply(&self, settings: LogSettings) -> Result<(), String>;
}

/// A setting's value, as transports have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LogValue {
    /// A flag.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// Text.
    Text(String),
}

/// A setting's name and what it shall be.
pub(crate) type LogChange = (String, LogValue);

/// Where logs go, and how they look: the operator's choice. Triton's names for "standard
/// error" and "as it is".
const FIXED: [(&str, &str); 2] = [("log_file", ""), ("log_format", "default")];

/// `settings` with all of `changes`.
///
/// # Errors
/// `InvalidArgument` for a setting that does not exist or cannot be that, `Unsupported` for
/// what is the operator's.
pub(super) fn changed(mut settings: LogSettings, changes: &[LogChange]) -> Result<LogSettings, Error> {
    for (name, value) in changes {
        match (name.as_str(), value) {
            ("log_info", LogValue::Flag(on)) => settings.info = *on,
            ("log_warning", LogValue::Flag(on)) => settings.warning = *on,
            ("log_error", LogValue::Flag(on)) => settings.error = *on,
            ("log_info" | "log_warning" | "log_error", _) => {
                return Err(Error::invalid(format!("`{name}` is true or false")));
            }
            ("log_verbose_level", LogValue::Number(level)) => {
                settings.verbose_level = u32::try_from(*level).unwrap_or(MAX_VERBOSE).min(MAX_VERBOSE);
            }
            ("log_verbose_level", _) => {
                return Err(Error::invalid("`log_verbose_level` is a whole number from 0"));
            }
            _ => fixed(name, value)?,
        }
    }
    Ok(settings)
}

/// What clients may send back as they read it, and not change.
fn fixed(name: &str, value: &LogValue) -> Result<(), Error> {
    let Some((_, own)) = FIXED.iter().find(|(fixed, _)| *fixed == name) else {
        return Err(Error::invalid(format!(
            "there is no log setting {:?}, they are: log_info, log_warning, log_error, \
             log_verbose_level, log_file, log_format",
            cut(name)
        )));
    };
    if *value == LogValue::Text((*own).to_owned()) {
        return Ok(());
    }
    let text = format!("`{name}` is not changed over the network: logs are as [log] in weir.toml says");
    Err(Error::new(ErrorCode::Unsupported, text))
}

/// Each setting's name and value, as clients read them.
pub(super) fn shown(settings: LogSettings) -> Vec<(&'static str, LogValue)> {
    let LogSettings { info, warning, error, verbose_level } = settings;
    let mut shown = vec![
        ("log_info", LogValue::Flag(info)),
        ("log_warning", LogValue::Flag(warning)),
        ("log_error", LogValue::Flag(error)),
        ("log_verbose_level", LogValue::Number(verbose_level.into())),
    ];
    shown.extend(FIXED.map(|(name, value)| (name, LogValue::Text(value.to_owned()))));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, value: LogValue) -> Result<LogSettings, Error> {
        changed(LogSettings::default(), &[(name.to_owned(), value)])
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let settings = LogSettings { info: false, verbose_level: 2, ..LogSettings::default() };
        let back: Vec<LogChange> = shown(settings).into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        assert_eq!(changed(LogSettings::default(), &back), Ok(settings));
    }

    #[test]
    fn levels_beyond_all_are_all() {
        let level = |n| change("log_verbose_level", LogValue::Number(n)).unwrap().verbose_level;
        assert_eq!([level(0), level(1), level(9), level(u64::MAX)], [0, 1, 2, 2]);
    }

    #[test]
    fn what_is_the_operators_is_refused_by_name() {
        for (name, value, code) in [
            ("log_file", LogValue::Text("/etc/passwd".into()), ErrorCode::Unsupported),
            ("log_format", LogValue::Text("ISO8601".into()), ErrorCode::Unsupported),
            ("log_info", LogValue::Number(1), ErrorCode::InvalidArgument),
            ("log_verbose_level", LogValue::Flag(true), ErrorCode::InvalidArgument),
            ("log_warnings", LogValue::Flag(true), ErrorCode::InvalidArgument),
        ] {
            let error = change(name, value).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(name), "{error}");
        }
    }
}
