//! What one look at a server's `/metrics` says, and what two say together.

use std::{collections::BTreeMap, time::Duration};

use super::histogram::Buckets;
use crate::exposition::{Exposition, Sample};

/// Most models that are shown; the rest are counted in the total only.
const MAX_MODELS: usize = 1_000;

/// Totals since the server started, and what holds now.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Figures {
    pub(super) server: ServerFigures,
    /// By the model's name; the empty name has the routes without a model.
    pub(super) models: BTreeMap<String, BTreeMap<Labels, SeriesFigures>>,
}

/// What tells the series of a model apart: its versions, routes, codes. Of a histogram, without the
/// bound.
type Labels = Vec<(String, String)>;

/// Of the process.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ServerFigures {
    pub(super) version: String,
    pub(super) ready: Option<bool>,
    pub(super) in_flight: f64,
    pub(super) connections: f64,
    pub(super) resident_bytes: f64,
    pub(super) cpu_seconds: f64,
}

/// What is counted: in all, or a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Counts {
    pub(super) requests: f64,
    /// Answered with a status of 500 or more.
    pub(super) errors: f64,
    pub(super) refused: f64,
    pub(super) executions: f64,
    pub(super) executed_rows: f64,
    pub(super) cache_hits: f64,
    /// Requests of which the cache was asked.
    pub(super) cache_asked: f64,
}

impl Counts {
    /// Each of these beside that of `other`.
    fn with(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            errors: combine(self.errors, other.errors),
            refused: combine(self.refused, other.refused),
            executions: combine(self.executions, other.executions),
            executed_rows: combine(self.executed_rows, other.executed_rows),
            cache_hits: combine(self.cache_hits, other.cache_hits),
            cache_asked: combine(self.cache_asked, other.cache_asked),
        }
    }
}

/// Of the series with the same labels. Kept apart until they are compared with those of the look
/// before: of a sum that falls nobody can tell whether the server started anew or a version is gone.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct SeriesFigures {
    pub(super) counts: Counts,
    pub(super) queue: f64,
    pub(super) latency: Buckets,
    /// Whether the server says that it answers.
    pub(super) ready: Option<bool>,
}

impl Figures {
    /// Picks what is shown.
    pub(super) fn of(exposition: &Exposition) -> Self {
        let mut figures = Self::default();
        for sample in exposition.families.iter().flat_map(|family| &family.samples) {
            figures.server.read(sample);
            let name = sample.label("model");
            let known = figures.models.contains_key(name);
            if (known || figures.models.len() < MAX_MODELS) && sample.labels.iter().any(|(n, _)| n == "model")
            {
                let labels = sample.labels.iter().filter(|(label, _)| label != "le").cloned().collect();
                let model = figures.models.entry(name.to_owned()).or_default();
                model.entry(labels).or_default().read(sample);
            }
        }
        figures
    }
}

impl ServerFigures {
    fn read(&mut self, sample: &Sample) {
        match sample.name.as_str() {
            "weir_build_info" => self.version = sample.label("version").to_owned(),
            "weir_ready" => self.ready = Some(sample.value > 0.0),
            "weir_requests_in_flight" => self.in_flight = sample.value,
            "weir_connections" => self.connections += sample.value,
            "process_resident_memory_bytes" => self.resident_bytes = sample.value,
            "process_cpu_seconds_total" => self.cpu_seconds = sample.value,
            _ => {}
        }
    }
}

impl SeriesFigures {
    fn read(&mut self, sample: &Sample) {
        let (value, counts) = (sample.value, &mut self.counts);
        match sample.name.as_str() {
            "weir_requests_total" => {
                counts.requests += value;
                counts.errors += if sample.label("code").starts_with('5') { value } else { 0.0 };
            }
            "weir_request_duration_seconds_bucket" => {
                self.latency.add(sample.label("le").parse().unwrap_or(f64::NAN), value);
            }
            "weir_refused_total" => counts.refused += value,
            "weir_queue_length" => self.queue += value,
            "weir_batch_rows_count" => counts.executions += value,
            "weir_batch_rows_sum" => counts.executed_rows += value,
            "weir_model_ready" => self.ready = Some(value > 0.0),
            "weir_cache_answers_total" => match sample.label("outcome") {
                "hit" => {
                    (counts.cache_hits, counts.cache_asked) =
                        (counts.cache_hits + value, counts.cache_asked + value)
                }
                "partial" | "miss" => counts.cache_asked += value,
                _ => {}
            },
            _ => {}
        }
    }
}

