//! The parts of the page.

use std::fmt::Write;

use super::{
    axis::{Axis, number},
    plot::{Line, Plot, escape},
};
use crate::{
    find::{Found, Verdict},
    outcome::Outcome,
    plan::Shape,
    result::{Latency, Measured, Point},
};

pub(super) fn ms(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// What the loop is and what its latency means.
pub(super) fn loop_words(m: &Measured) -> String {
    match &m.shape {
        Shape::Open { .. } => {
            "Open loop: requests were sent when they were due, and latency counts from then".into()
        }
        Shape::Closed { .. } => format!(
            "Closed loop: {} connections, each sending as soon as it had its answer; latency counts from sending",
            m.generator.connections
        ),
    }
}

/// The figures that matter most.
pub(super) fn tiles(m: &Measured) -> String {
    let mut tiles = vec![
        ("requests/s offered", number(m.offered_per_s)),
        ("requests/s answered rightly", number(m.ok_per_s)),
    ];
    if m.deadline_ms.is_some() {
        tiles.push(("requests/s within the deadline", number(m.goodput_per_s)));
    }
    if m.latency.count > 0 {
        tiles.push(("p50, ms", ms(m.latency.p50_ms)));
        tiles.push(("p99, ms", ms(m.latency.p99_ms)));
    }
    let bad = m.requests - m.count(Outcome::Ok) - m.count(Outcome::Refused);
    tiles.push(("refused", format!("{:.2} %", m.share(Outcome::Refused) * 100.0)));
    tiles.push(("failed or wrong", format!("{:.2} %", bad as f64 / m.requests.max(1) as f64 * 100.0)));
    let tile = |(name, value): &(&str, String)| format!("<li><b>{}</b>{}</li>", escape(value), escape(name));
    format!("<ul class=\"tiles\">{}</ul>\n", tiles.iter().map(tile).collect::<String>())
}

/// The interval's width, where points sit: a step at its middle would hide how wide it is.
fn over_time(m: &Measured, value: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, f64)> {
    let width = m.series.get(1).map_or(m.seconds, |second| second.at);
    let point = |p: &Point| Some(((p.at + width / 2.0).min(m.seconds), value(p)?));
    m.series.iter().filter_map(point).collect()
}

fn deadline(m: &Measured) -> Option<(f64, String)> {
    m.deadline_ms.map(|deadline| (deadline, format!("deadline {} ms", ms(deadline))))
}

/// The range of values above 0.
pub(super) fn range<'a>(lines: impl Iterator<Item = &'a Line>, more: Option<f64>) -> (f64, f64) {
    let values = lines.flat_map(|l| l.points.iter().map(|p| p.1)).chain(more).filter(|v| *v > 0.0);
    values.fold((f64::INFINITY, 0.0), |(low, high), v| (low.min(v), f64::max(high, v)))
}

/// Percentiles over time, on a logarithmic scale: a stall and the usual are both seen.
pub(super) fn latency_over_time(m: &Measured) -> String {
    let of = |get: fn(&Latency) -> f64| {
        over_time(m, |point| (point.latency.count > 0).then(|| get(&point.latency)))
    };
    let lines = vec![
        Line::new("max", "d", of(|l| l.max_ms)),
        Line::new("p99", "b", of(|l| l.p99_ms)),
        Line::new("p90", "f", of(|l| l.p90_ms)),
        Line::new("p50", "a", of(|l| l.p50_ms)),
    ];
    let (low, high) = range(lines.iter(), m.deadline_ms);
    Plot {
        title: "Latency of right answers, by when requests were due",
        x: (Axis::time(0.0, m.seconds), "seconds since the warm-up"),
        y: (Axis::log(low, high), "milliseconds"),
        lines,
        level: deadline(m),
    }
    .figure()
}

/// What was due and what became of it, over time.
pub(super) fn throughput_over_time(m: &Measured) -> String {
    let of = |get: fn(&Point) -> f64| over_time(m, |point| Some(get(point)));
    let good = if m.deadline_ms.is_some() { "right, within the deadline" } else { "right answers" };
    let mut lines = vec![
        Line::new("answers as they came", "a", of(|p| p.answered_per_s)),
        Line::new(good, "e", of(|p| p.goodput_per_s)),
    ];
    // Lines along the bottom say nothing.
    if m.series.iter().any(|p| p.refused_per_s > 0.0) {
        lines.push(Line::new("refused", "b", of(|p| p.refused_per_s)));
    }
    if m.series.iter().any(|p| p.failed_per_s > 0.0) {
        lines.push(Line::new("failed or wrong", "c", of(|p| p.failed_per_s)));
    }
    // Dashed and on top: where all is well the others lie under it.
    lines.push(Line::new("due", "d", of(|p| p.offered_per_s)));
    let (_, high) = range(lines.iter(), None);
    Plot {
        title: "Throughput",
        x: (Axis::time(0.0, m.seconds), "seconds since the warm-up"),
        y: (Axis::linear(0.0, high), "requests a second"),
        lines,
        level: None,
    }
    .figure()
}

