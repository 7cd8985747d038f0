//! Metrics to the receiver: what `/metrics` says, read at an interval and sent as OTLP has it.
//!
//! One description of metrics, read twice: what is sent is the OpenMetrics text, converted as
//! OpenTelemetry's specification of its compatibility with Prometheus has it
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>). Instruments
//! of OpenTelemetry beside those of Prometheus were rejected: each request would pay twice, and the
//! two would come apart. Totals are cumulative, so that a message which is lost costs resolution only.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Exemplar as ExemplarMessage, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;
use tokio::time::{MissedTickBehavior, interval};
use weir_api::TelemetryStats;
use weir_types::Clock;

use super::{
    Telemetry,
    messages::pair,
    transport::{Otlp, Signal},
};
use crate::exposition::{self, Exemplar, Exposition, Family, Kind, Sample};

/// Reads the metrics, in the OpenMetrics format.
pub(crate) type Read = Box<dyn Fn() -> String + Send + Sync>;

struct Sender {
    read: Read,
    otlp: Arc<Otlp>,
    resource: Resource,
    stats: Arc<TelemetryStats>,
    clock: Arc<dyn Clock>,
    /// When counting began.
    start: SystemTime,
}

impl Telemetry {
    /// Sends what `read` says every `every`, from now on, and once more when the process ends. A message
    /// that does not arrive is dropped and counted: the next one has all that it had.
    pub(crate) fn send_metrics(&self, every: Duration, read: Read, clock: Arc<dyn Clock>) {
        let sender = Sender {
            read,
            otlp: self.otlp.clone(),
            resource: self.resource.clone(),
            stats: self.stats.clone(),
            start: clock.wall(),
            clock,
        };
        let (mut stop, sending) = (self.stop.subscribe(), self.sending.clone());
        self.runtime.spawn(async move {
            // Let go at the end: that ends the process.
            let _sending = sending;
            let mut ticks = interval(every);
            // One message at a time, and none to catch up.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, when there is nothing to tell yet.
            ticks.tick().await;
            loop {
                let last = tokio::select! {
                    biased;
                    // Where nobody can stop it, it is stopped.
                    _ = stop.wait_for(|stop| *stop) => true,
                    _ = ticks.tick() => false,
                };
                sender.send().await;
                if last {
                    return;
                }
            }
        });
    }
}

impl Sender {
    async fn send(&self) {
        let message = match exposition::parse((self.read)().as_bytes()) {
            Ok(exposition) => self.message(&exposition),
            Err(error) => {
                tracing::warn!(%error, "metrics cannot be sent");
                return self.lost();
            }
        };
        match self.otlp.send(Signal::Metrics, &message.encode_to_vec()).await {
            Ok(answer) => {
                let answer = ExportMetricsServiceResponse::decode(answer).unwrap_or_default();
                if answer.partial_success.is_some_and(|part| part.rejected_data_points > 0) {
                    self.lost();
                }
            }
            Err(problem) => {
                self.otlp.told(Signal::Metrics, &problem, 1);
                self.lost();
            }
        }
    }

    fn lost(&self) {
        self.stats.metrics.fetch_add(1, Ordering::Relaxed);
    }

    fn message(&self, exposition: &Exposition) -> ExportMetricsServiceRequest {
        let times = Times { start: nanos(self.start), now: nanos(self.clock.wall()) };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let scope = InstrumentationScope { name: "weir".into(), version, ..InstrumentationScope::default() };
        let metrics = metrics(exposition, times);
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics =
            vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }
}

/// What every point says, nanoseconds since 1970 began.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// One metric a family that has samples.
fn metrics(exposition: &Exposition, times: Times) -> Vec<Metric> {
    let families = exposition.families.iter().filter(|family| !family.samples.is_empty());
    families.map(|family| metric(family, times)).collect()
}

fn metric(family: &Family, times: Times) -> Metric {
    let points = || family.samples.iter().map(|sample| number(sample, times)).collect();
    let sum = |is_monotonic| {
        Data::Sum(Sum { data_points: points(), aggregation_temporality: CUMULATIVE, is_monotonic })
    };
    let (suffix, data) = match family.kind {
        Kind::Counter => ("", sum(true)),
        // The specification has an info as a sum that is not monotonic, under its sample's name.
        Kind::Info => ("_info", sum(false)),
        Kind::Histogram => ("", Data::Histogram(histogram(family, times))),
        Kind::Gauge | Kind::Summary | Kind::Unknown => ("", Data::Gauge(Gauge { data_points: points() })),
    };
    Metric {
        name: format!("{}{suffix}", family.name),
        description: family.help.clone(),
        unit: unit(&family.name).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// As UCUM writes what the name ends with.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    }
}

/// A point of a counter or gauge. Always a double, as OpenMetrics has numbers: a series that is whole
/// now and not later would be of two types, which receivers refuse.
fn number(sample: &Sample, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    }
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    // Prometheus takes an empty label for none.
    let said = labels.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| pair(name, Value::StringValue(value.clone()))).collect()
}

