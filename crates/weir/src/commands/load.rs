//! `weir load`: sends requests by schedule, says how they were answered.

mod options;
pub(super) mod print;

use std::{
    fs,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use weir_load::{Found, Machine, Measured, Objective, Plan, Prepared, Progress, Shape, Stage, report};
use weir_types::{Clock, SystemClock};

use crate::{args::Load, output::Output};
use options::Wanted;

pub(crate) fn run(options: &Load, output: &Output) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::read(options).map_err(lines)?;
    if let Some(path) = &options.report {
        // Before an hour of load, not after it.
        fs::File::create(path).with_context(|| format!("--report {}", path.display()))?;
    }
    raise_files(wanted.connections);
    let prepared = weir_load::prepare(&wanted.requests).map_err(lines)?;
    let session = Session { options, wanted, prepared, output, interrupted: interrupted()? };
    session.prepared.notes.iter().for_each(|note| output.note(note));
    if options.find_max { session.find_max() } else { session.once() }
}

/// Whether Ctrl-C was pressed. The first time ends the load, and what was measured until then is told;
/// the second time ends the process, with the status that shells give it.
pub(super) fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    const BY_SIGINT: i32 = 130;
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Listened for from here on, not from when the thread comes to it.
    let mut signals = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    let set = flag.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            while signals.recv().await.is_some() {
                if set.swap(true, Relaxed) {
                    std::process::exit(BY_SIGINT);
                }
            }
        });
    })?;
    Ok(flag)
}

/// Asks for as many open files as connections need. Where that is refused, connections fail by name.
pub(super) fn raise_files(connections: usize) {
    const OTHERS: u64 = 64;
    let needed = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let current = limit.maximum.map_or(needed, |most| needed.min(most));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}

pub(super) fn lines(problems: Vec<String>) -> anyhow::Error {
    anyhow!(problems.join("\n"))
}

/// One call of the command.
struct Session<'a> {
    options: &'a Load,
    wanted: Wanted,
    prepared: Prepared,
    output: &'a Output,
    interrupted: Arc<AtomicBool>,
}

