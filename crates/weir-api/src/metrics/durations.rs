//! What requests took, and for each bucket the last request in it whose trace can be found.
//!
//! prometheus-client has histograms with exemplars, behind one lock that every request takes, traced or
//! not, and its exemplars cannot be made or kept elsewhere. So this one family is written here, in both
//! formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_types::trace::TraceContext;

use super::{
    Format, RouteLabels, Sampled,
    latency::{BUCKETS, Counted, Latencies},
};

const NAME: &str = "weir_request_duration_seconds";
const HELP: &str = "From the request's head to its answer.";

/// The series of `weir_request_duration_seconds`, one a route and model. Clones have the same.
#[derive(Debug, Clone, Default)]
pub(super) struct DurationFamily(Arc<Mutex<BTreeMap<RouteLabels, Durations>>>);

/// What requests of one route took. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    latencies: Latencies,
    exemplars: Arc<Exemplars>,
}

/// Not on the cache lines of the counts: who is not traced comes near neither the lock nor what it guards.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Exemplars(Mutex<[Option<Exemplar>; BUCKETS]>);

/// A request that is found again by its trace.
#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace: TraceContext,
    took: Duration,
    at: SystemTime,
}

impl Durations {
    /// Counts one; one that is sampled becomes its bucket's exemplar.
    pub(super) fn observe(&self, took: Duration, sampled: Option<Sampled>) {
        let bucket = self.latencies.count(took);
        let Some((trace, at)) = sampled else { return };
        if let Some(exemplar) = self.exemplars.lock().get_mut(bucket) {
            *exemplar = Some(Exemplar { trace, took, at });
        }
    }
}

impl Exemplars {
    fn lock(&self) -> MutexGuard<'_, [Option<Exemplar>; BUCKETS]> {
        // An exemplar is set as a whole: what is guarded stays right when a holder panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurationFamily {
    fn series(&self) -> MutexGuard<'_, BTreeMap<RouteLabels, Durations>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of `labels`, which begins where there is none yet.
    pub(super) fn of(&self, labels: RouteLabels) -> Durations {
        self.series().entry(labels).or_default().clone()
    }

    /// Writes the family, with exemplars where the format has them.
    pub(super) fn write(&self, out: &mut String, format: Format) -> fmt::Result {
        let series = self.series();
        if series.is_empty() {
            return Ok(());
        }
        writeln!(out, "# HELP {NAME} {HELP}\n# TYPE {NAME} histogram")?;
        if format == Format::OpenMetrics {
            writeln!(out, "# UNIT {NAME} seconds")?;
        }
        series.iter().try_for_each(|(labels, durations)| durations.write(out, &labels.to_string(), format))
    }
}

impl Durations {
    fn write(&self, out: &mut String, labels: &str, format: Format) -> fmt::Result {
        // Taken out before anything is written: a request that is traced waits for a copy, not for a scrape.
        let exemplars = *self.exemplars.lock();
        let Counted { buckets, count, sum } = self.latencies.read();
        let mut below = 0;
        for ((bound, count), exemplar) in buckets.iter().zip(exemplars) {
            below += count;
            write!(out, "{NAME}_bucket{{{labels},le=\"{}\"}} {below}", Number(*bound, format))?;
            match exemplar.filter(|_| format == Format::OpenMetrics) {
                Some(exemplar) => writeln!(out, "{exemplar}")?,
                None => writeln!(out)?,
            }
        }
        writeln!(out, "{NAME}_sum{{{labels}}} {}", Number(sum, format))?;
        writeln!(out, "{NAME}_count{{{labels}}} {count}")
    }
}

impl fmt::Display for Exemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace, span, .. } = &self.trace;
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (took, at) =
            (Number(self.took.as_secs_f64(), Format::OpenMetrics), Number(at, Format::OpenMetrics));
        write!(f, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {took} {at}")
    }
}

impl fmt::Display for RouteLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, route, model, version } = self;
        let [method, route, model, version] = [method, route, model, version].map(|text| Escaped(text));
        write!(f, "method=\"{method}\",route=\"{route}\",model=\"{model}\",version=\"{version}\"")
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