/// What happened between two looks at one server, or at several of them at about the same time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Rates {
    pub(super) in_flight: f64,
    pub(super) connections: f64,
    pub(super) resident_bytes: f64,
    /// CPU seconds a second.
    pub(super) cores: f64,
    pub(super) models: BTreeMap<String, ModelRates>,
}

/// A second, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ModelRates {
    pub(super) counts: Counts,
    /// Requests that wait now.
    pub(super) queue: f64,
    /// Counts within the interval.
    pub(super) latency: Buckets,
    /// On how many of the servers it does not answer.
    pub(super) away: usize,
}

impl Rates {
    /// From `earlier` to `now`, which lie `apart`.
    pub(super) fn between(earlier: &Figures, now: &Figures, apart: Duration) -> Self {
        let (no_model, no_series) = (BTreeMap::new(), SeriesFigures::default());
        let models = now.models.iter().map(|(name, model)| {
            let before = earlier.models.get(name).unwrap_or(&no_model);
            let mut rates = ModelRates::default();
            for (labels, series) in model {
                let before = before.get(labels).unwrap_or(&no_series);
                rates.add(&ModelRates::between(before, series, apart));
            }
            (name.clone(), rates)
        });
        Self {
            in_flight: now.server.in_flight,
            connections: now.server.connections,
            resident_bytes: now.server.resident_bytes,
            cores: rate(earlier.server.cpu_seconds, now.server.cpu_seconds, apart),
            models: models.collect(),
        }
    }

    /// Adds what happened on another server.
    pub(super) fn add(&mut self, other: &Self) {
        self.in_flight += other.in_flight;
        self.connections += other.connections;
        self.resident_bytes += other.resident_bytes;
        self.cores += other.cores;
        for (name, model) in &other.models {
            self.models.entry(name.clone()).or_default().add(model);
        }
    }

    /// All models together; not the routes without one, such as probes.
    pub(super) fn total(&self) -> ModelRates {
        let mut total = ModelRates::default();
        self.models.iter().filter(|(name, _)| !name.is_empty()).for_each(|(_, model)| total.add(model));
        total
    }
}

