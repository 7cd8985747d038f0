//! What a search for a setting looks like: rows of a table, sentences, a document, a page.

use serde_json::{Value, json};
use weir_artifact::BatchingTable;
use weir_load::{
    Machine, Objective,
    report::{Comparison, Role, Setting},
};

use super::{
    Done, Outcome, Session, Tried, bench,
    capacity::PRECISION,
    verdict::{Repeated, median},
};
use crate::{
    commands::load::{
        self,
        print::{ms, rate},
    },
    output::Output,
};

const HEAD: [&str; 4] = ["    requests/s", "  p50 ms", "  p99 ms", "rows a run"];

/// The head of the table.
pub(super) fn head(output: &Output) {
    output.heading(&format!("{}  setting", HEAD.join("  ")));
}

/// One setting. Of one that lost, only so much is known as was needed.
pub(super) fn tried(tried: &Tried, in_force: &BatchingTable, output: &Output) {
    let lowest = tried.steps.iter().map(|step| step.rate).fold(f64::INFINITY, f64::min);
    let cells = match bench::best(&tried.steps) {
        Some(step) => {
            let latency = &step.measured.latency;
            [kept(tried, step.rate), ms(latency.p50_ms), ms(latency.p99_ms)]
        }
        None if lowest.is_finite() => [format!("< {}", rate(lowest)), String::new(), String::new()],
        None => Default::default(),
    };
    let cells = cells.into_iter().chain([format!("{:.1}", tried.rows_an_execution)]);
    let padded: Vec<String> =
        cells.zip(HEAD).map(|(cell, head)| format!("{cell:>width$}", width = head.len())).collect();
    let note = if tried.unbounded { "  (the generator could send no faster)" } else { "" };
    output.line(&format!("{}  {}{note}", padded.join("  "), setting(&tried.batching, in_force)));
}

/// The rate that a setting keeps. Where it lost before that was known well, also the one it does not.
fn kept(tried: &Tried, best: f64) -> String {
    let missed = tried.steps.iter().map(|step| step.rate).filter(|rate| *rate > best);
    let missed = missed.fold(f64::INFINITY, f64::min);
    if missed.is_finite() && missed > best * (1.0 + 2.0 * PRECISION) {
        return format!("{} to {}", rate(best), rate(missed));
    }
    rate(best)
}

/// In what a setting differs from the one in force.
pub(super) fn setting(batching: &BatchingTable, in_force: &BatchingTable) -> String {
    let lines = changes(batching, in_force);
    if lines.is_empty() { "in force".to_owned() } else { lines.join(", ") }
}