/// A number that is no integer where OpenMetrics wants to see that: `1.0`, and `1` in the older format.
struct Number(f64, Format);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            infinite if infinite.is_infinite() => f.write_str("+Inf"),
            whole if whole.fract() == 0.0 && self.1 == Format::OpenMetrics => write!(f, "{whole}.0"),
            number => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const CALLER: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sampled() -> Option<Sampled> {
        Some((TraceContext::parse(CALLER).unwrap(), UNIX_EPOCH + Duration::from_millis(5_500)))
    }

    fn labels(route: &str) -> RouteLabels {
        let (method, model, version) = ("GET".to_owned(), "m".to_owned(), "1".to_owned());
        RouteLabels { method, route: route.to_owned(), model, version }
    }

    fn written(family: &DurationFamily, format: Format) -> String {
        let mut text = String::new();
        family.write(&mut text, format).unwrap();
        text
    }

    #[test]
    fn who_is_not_traced_needs_neither_the_exemplars_lock_nor_their_cache_lines() {
        const LINE: usize = 64;
        let durations = Durations::default();
        let held = durations.exemplars.lock();
        // On this thread: it would wait for ever for a lock that it holds itself.
        durations.observe(Duration::from_millis(1), None);
        drop(held);
        assert_eq!(durations.latencies.read().count, 1);
        let lines = |place: Range<usize>| place.start / LINE..place.end.div_ceil(LINE);
        let start = Arc::as_ptr(&durations.exemplars).addr();
        let exemplars = lines(start..start + size_of::<Exemplars>());
        let counts = lines(durations.latencies.place());
        assert!(counts.end <= exemplars.start || exemplars.end <= counts.start, "{counts:?} {exemplars:?}");
    }

    #[test]
    fn both_formats_are_as_their_specifications_have_them() {
        let family = DurationFamily::default();
        assert_eq!(written(&family, Format::OpenMetrics), "", "a family without series is not told");
        let durations = family.of(labels("/x"));
        durations.observe(Duration::from_micros(1_500_000), sampled());
        durations.observe(Duration::from_micros(30), None);
        let open = written(&family, Format::OpenMetrics);
        let head = "# HELP weir_request_duration_seconds From the request's head to its answer.\n\
                    # TYPE weir_request_duration_seconds histogram\n\
                    # UNIT weir_request_duration_seconds seconds\n\
                    weir_request_duration_seconds_bucket{method=\"GET\",route=\"/x\",model=\"m\",version=\"1\",le=\"0.000025\"} 0\n";
        assert!(open.starts_with(head), "{open}");
        let bucket = "version=\"1\",le=\"2.0\"} 2 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\",\
                      span_id=\"00f067aa0ba902b7\"} 1.5 5.5\n";
        assert!(open.contains(bucket) && open.contains("le=\"+Inf\"} 2\n"), "{open}");
        assert!(open.ends_with("_sum{method=\"GET\",route=\"/x\",model=\"m\",version=\"1\"} 1.50003\n\
                                weir_request_duration_seconds_count{method=\"GET\",route=\"/x\",model=\"m\",version=\"1\"} 2\n"), "{open}");
        let text = written(&family, Format::Text);
        assert!(
            text.contains("le=\"2\"} 2\n") && !text.contains("UNIT") && !text.contains("trace_id"),
            "{text}"
        );
    }

    #[test]
    fn the_last_that_was_traced_is_its_buckets_exemplar() {
        let durations = Durations::default();
        for millis in [3, 4, 30] {
            durations.observe(Duration::from_millis(millis), sampled());
        }
        durations.observe(Duration::from_millis(5), None);
        let kept =
            durations.exemplars.lock().iter().flatten().map(|one| one.took.as_millis()).collect::<Vec<_>>();
        assert_eq!(kept, [4, 30]);
    }

    #[test]
    fn a_route_that_holds_anything_breaks_no_line() {
        let family = DurationFamily::default();
        family.of(labels("/a\"b\\c\nd")).observe(Duration::ZERO, None);
        let text = written(&family, Format::Text);
        assert!(text.contains("route=\"/a\\\"b\\\\c\\nd\""), "{text}");
        assert_eq!(text.lines().count(), 2 + BUCKETS + 2);
    }
}
