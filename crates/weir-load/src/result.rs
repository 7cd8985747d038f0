//! What was measured, in the form of the JSON report.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::{
    drive::Share,
    outcome::Outcome,
    plan::{Face, Plan, Shape},
    record::{Interval, Recorder},
};

/// A generator that comes late to more than a hundredth of its requests, by more than this and by
/// more than this share of the latency that it measured, measured itself.
const LATE_MS: f64 = 1.0;
const LATE_SHARE: f64 = 0.2;
/// A thread this busy has no time left.
const BUSY: f64 = 0.95;

/// Everything a load found out.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// How requests were written.
    pub face: Face,
    /// When they were sent.
    pub shape: Shape,
    /// What good answers keep, milliseconds.
    pub deadline_ms: Option<f64>,
    /// Seconds that count, warm-up excluded.
    pub seconds: f64,
    /// Requests that were due in them.
    pub requests: u64,
    /// Requests due a second.
    pub offered_per_s: f64,
    /// Right answers a second.
    pub ok_per_s: f64,
    /// Right answers within the deadline a second.
    pub goodput_per_s: f64,
    /// Right answers within the deadline, of all requests due, in `[0, 1]`.
    pub goodput: f64,
    /// Rows answered rightly a second.
    pub rows_per_s: f64,
    /// Requests by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Times that requests were sent, retries included.
    pub attempts: u64,
    /// Of the refusals, how many said when to come back.
    pub refused_with_retry_after: u64,
    /// Latency of right answers.
    pub latency: Latency,
    /// Latency of refusals.
    pub refused: Latency,
    /// Latency of everything else.
    pub failed: Latency,
    /// What went wrong, and how often; the first kinds only.
    pub failures: BTreeMap<String, u64>,
    /// How the generator itself did.
    pub generator: Generator,
    /// What happened over time.
    pub series: Vec<Point>,
    /// Latency of right answers against the share of requests that were as fast.
    pub curve: Vec<(f64, f64)>,
    #[serde(skip)]
    histogram: Histogram<u64>,
}

/// Percentiles, milliseconds; of nothing, zeros.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean_ms: f64,
    /// Half are this fast.
    pub p50_ms: f64,
    /// 90 in 100 are.
    pub p90_ms: f64,
    /// 95 in 100 are.
    pub p95_ms: f64,
    /// 99 in 100 are.
    pub p99_ms: f64,
    /// 999 in 1,000 are.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// How the generator did: what it cannot keep up with it must not blame on the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generator {
    /// Threads.
    pub threads: usize,
    /// Most requests in flight.
    pub connections: usize,
    /// The busiest thread's share of a core.
    pub cpu: f64,
    /// From due to handled by the generator, milliseconds.
    pub lag_p50_ms: f64,
    /// The same, 99 in 100.
    pub lag_p99_ms: f64,
    /// The same, the worst.
    pub lag_max_ms: f64,
    /// Requests that found every connection busy.
    pub waited: u64,
    /// Why these figures tell of the generator rather than of the server, if they do.
    pub bottleneck: Option<String>,
}

/// Requests that were due in one interval of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Where the interval begins, seconds.
    pub at: f64,
    /// Requests due a second.
    pub offered_per_s: f64,
    /// Answers that came a second, whenever their requests were due.
    pub answered_per_s: f64,
    /// Of those due here, right answers within the deadline a second.
    pub goodput_per_s: f64,
    /// Of those due here, refusals a second.
    pub refused_per_s: f64,
    /// Of those due here, everything else that was not right a second.
    pub failed_per_s: f64,
    /// Percentiles of the right answers.
    pub latency: Latency,
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

impl Latency {
    fn of<C: Counter>(histogram: &Histogram<C>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean_ms: histogram.mean() / 1e6,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

impl Measured {
    pub(crate) fn new(plan: &Plan, shares: Vec<Share>) -> Self {
        let cpu = shares.iter().map(|s| s.cpu.as_secs_f64() / s.took.as_secs_f64().max(1e-9));
        let cpu = cpu.fold(0.0, f64::max);
        let mut recorders = shares.into_iter().map(|share| share.recorder);
        let mut all = recorders.next().unwrap_or_else(|| Recorder::new(plan.measured(), plan.deadline));
        recorders.for_each(|other| all.merge(&other));
        let seconds = plan.measured().as_secs_f64();
        let requests: u64 = all.outcomes.iter().sum();
        let a_second = |n: u64| n as f64 / seconds.max(1e-9);
        Self {
            face: plan.target.face,
            shape: plan.shape.clone(),
            deadline_ms: plan.deadline.map(|d| d.as_secs_f64() * 1e3),
            seconds,
            requests,
            offered_per_s: a_second(requests),
            ok_per_s: a_second(all.outcomes[Outcome::Ok.index()]),
            goodput_per_s: a_second(all.good),
            goodput: all.good as f64 / requests.max(1) as f64,
            rows_per_s: a_second(all.rows),
            outcomes: Outcome::ALL.map(|o| (o.word(), all.outcomes[o.index()])).into(),
            attempts: all.attempts,
            refused_with_retry_after: all.retry_after,
            latency: Latency::of(&all.ok),
            refused: Latency::of(&all.refused),
            failed: Latency::of(&all.failed),
            generator: Generator::new(plan, &all, cpu),
            series: series(&all, seconds),
            curve: curve(&all.ok),
            histogram: all.ok,
            failures: all.failures,
        }
    }

    /// The share of all requests due that were answered rightly within so many milliseconds, to
    /// the precision of the histogram (three digits).
    pub fn within(&self, bound: f64) -> f64 {
        let at_most = self.histogram.count_between(0, (bound * 1e6) as u64);
        at_most.min(self.latency.count) as f64 / self.requests.max(1) as f64
    }

    /// How many requests had this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.word()).copied().unwrap_or_default()
    }

    /// The share of requests with this outcome, in `[0, 1]`.
    pub fn share(&self, outcome: Outcome) -> f64 {
        self.count(outcome) as f64 / self.requests.max(1) as f64
    }
}

impl Generator {
    fn new(plan: &Plan, all: &Recorder, cpu: f64) -> Self {
        let lag = |quantile| ms(all.lag.value_at_quantile(quantile));
        let mut generator = Self {
            threads: plan.threads,
            connections: plan.connections,
            cpu,
            lag_p50_ms: lag(0.5),
            lag_p99_ms: lag(0.99),
            lag_max_ms: ms(all.lag.max()),
            waited: all.waited,
            bottleneck: None,
        };
        let answered = if all.ok.is_empty() { &all.refused } else { &all.ok };
        generator.bottleneck = generator.verdict(ms(answered.value_at_quantile(0.99)));
        generator
    }

