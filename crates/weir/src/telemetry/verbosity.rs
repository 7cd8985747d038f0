//! What is logged, changed while the server runs.
//!
//! The operator's filter stands; a client's settings take levels away from it or add Weir's own
//! verbose messages. Each level has a switch of its own, as Triton's clients expect, which no
//! single directive of a filter can say: hence a filter around the filter.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::ParseError,
    layer::{Context, Filter},
    reload,
};
use weir_api::{LogControl, LogSettings};

/// The operator's filter and the settings over it.
pub(super) struct Verbosity {
    operator: EnvFilter,
    settings: LogSettings,
}

impl Verbosity {
    /// Whether the settings let messages of this level through at all.
    fn lets(&self, level: Level) -> bool {
        match level {
            Level::ERROR => self.settings.error,
            Level::WARN => self.settings.warning,
            Level::INFO => self.settings.info,
            _ => true,
        }
    }

    /// Whether the settings ask for a message that the operator's filter may not: Weir's own
    /// alone, since those of the libraries hold what callers send.
    fn adds(&self, metadata: &Metadata<'_>) -> bool {
        let ours =
            metadata.target().split("::").next().is_some_and(|t| t == "weir" || t.starts_with("weir_"));
        let level = match *metadata.level() {
            Level::DEBUG => 1,
            Level::TRACE => 2,
            _ => return false,
        };
        ours && self.settings.verbose_level >= level
    }
}

impl<S: Subscriber> Filter<S> for Verbosity {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.lets(*metadata.level())
            && (self.adds(metadata) || Filter::<S>::enabled(&self.operator, metadata, context))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match (self.lets(*metadata.level()), self.adds(metadata)) {
            (false, _) => Interest::never(),
            (true, true) => Interest::always(),
            (true, false) => Filter::<S>::callsite_enabled(&self.operator, metadata),
        }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        self.adds(event.metadata()) || Filter::<S>::event_enabled(&self.operator, event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let added = match self.settings.verbose_level {
            0 => LevelFilter::OFF,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        Filter::<S>::max_level_hint(&self.operator).map(|level| level.max(added))
    }

    // Filters may depend on spans: the operator's sees them all.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_new_span(&self.operator, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::<S>::on_record(&self.operator, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_enter(&self.operator, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_exit(&self.operator, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Filter::<S>::on_close(&self.operator, id, context);
    }
}

/// A filter that can be changed.
pub(super) type Changing = reload::Layer<Verbosity, Registry>;

/// The operator's filter, and what changes it.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn filter(operator: String) -> Result<(Changing, Arc<Control>), ParseError> {
    let settings = LogSettings::default();
    let (layer, handle) =
        reload::Layer::new(Verbosity { operator: EnvFilter::try_new(&operator)?, settings });
    let control = Control { held: Mutex::new((operator, settings)), handle };
    Ok((layer, Arc::new(control)))
}

/// Changes what is logged: the operator's filter, and clients' settings over it.
pub(crate) struct Control {
    held: Mutex<(String, LogSettings)>,
    handle: reload::Handle<Verbosity, Registry>,
}

impl Control {
    /// Logs what `operator` says from now on; the clients' settings stay over it.
    ///
    /// # Errors
    /// Where it cannot be read; nothing changes then.
    pub(crate) fn refilter(&self, operator: &str) -> Result<(), String> {
        self.change(|held| held.0 = operator.to_owned())
    }

    /// Changes what is held and logs by it, under one lock: who changes the filter and who changes the settings
    /// at the same moment both get what they asked for.
    fn change(&self, edit: impl FnOnce(&mut (String, LogSettings))) -> Result<(), String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = held.clone();
        edit(&mut next);
        let (operator, settings) = &next;
        // A new one: a filter cannot be copied, and its caches are of the old settings.
        let filter = EnvFilter::try_new(operator).map_err(|e| e.to_string())?;
        let filter = Verbosity { operator: filter, settings: *settings };
        self.handle.reload(filter).map_err(|e| e.to_string())?;
        *held = next;
        Ok(())
    }
}

impl LogControl for Control {
    fn settings(&self) -> LogSettings {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn apply(&self, settings: LogSettings) -> Result<(), String> {
        self.change(|held| held.1 = settings)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of one message of each level, ours and another's, under `settings`.
    fn logged(control: &Arc<Control>, lines: &Lines, settings: LogSettings) -> Vec<String> {
        control.apply(settings).unwrap();
        lines.0.lock().unwrap().clear();
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!(target: "weir_serving::load", "d");
        tracing::trace!(target: "weir_serving::load", "t");
        tracing::debug!(target: "weird", "d of another");
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn each_level_has_its_switch_and_ours_can_be_verbose() {
        let lines = Lines::default();
        let (filter, control) = filter("info".into()).unwrap();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).without_time();
        let layer = layer.with_ansi(false).with_target(false).with_level(false).with_filter(filter);
        let all = LogSettings::default();
        tracing::subscriber::with_default(registry().with(layer), || {
            let logged = |settings| logged(&control, &lines, settings);
            assert_eq!(logged(all), ["e", "w", "i"]);
            assert_eq!(logged(LogSettings { warning: false, ..all }), ["e", "i"]);
            assert_eq!(logged(LogSettings { error: false, info: false, ..all }), ["w"]);
            assert_eq!(logged(LogSettings { verbose_level: 1, ..all }), ["e", "w", "i", "d"]);
            assert_eq!(logged(LogSettings { verbose_level: 2, ..all }), ["e", "w", "i", "d", "t"]);
            assert_eq!(logged(all), ["e", "w", "i"]);
            assert_eq!(control.settings(), all);
            control.refilter("error").unwrap();
            assert_eq!(logged(all), ["e"], "the operator's filter changed");
            assert!(control.refilter("a=b=c").is_err());
            assert_eq!(logged(all), ["e"]);
        });
    }
}