/// Latency by percentile.
pub(super) fn curve(m: &Measured) -> String {
    let last = m.curve.iter().rev().map(|(share, _)| *share).find(|share| *share < 1.0).unwrap_or(0.9);
    let axis = Axis::nines(1.0 - (1.0 - last) / 1.3);
    let lines = vec![Line::new("right answers", "a", m.curve.clone())];
    let (low, high) = range(lines.iter(), m.deadline_ms);
    Plot {
        title: "Latency by percentile",
        x: (axis, "share of right answers that were as fast"),
        y: (Axis::log(low, high), "milliseconds"),
        lines,
        level: deadline(m),
    }
    .figure()
}

/// The steps of a search for the highest rate.
pub(super) fn search(found: &Found) -> String {
    let of = |verdict: Verdict| {
        let steps = found.steps.iter().filter(|s| s.verdict == verdict && s.measured.latency.count > 0);
        steps.map(|s| (s.rate, s.measured.latency.p99_ms)).collect()
    };
    let dots = |name, class, verdict| Line { dots: true, ..Line::new(name, class, of(verdict)) };
    let lines = vec![
        dots("met", "e", Verdict::Met),
        dots("missed", "c", Verdict::Missed),
        dots("generator too slow", "d", Verdict::Unknown),
    ];
    let (low, high) = range(lines.iter(), None);
    let rates = || found.steps.iter().map(|s| s.rate);
    let x = Axis::log(rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
    let plot = Plot {
        title: "Rates that were tried",
        x: (x, "requests a second"),
        y: (Axis::log(low, high), "p99 of right answers, milliseconds"),
        lines,
        level: None,
    };
    let mut out = plot.figure();
    out.push_str("<table><tr><th>rate</th><th>ok/s</th><th>goodput</th><th>p50, ms</th><th>p99, ms</th><th>verdict</th></tr>");
    for step in &found.steps {
        let m = &step.measured;
        let verdict = match step.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Unknown => "generator too slow",
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{:.2} %</td><td>{}</td><td>{}</td><td>{verdict}</td></tr>",
            number(step.rate),
            number(m.ok_per_s),
            m.goodput * 100.0,
            ms(m.latency.p50_ms),
            ms(m.latency.p99_ms)
        );
    }
    out.push_str("</table>\n");
    out
}

/// Latencies, outcomes and the generator, as numbers.
pub(super) fn tables(m: &Measured) -> String {
    let mut out = String::from(
        "<table><tr><th>latency, ms</th><th>requests</th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th></tr>",
    );
    for (name, l) in [("right answers", &m.latency), ("refused", &m.refused), ("all others", &m.failed)] {
        if l.count == 0 {
            continue;
        }
        let _ = write!(out, "<tr><td>{name}</td><td>{}</td>", l.count);
        for value in [l.mean_ms, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms] {
            let _ = write!(out, "<td>{}</td>", ms(value));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table><table><tr><th>outcome</th><th>requests</th><th>share</th></tr>");
    for outcome in Outcome::ALL.into_iter().filter(|o| m.count(*o) > 0) {
        let share = m.share(outcome) * 100.0;
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{share:.2} %</td></tr>",
            outcome.word(),
            m.count(outcome)
        );
    }
    for (words, count) in &m.failures {
        let _ = write!(out, "<tr><td class=\"soft\">{}</td><td>{count}</td><td></td></tr>", escape(words));
    }
    let g = &m.generator;
    let _ = writeln!(
        out,
        "</table><table><tr><th>generator</th><th>core used</th><th>late p50, ms</th><th>late p99, ms</th>\
         <th>late max, ms</th><th>waited for a connection</th></tr><tr><td>{} thread(s), up to {} in flight</td>\
         <td>{:.0} %</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr></table>",
        g.threads,
        g.connections,
        g.cpu * 100.0,
        ms(g.lag_p50_ms),
        ms(g.lag_p99_ms),
        ms(g.lag_max_ms),
        g.waited
    );
    out
}