fn changes(batching: &BatchingTable, in_force: &BatchingTable) -> Vec<String> {
    let number = |name: &str, now: Option<usize>, new: Option<usize>| {
        let value = new.map_or("default".to_owned(), |n| n.to_string());
        (now != new).then(|| format!("{name} = {value}"))
    };
    let (new, now) = (batching, in_force);
    let buckets = (new.buckets != now.buckets).then(|| format!("buckets = {:?}", new.buckets));
    [
        number("max_rows", now.max_rows, new.max_rows),
        number("max_tokens", Some(now.max_tokens), Some(new.max_tokens)),
        number("threads", now.threads, new.threads),
        number("instances", now.instances, new.instances),
        buckets,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What came of it, a sentence a line.
pub(super) fn words(outcome: &Outcome, session: &Session<'_>, written: Option<&str>) -> Vec<String> {
    let of = |best: &BatchingTable| setting(best, &session.in_force);
    let objective = session.judge.objective;
    match outcome {
        Outcome::Inline => vec![
            "every request was so fast that it ran at once, where it was decoded: nothing waits, and [batching] \
             changes nothing"
                .to_owned(),
            "for larger requests give --rows".to_owned(),
        ],
        Outcome::None { complete: true } => {
            vec![format!("no setting keeps {objective} at a rate 5 % above that of the one in force, which stays")]
        }
        Outcome::None { complete: false } => vec![
            "no setting that was tried is better than the one in force, which stays".to_owned(),
            "the time ended before all were tried: give more --budget".to_owned(),
        ],
        Outcome::Unconfirmed { best } => vec![
            format!("{} looked better, but the time ended before it was measured again often enough", of(best)),
            "nothing is written: give more --budget".to_owned(),
        ],
        Outcome::Equal { best, again } => vec![
            format!("{} looked better, and measured again in turn it was not by enough to tell", of(best)),
            figures(again, objective),
            "the setting in force stays".to_owned(),
        ],
        Outcome::Better { best, ratio, again } => {
            let end = match written {
                Some(path) => format!("written to {path}"),
                None => format!("not written; in model.toml:\n\n[batching]\n{}", lines(best, &session.in_force)),
            };
            vec![format!("{} keeps {ratio:.2} times the rate", of(best)), figures(again, objective), end]
        }
    }
}

/// The lines to put into `model.toml`.
fn lines(best: &BatchingTable, in_force: &BatchingTable) -> String {
    let line = |change: String| match change.strip_suffix(" = default") {
        Some(key) => format!("# without {key}"),
        None => change,
    };
    changes(best, in_force).into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn figures(again: &Repeated, objective: Objective) -> String {
    let list = |rates: &[f64]| rates.iter().map(|r| rate(*r)).collect::<Vec<_>>().join(", ");
    let defaults = again.defaults.as_ref().map(|rates| format!("; defaults {}", list(rates)));
    format!(
        "requests/s that keep {objective}, in turn: found {}; in force {}{}",
        list(&again.best),
        list(&again.in_force),
        defaults.unwrap_or_default()
    )
}

/// The document of `--json`.
pub(super) fn document(done: &Done<'_>, written: Option<&str>, words: &[String]) -> Value {
    let session = done.session;
    let table = |batching: &BatchingTable| {
        json!({
            "max_rows": batching.max_rows, "max_tokens": batching.max_tokens, "threads": batching.threads,
            "instances": batching.instances, "buckets": batching.buckets,
        })
    };
    let steps = |tried: &Tried| -> Vec<Value> {
        let step = |s: &weir_load::Step| {
            let latency = &s.measured.latency;
            json!({
                "rate": s.rate, "verdict": s.verdict, "requests": s.measured.requests,
                "ok_per_s": s.measured.ok_per_s, "p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms,
            })
        };
        tried.steps.iter().map(step).collect()
    };
    let tried = |t: &Tried| {
        json!({
            "batching": table(&t.batching), "rate": t.rate, "rows_an_execution": t.rows_an_execution,
            "generator_bound": t.unbounded, "steps": steps(t),
        })
    };
    let (name, again, ratio) = match &done.outcome {
        Outcome::Inline => ("inline", None, None),
        Outcome::None { .. } => ("none", None, None),
        Outcome::Unconfirmed { .. } => ("unconfirmed", None, None),
        Outcome::Equal { again, .. } => ("equal", Some(again), None),
        Outcome::Better { again, ratio, .. } => ("better", Some(again), Some(ratio)),
    };
    json!({
        "command": load::command(),
        "version": env!("CARGO_PKG_VERSION"),
        "machine": Machine::here(),
        "model": done.spec.name.as_str(),
        "engine": done.engine,
        "slo": session.judge.objective.to_string(),
        "notes": session.judge.prepared.notes,
        "in_force": table(&session.in_force),
        "tried": session.tried.iter().map(tried).collect::<Vec<_>>(),
        "outcome": name,
        "best": done.outcome.best().map(table),
        "ratio": ratio,
        "again": again.map(|a| json!({
            "best": a.best, "in_force": a.in_force, "defaults": a.defaults,
            "medians": {
                "best": median(&a.best), "in_force": median(&a.in_force),
                "defaults": a.defaults.as_deref().and_then(median),
            },
        })),
        "written": written,
        "words": words,
    })
}

/// The page's content: settings that were measured several times are one line each.
pub(super) fn comparison(done: &Done<'_>, words: Vec<String>) -> Comparison {
    let in_force = &done.session.in_force;
    let mut settings: Vec<Setting> = Vec::new();
    for tried in &done.session.tried {
        let name = setting(&tried.batching, in_force);
        let role = match &tried.batching {
            batching if batching == in_force => Role::Reference,
            batching if done.outcome.best() == Some(batching) => Role::Best,
            _ => Role::Other,
        };
        match settings.iter_mut().find(|known| known.name == name) {
            Some(known) => known.steps.extend(tried.steps.iter().cloned()),
            None => settings.push(Setting { name, role, steps: tried.steps.clone() }),
        }
    }
    let objective = done.session.judge.objective;
    let level = match objective {
        Objective::Within { ms, .. } => Some((ms, objective.to_string())),
        Objective::Goodput { .. } => None,
    };
    Comparison { words, level, settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_told_by_what_differs() {
        let in_force = BatchingTable { threads: Some(2), ..BatchingTable::default() };
        assert_eq!(setting(&in_force, &in_force), "in force");
        let other =
            BatchingTable { max_rows: Some(16), threads: None, buckets: vec![64, 512], ..in_force.clone() };
        assert_eq!(lines(&other, &in_force), "max_rows = 16\n# without threads\nbuckets = [64, 512]");
        assert_eq!(setting(&other, &in_force), "max_rows = 16, threads = default, buckets = [64, 512]");
    }
}