/// Its samples, series by series.
fn histogram(family: &Family, times: Times) -> Histogram {
    let mut series: BTreeMap<Vec<(String, String)>, HistogramDataPoint> = BTreeMap::new();
    for sample in &family.samples {
        let labels: Vec<_> = sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect();
        let point = series.entry(labels).or_insert_with_key(|labels| HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: times.start,
            time_unix_nano: times.now,
            ..HistogramDataPoint::default()
        });
        match sample.name.strip_prefix(&family.name) {
            Some("_sum") => point.sum = Some(sample.value),
            Some("_count") => point.count = sample.value as u64,
            Some("_bucket") => bucket(point, sample),
            _ => {}
        }
    }
    Histogram { data_points: series.into_values().collect(), aggregation_temporality: CUMULATIVE }
}

/// Buckets come in the order of their bounds, and count what is below too; OTLP's do not.
fn bucket(point: &mut HistogramDataPoint, sample: &Sample) {
    let below: u64 = point.bucket_counts.iter().sum();
    point.bucket_counts.push((sample.value as u64).saturating_sub(below));
    if let Some(bound) = sample.label("le").parse().ok().filter(|bound: &f64| bound.is_finite()) {
        point.explicit_bounds.push(bound);
    }
    point.exemplars.extend(sample.exemplar.as_ref().map(found_again));
}

/// An exemplar, its trace among OTLP's own fields.
fn found_again(exemplar: &Exemplar) -> ExemplarMessage {
    let label = |name| exemplar.labels.iter().find(|(n, _)| n == name).map(|(_, value)| bytes(value));
    ExemplarMessage {
        time_unix_nano: exemplar.at.map_or(0, |at| (at * 1e9) as u64),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        trace_id: label("trace_id").unwrap_or_default(),
        span_id: label("span_id").unwrap_or_default(),
        ..ExemplarMessage::default()
    }
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a What is counted.\n# TYPE a counter\na_total{x=\"1\",y=\"\"} 3\n\
        # TYPE cpu_seconds counter\n# UNIT cpu_seconds seconds\ncpu_seconds_total 0.5\n\
        # TYPE g_bytes gauge\ng_bytes 7\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
        # TYPE empty counter\n# TYPE h_seconds histogram\nh_seconds_sum{r=\"a\"} 4.5\n\
        h_seconds_count{r=\"a\"} 6\nh_seconds_bucket{le=\"1.0\",r=\"a\"} 2\n\
        h_seconds_bucket{le=\"2.0\",r=\"a\"} 5 # {trace_id=\"0af7\",span_id=\"b7\"} 1.5 2.5\n\
        h_seconds_bucket{le=\"+Inf\",r=\"a\"} 6\nh_seconds_count{r=\"b\"} 0\n# EOF\n";

    fn converted() -> BTreeMap<String, Metric> {
        let exposition = exposition::parse(TEXT.as_bytes()).unwrap();
        let metrics = metrics(&exposition, Times { start: 1, now: 9 });
        metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect()
    }

    #[test]
    fn counters_gauges_and_infos_keep_their_meaning() {
        let metrics = converted();
        assert_eq!(
            metrics.keys().collect::<Vec<_>>(),
            ["a", "build_info", "cpu_seconds", "g_bytes", "h_seconds"]
        );
        let Some(Data::Sum(a)) = &metrics["a"].data else { panic!("a counter is a sum") };
        assert!(a.is_monotonic && a.aggregation_temporality == CUMULATIVE);
        let point = &a.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 9));
        assert_eq!(point.attributes, [pair("x", Value::StringValue("1".into()))], "empty is absent");
        assert_eq!(metrics["a"].description, "What is counted.");
        assert_eq!((&*metrics["cpu_seconds"].unit, &*metrics["g_bytes"].unit), ("s", "By"));
        assert!(matches!(&metrics["g_bytes"].data, Some(Data::Gauge(_))));
        assert!(matches!(&metrics["build_info"].data, Some(Data::Sum(sum)) if !sum.is_monotonic));
    }

    #[test]
    fn a_histogram_has_counts_of_its_own_and_names_its_traces() {
        let metrics = converted();
        let Some(Data::Histogram(h)) = &metrics["h_seconds"].data else { panic!("a histogram") };
        assert_eq!(h.data_points.len(), 2, "one a series");
        let a = &h.data_points[0];
        assert_eq!((a.count, a.sum), (6, Some(4.5)));
        assert_eq!((&a.explicit_bounds[..], &a.bucket_counts[..]), (&[1.0, 2.0][..], &[2, 3, 1][..]));
        assert_eq!(
            (&a.exemplars[0].trace_id[..], &a.exemplars[0].span_id[..]),
            (&[0x0a, 0xf7][..], &[0xb7][..])
        );
        assert_eq!(a.exemplars[0].time_unix_nano, 2_500_000_000);
    }
}