impl ModelRates {
    /// Of one series.
    fn between(earlier: &SeriesFigures, now: &SeriesFigures, apart: Duration) -> Self {
        Self {
            counts: earlier.counts.with(&now.counts, |earlier, now| rate(earlier, now, apart)),
            queue: now.queue,
            latency: now.latency.since(&earlier.latency),
            away: usize::from(now.ready == Some(false)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.counts = self.counts.with(&other.counts, |one, other| one + other);
        self.queue += other.queue;
        self.latency = self.latency.and(&other.latency);
        self.away += other.away;
    }

    /// The share of requests that failed by the server's fault; `None` where none came.
    pub(super) fn error_share(&self) -> Option<f64> {
        share(self.counts.errors, self.counts.requests)
    }

    /// The share of requests that the cache answered alone; `None` where it was not asked.
    pub(super) fn hit_share(&self) -> Option<f64> {
        share(self.counts.cache_hits, self.counts.cache_asked)
    }

    /// Rows of an execution; `None` where there was none.
    pub(super) fn batch_rows(&self) -> Option<f64> {
        share(self.counts.executed_rows, self.counts.executions)
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}

/// A second. A counter that went back started anew.
fn rate(earlier: f64, now: f64, apart: Duration) -> f64 {
    let more = if now < earlier { now } else { now - earlier };
    more / apart.as_secs_f64().max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::top::histogram::Quantile, exposition};

    fn figures(text: &str) -> Figures {
        Figures::of(&exposition::parse(text.as_bytes()).unwrap())
    }

    const EARLIER: &str = "weir_build_info{version=\"9\"} 1\nweir_ready 1\nprocess_cpu_seconds_total 1\n\
        weir_requests_total{model=\"a\",code=\"200\"} 10\nweir_requests_total{model=\"\",code=\"200\"} 7\n\
        weir_request_duration_seconds_bucket{le=\"0.1\",model=\"a\"} 10\n\
        weir_request_duration_seconds_bucket{le=\"+Inf\",model=\"a\"} 10\n";
    const NOW: &str = "weir_build_info{version=\"9\"} 1\nweir_ready 0\nprocess_cpu_seconds_total 4\n\
        weir_connections{listener=\"public\"} 3\nweir_connections{listener=\"grpc\"} 2\n\
        weir_requests_total{model=\"a\",code=\"200\"} 25\nweir_requests_total{model=\"a\",code=\"503\"} 5\n\
        weir_requests_total{model=\"\",code=\"200\"} 9\nweir_queue_length{model=\"a\",version=\"1\"} 2\n\
        weir_queue_length{model=\"a\",version=\"2\"} 1\nweir_model_ready{model=\"b\"} 0\n\
        weir_cache_answers_total{model=\"a\",outcome=\"hit\"} 3\n\
        weir_cache_answers_total{model=\"a\",outcome=\"miss\"} 1\n\
        weir_cache_answers_total{model=\"a\",outcome=\"bypassed\"} 6\n\
        weir_batch_rows_sum{model=\"a\"} 12\nweir_batch_rows_count{model=\"a\"} 4\n\
        weir_request_duration_seconds_bucket{le=\"0.1\",model=\"a\"} 10\n\
        weir_request_duration_seconds_bucket{le=\"+Inf\",model=\"a\"} 30\n";

    #[test]
    fn two_looks_make_rates() {
        let now = figures(NOW);
        assert_eq!(
            (now.server.version.as_str(), now.server.ready, now.server.connections),
            ("9", Some(false), 5.0)
        );
        let rates = Rates::between(&figures(EARLIER), &now, Duration::from_secs(2));
        let a = &rates.models["a"];
        assert_eq!((a.counts.requests, a.counts.errors, a.queue, rates.cores), (10.0, 2.5, 3.0, 1.5));
        assert_eq!((a.error_share(), a.hit_share(), a.batch_rows()), (Some(0.25), Some(0.75), Some(3.0)));
        assert_eq!(a.latency.quantile(0.5), Some(Quantile::MoreThan(0.1)), "what came before does not count");
        assert_eq!((rates.models["b"].away, rates.models["b"].error_share()), (1, None));
        assert_eq!(rates.total().counts.requests, 10.0, "probes are no predictions");
        assert_eq!(rates.models[""].counts.requests, 1.0);
    }

    #[test]
    fn a_restart_makes_no_negative_rate() {
        let rates = Rates::between(&figures(NOW), &figures(EARLIER), Duration::from_secs(1));
        assert_eq!(rates.models["a"].counts.requests, 10.0);
        assert_eq!(rates.cores, 1.0);
    }

    #[test]
    fn a_version_that_is_unloaded_is_no_restart() {
        let version = |number: u32, requests: u32| {
            let labels = format!("model=\"a\",version=\"{number}\"");
            format!(
                "weir_requests_total{{{labels},code=\"200\"}} {requests}\n\
                 weir_request_duration_seconds_bucket{{{labels},le=\"0.1\"}} {requests}\n\
                 weir_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {requests}\n"
            )
        };
        let earlier = figures(&(version(1, 9_000) + &version(2, 50)));
        let rates = Rates::between(&earlier, &figures(&version(2, 60)), Duration::from_secs(1));
        let a = &rates.models["a"];
        assert_eq!(a.counts.requests, 10.0, "those of version 2 within the second");
        let mut ten = Buckets::default();
        [0.1, f64::INFINITY].into_iter().for_each(|bound| ten.add(bound, 10.0));
        assert_eq!(a.latency, ten);
        let both = figures(&(version(2, 60) + &version(3, 5)));
        let rates = Rates::between(&figures(&version(2, 55)), &both, Duration::from_secs(1));
        assert_eq!(rates.models["a"].counts.requests, 10.0, "one that is new counts whole");
    }

    #[test]
    fn replicas_add_up() {
        let rates = Rates::between(&figures(EARLIER), &figures(NOW), Duration::from_secs(2));
        let mut both = rates.clone();
        both.add(&rates);
        assert_eq!((both.models["a"].counts.requests, both.models["b"].away, both.cores), (20.0, 2, 3.0));
        assert_eq!(both.models["a"].hit_share(), rates.models["a"].hit_share());
    }

    #[test]
    fn the_number_of_models_has_a_bound() {
        let many: String = (0..5_000).map(|i| format!("weir_requests_total{{model=\"m{i}\"}} 1\n")).collect();
        assert_eq!(figures(&many).models.len(), MAX_MODELS);
    }
}