impl Session<'_> {
    /// One load of the shape that was asked for.
    fn once(&self) -> anyhow::Result<ExitCode> {
        let measured = self.measure(self.wanted.shape.clone())?;
        if self.output.is_json() {
            self.output.json(&self.document(&measured, None)?);
        } else {
            print::measured(&measured, self.output);
        }
        self.report(&measured, None)?;
        self.judge(&measured)
    }

    /// Rates until the highest is found that keeps the objectives.
    fn find_max(&self) -> anyhow::Result<ExitCode> {
        let wanted = &self.wanted;
        if !self.output.is_json() {
            print::search_head(self.output);
        }
        let told = |step: &weir_load::Step| {
            if !self.output.is_json() {
                print::step(step, self.output);
            }
        };
        let attempt = |rate| {
            let measured = self.measure(self.step_shape(rate))?;
            // A step that was cut short says nothing about its rate.
            if self.interrupted.load(Relaxed) { Err(anyhow!("interrupted")) } else { Ok(measured) }
        };
        let found = weir_load::find_max(&wanted.objectives, wanted.start, wanted.precision, attempt, told)?;
        let best = found.best().or(found.steps.last());
        let measured = &best.context("no rate was tried")?.measured;
        if self.output.is_json() {
            self.output.json(&self.document(measured, Some(&found))?);
        } else {
            self.output.line(&print::answer(&found, &wanted.objectives));
        }
        self.report(measured, Some(&found))?;
        let code = self.judge(measured)?;
        Ok(if found.rate.is_none() { ExitCode::FAILURE } else { code })
    }

    /// A step long enough to judge every objective, up to a minute.
    fn step_shape(&self, rate: f64) -> Shape {
        const LONGEST_S: f64 = 60.0;
        let samples = self.wanted.objectives.iter().map(Objective::samples).max().unwrap_or(1000);
        let seconds = (samples as f64 / rate).clamp(0.0, LONGEST_S).max(self.wanted.step.as_secs_f64());
        let seconds = seconds + self.wanted.warmup.as_secs_f64();
        let stages = vec![Stage { seconds, from: rate, to: rate }];
        Shape::Open { stages, spread: self.wanted.spread }
    }

    fn measure(&self, shape: Shape) -> anyhow::Result<Measured> {
        let Prepared { target, traffic, .. } = self.prepared.clone();
        let wanted = &self.wanted;
        let plan = Plan {
            target,
            traffic,
            shape,
            connections: wanted.connections,
            threads: self.options.threads,
            warmup: wanted.warmup,
            deadline: wanted.deadline,
            timeout: wanted.requests.timeout,
            retries: self.options.retries,
            seed: self.options.seed,
        };
        let (began, mut last) = (Instant::now(), (Instant::now(), weir_load::Glance::default()));
        let watch = |progress: &Progress| {
            if self.interrupted.load(Relaxed) {
                progress.stop();
            }
            let (now, glance) = (Instant::now(), progress.glance());
            let line = print::progress(now - began, plan.shape.duration(), &glance, &last.1, now - last.0);
            self.output.progress(&line);
            last = (now, glance);
        };
        let measured = weir_load::run(&plan, watch)?;
        self.output.progress("");
        Ok(measured)
    }

    /// Exit status 1 where a threshold is crossed, or nothing was answered.
    fn judge(&self, measured: &Measured) -> anyhow::Result<ExitCode> {
        let crossed: Vec<_> = self.wanted.thresholds.iter().filter_map(|t| t.crossed(measured)).collect();
        crossed.iter().for_each(|words| self.output.error(words));
        if measured.requests > 0 && measured.latency.count == 0 {
            self.output.error("no request had a right answer");
            return Ok(ExitCode::FAILURE);
        }
        Ok(if crossed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn document(&self, measured: &Measured, found: Option<&Found>) -> anyhow::Result<serde_json::Value> {
        let mut document = json!({
            "command": command(),
            "version": env!("CARGO_PKG_VERSION"),
            "machine": Machine::here(),
            "target": { "address": self.prepared.target.address, "path": self.prepared.target.path },
            "notes": self.prepared.notes,
            "measured": measured,
        });
        if let Some(found) = found {
            document["found"] = serde_json::to_value(found)?;
        }
        Ok(document)
    }

    fn report(&self, measured: &Measured, found: Option<&Found>) -> anyhow::Result<()> {
        let Some(path) = &self.options.report else { return Ok(()) };
        let about = report::About {
            command: command(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::here(),
            target: format!("{} {}", self.prepared.target.host, self.prepared.target.path),
            notes: self.prepared.notes.clone(),
            written: SystemClock.wall(),
        };
        fs::write(path, report::page(&about, measured, found)).with_context(|| path.display().to_string())?;
        self.output.note(&format!("report: {}", path.display()));
        Ok(())
    }
}

/// The command line, as reports tell it: to be run again, but for what headers say, which may be a secret.
pub(super) fn command() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    shown(words)
}

/// What stands for the value of a header. All are masked, not those of known names alone: `X-Api-Key` has a
/// hundred spellings.
const MASK: &str = "***";

fn shown(words: impl Iterator<Item = String>) -> String {
    let mut line = "weir".to_owned();
    let mut is_header = false;
    for word in words {
        let word = match word.strip_prefix("--header=") {
            Some(header) => format!("--header={}", masked(header)),
            None if is_header => masked(&word),
            None => word,
        };
        is_header = !is_header && word == "--header";
        line.push(' ');
        line.push_str(&quoted(word));
    }
    line
}

/// A header's name; all of a text that has none.
fn masked(header: &str) -> String {
    header.split_once(':').map_or_else(|| MASK.to_owned(), |(name, _)| format!("{name}: {MASK}"))
}

fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_what_its_headers_say() {
        let of = |words: &[&str]| shown(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(
            of(&["load", "http://h:1", "m", "--fail-if", "p99>5ms"]),
            "weir load http://h:1 m --fail-if 'p99>5ms'"
        );
        for words in [
            &["load", "--header", "X-Api-Key: canary:canary", "m"][..],
            &["load", "--header=X-Api-Key: canary", "m"],
            &["load", "--header", "X-Api-Key:canary", "m"],
        ] {
            let told = of(words);
            assert!(
                told.contains("X-Api-Key: ***") && told.ends_with(" m") && !told.contains("canary"),
                "{told}"
            );
        }
        assert_eq!(
            of(&["--header", "--header", "m"]),
            "weir --header '***' m",
            "a value that looks like the flag"
        );
        assert_eq!(of(&["--header", "canary"]), "weir --header '***'");
    }
}