    fn verdict(&self, measured_ms: f64) -> Option<String> {
        if self.lag_p99_ms > LATE_MS.max(LATE_SHARE * measured_ms) {
            return Some(format!(
                "it came {:.1} ms late to one request in a hundred, of a p99 of {measured_ms:.1} ms: give it a core \
                 of its own, a second thread, or a lower rate",
                self.lag_p99_ms
            ));
        }
        (self.cpu >= BUSY).then(|| {
            format!("its busiest thread used {:.0} % of a core: give it a second thread", self.cpu * 100.0)
        })
    }
}

fn series(all: &Recorder, seconds: f64) -> Vec<Point> {
    let width = all.width().as_secs_f64();
    let point = |(i, interval): (usize, &Interval)| {
        let at = i as f64 * width;
        // The last interval may be shorter than the others.
        let long = width.min(seconds - at).max(1e-3);
        let rate = |n: u64| n as f64 / long;
        let ok = interval.outcomes[Outcome::Ok.index()];
        let refused = interval.outcomes[Outcome::Refused.index()];
        Point {
            at,
            offered_per_s: rate(interval.due),
            answered_per_s: rate(interval.completed),
            goodput_per_s: rate(interval.good),
            refused_per_s: rate(refused),
            failed_per_s: rate(interval.due - ok - refused),
            latency: Latency::of(&interval.latency),
        }
    };
    all.intervals.iter().enumerate().map(point).collect()
}

/// Points `(share, milliseconds)` closer together towards 1, where the interesting part is.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    // From 1 − 10^0 to 1 − 10^-6, as far as there are that many requests.
    let steps = (1..=120).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 20.0));
    let enough = |q: &f64| (1.0 - q) * histogram.len() as f64 >= 1.0;
    let mut points: Vec<(f64, f64)> =
        steps.take_while(enough).map(|q| (q, ms(histogram.value_at_quantile(q)))).collect();
    points.push((1.0, ms(histogram.max())));
    points
}

/// So many right answers and refusals, each of so many milliseconds, in ten seconds.
#[cfg(test)]
pub(crate) fn fake(ok: u64, ok_ms: u64, refused: u64, refused_ms: u64) -> Measured {
    use std::time::Duration;

    use crate::{plan::*, record::Finished};
    let plan = Plan {
        target: Target {
            address: ([127, 0, 0, 1], 1).into(),
            host: "h".into(),
            path: "/".into(),
            face: Face::Typed,
        },
        traffic: Traffic { pool: Vec::new(), repeat: 1.0, fresh: None },
        shape: Shape::Closed { seconds: 10.0 },
        connections: 1,
        threads: 1,
        warmup: Duration::ZERO,
        deadline: None,
        timeout: Duration::from_secs(10),
        retries: 0,
        seed: 0,
    };
    let mut recorder = Recorder::new(plan.measured(), None);
    let groups = [(ok, ok_ms, Outcome::Ok), (refused, refused_ms, Outcome::Refused)];
    for (i, (ms, outcome)) in
        groups.into_iter().flat_map(|(n, ms, o)| (0..n).map(move |_| (ms, o))).enumerate()
    {
        let due = Duration::from_millis(i as u64 % 10_000);
        let latency = Duration::from_millis(ms);
        let (attempts, retry_after, rows) = (1, outcome == Outcome::Refused, 1);
        recorder.finished(&Finished {
            due: Some(due),
            done: due + latency,
            latency,
            outcome,
            attempts,
            retry_after,
            rows,
        });
    }
    Measured::new(&plan, vec![Share { recorder, cpu: Duration::ZERO, took: Duration::from_secs(10) }])
}
