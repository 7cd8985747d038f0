//! What a load looks like on a terminal.

use std::time::Duration;

use weir_load::{Found, Glance, Latency, Measured, Objective, Outcome, Shape, Step, Verdict};

use crate::output::Output;

/// A number of requests or rows a second, with as many digits as help.
pub(in crate::commands) fn rate(value: f64) -> String {
    match value {
        v if v >= 100.0 => grouped(v.round() as u64),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// 12345 as 12,345.
pub(in crate::commands) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let lead = digits.len() % 3;
    let mut out = digits.get(..lead).unwrap_or_default().to_owned();
    for group in digits.as_bytes().get(lead..).unwrap_or_default().chunks(3) {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(group.iter().map(|b| char::from(*b)));
    }
    out
}

pub(in crate::commands) fn ms(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// The live line: what happened since the last one.
pub(super) fn progress(
    at: Duration,
    whole: Duration,
    now: &Glance,
    before: &Glance,
    since: Duration,
) -> String {
    let new = now.since(before);
    let a_second = |n: u64| rate(n as f64 / since.as_secs_f64().max(1e-3));
    let bad = new.ended().saturating_sub(new.done[0] + new.done[2]);
    format!(
        "{:3.0}/{:.0} s  due {}/s  ok {}/s  refused {}/s  failed {}/s  mean {} ms  in flight {}",
        at.as_secs_f64(),
        whole.as_secs_f64(),
        a_second(new.due),
        a_second(new.done[0]),
        a_second(new.done[2]),
        a_second(bad),
        ms(new.mean().as_secs_f64() * 1e3),
        // Counters are read one after the other while they grow.
        grouped(now.due.saturating_sub(now.ended())),
    )
}

/// The tables at the end.
pub(super) fn measured(m: &Measured, output: &Output) {
    let loop_name = match m.shape {
        Shape::Open { .. } => "open loop: latency counts from when a request was due",
        Shape::Closed { .. } => "closed loop: latency counts from when a request was sent",
    };
    output.heading(loop_name);
    let mut rows = vec![
        ("requests", format!("{} in {:.1} s", grouped(m.requests), m.seconds)),
        ("offered", format!("{}/s", rate(m.offered_per_s))),
        ("ok", format!("{}/s", rate(m.ok_per_s))),
    ];
    if m.rows_per_s > m.ok_per_s * 1.001 {
        rows.push(("rows", format!("{}/s", rate(m.rows_per_s))));
    }
    if let Some(deadline) = m.deadline_ms {
        let share = format!("{:.2} % within {} ms", m.goodput * 100.0, ms(deadline));
        rows.push(("goodput", format!("{}/s, {share}", rate(m.goodput_per_s))));
    }
    if m.attempts > m.requests {
        rows.push(("sent", format!("{} times, retries included", grouped(m.attempts))));
    }
    output.pairs(&rows);
    outcomes(m, output);
    latencies(m, output);
    generator(m, output);
}

fn outcomes(m: &Measured, output: &Output) {
    let row = |outcome: &Outcome| {
        let count = m.count(*outcome);
        let share = format!("{:.2} %", m.share(*outcome) * 100.0);
        (count > 0).then(|| vec![outcome.word().to_owned(), grouped(count), share])
    };
    output.table(&["outcome", "requests", "share"], &Outcome::ALL.iter().filter_map(row).collect::<Vec<_>>());
    let refused = m.count(Outcome::Refused);
    if refused > 0 && m.refused_with_retry_after < refused {
        output.line(&format!(
            "  {} refusals without Retry-After",
            grouped(refused - m.refused_with_retry_after)
        ));
    }
    for (words, count) in &m.failures {
        output.line(&format!("  {} × {words}", grouped(*count)));
    }
}

fn latencies(m: &Measured, output: &Output) {
    let kinds = [("ok", &m.latency), ("refused", &m.refused), ("failed", &m.failed)];
    let row = |(name, l): &(&str, &Latency)| {
        let cells = [l.mean_ms, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms].map(ms);
        (l.count > 0).then(|| [vec![(*name).to_owned()], cells.to_vec()].concat())
    };
    let header = ["latency, ms", "mean", "p50", "p90", "p99", "p99.9", "max"];
    output.table(&header, &kinds.iter().filter_map(row).collect::<Vec<_>>());
}

fn generator(m: &Measured, output: &Output) {
    let g = &m.generator;
    let mut words = format!("{:.0} % of a core", g.cpu * 100.0);
    if matches!(m.shape, Shape::Open { .. }) {
        words.push_str(&format!(", {} ms late at p99, {} ms at most", ms(g.lag_p99_ms), ms(g.lag_max_ms)));
    }
    output.pairs(&[("generator", words)]);
    if g.waited > 0 {
        output.line(&format!(
            "  {} requests found all {} connections busy; their wait is in the latency",
            grouped(g.waited),
            grouped(g.connections as u64)
        ));
    }
    if let Some(why) = &g.bottleneck {
        output.line(&format!("  the generator was the bottleneck: {why}"));
    }
}

const SEARCH: [&str; 7] =
    ["      rate", "   ok/s", " goodput", "   p50 ms", "   p99 ms", "refused", "verdict"];

/// The head of the search's table.
pub(super) fn search_head(output: &Output) {
    output.heading(&SEARCH.join("  "));
}

/// One step of the search.
pub(super) fn step(step: &Step, output: &Output) {
    let m = &step.measured;
    let verdict = match step.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Unknown => "the generator was too slow",
    };
    let cells = [
        rate(step.rate),
        rate(m.ok_per_s),
        format!("{:.2} %", m.goodput * 100.0),
        ms(m.latency.p50_ms),
        ms(m.latency.p99_ms),
        grouped(m.count(Outcome::Refused)),
    ];
    let padded: Vec<String> =
        cells.iter().zip(SEARCH).map(|(cell, head)| format!("{cell:>width$}", width = head.len())).collect();
    output.line(&format!("{}  {verdict}", padded.join("  ")));
}

/// What the search found, in a sentence.
pub(super) fn answer(found: &Found, objectives: &[Objective]) -> String {
    let kept = objectives.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    match (found.rate, found.bounded) {
        (Some(best), true) => format!("{} requests/s keep {kept}", rate(best)),
        (Some(best), false) => {
            format!("at least {} requests/s keep {kept}: the generator could send no more", rate(best))
        }
        (None, true) => format!("no rate that was tried keeps {kept}"),
        (None, false) => format!("nothing is known about {kept}: the generator was too slow for every rate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_help() {
        let of = |n| (grouped(n), rate(n as f64));
        assert_eq!(of(0), ("0".into(), "0.00".into()));
        assert_eq!(of(999), ("999".into(), "999".into()));
        assert_eq!(of(1_234_567), ("1,234,567".into(), "1,234,567".into()));
        assert_eq!([0.0123, 1.234, 12.34, 1234.5].map(ms), ["0.012", "1.23", "12.3", "1234"]);
    }

    #[test]
    fn the_live_line_tells_what_is_new() {
        let before = Glance { due: 100, done: [90, 0, 5, 0, 0, 0, 0, 0], good: 90, latency: Duration::ZERO };
        let now = Glance {
            due: 1100,
            done: [990, 0, 50, 5, 0, 0, 0, 0],
            good: 990,
            latency: Duration::from_secs(10),
        };
        let line = progress(
            Duration::from_secs(3),
            Duration::from_secs(10),
            &now,
            &before,
            Duration::from_millis(500),
        );
        assert_eq!(
            line,
            "  3/10 s  due 2,000/s  ok 1,800/s  refused 90.0/s  failed 10.0/s  mean 10.5 ms  in flight 55"
        );
    }
}
