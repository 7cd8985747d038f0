//! `weir tune`: measures which `[batching]` serves a model best on this machine, and writes it.

mod bench;
mod capacity;
mod manifest;
mod print;
mod search;
mod verdict;

use std::{
    fs,
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use weir_artifact::{BatchingTable, ModelSpec};
use weir_config::HumanDuration;
use weir_load::{Bodies, Face, Machine, Objective, Options, Step, Verdict, report};
use weir_types::{Clock, SystemClock};

use crate::{
    args::{Sources, Tune},
    commands::load,
    output::Output,
    settings,
};
use bench::{Bench, Judge, Models};
use capacity::{Range, capacity};
use manifest::Edit;
use search::{Halt, Limits, defaults, search};
use verdict::{REPEATS, Repeated, Settled};

/// Of the time, the share after which no further setting is tried: the rest is for measuring what was
/// found again.
const SEARCH_SHARE: f64 = 0.6;
/// Longest latency to keep: a measurement takes ten times as long.
const LONGEST_MS: f64 = 5_000.0;
/// From one rate to the next where little is known, and where much is.
const FACTORS: (f64, f64) = (1.5, 1.15);

pub(crate) fn run(options: &Tune, output: &Output) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::read(options)?;
    let candidate = bench::candidate(&options.path)?;
    if !options.dry_run {
        // Asked now rather than after minutes.
        manifest::has_place(&candidate, &options.path)?;
    }
    let sources = Sources { paths: vec![options.path.clone()], config: options.config.clone() };
    let config = settings::load(&sources, Vec::new())?.value.server;
    load::raise_files(2 * bench::CONNECTIONS);
    let interrupted = load::interrupted()?;
    output.progress("loading");
    let models = Models::new(&candidate, &options.path, &config);
    let snapshot = models.load(None)?;
    let version = models.version(&snapshot)?;
    let (spec, engine) = (version.spec.clone(), version.engine.name);
    ensure!(
        spec.sequence.is_none(),
        "`{}` keeps state, and requests of no sequence cannot measure it",
        spec.name
    );
    let limits = Limits {
        cores: settings::threads(&config),
        // Models of `ai.onnx.ml` compute on the thread that asks.
        parallel: engine != "native",
        text: spec.text.is_some(),
    };
    let bench = Bench::start(config, models.clone(), snapshot)?;
    let prepared = weir_load::prepare(&wanted.requests(bench.url(), &spec)).map_err(load::lines)?;
    prepared.notes.iter().for_each(|note| output.note(note));
    let Wanted { objective, budget, .. } = wanted;
    let judge = Judge { prepared, objective, output, interrupted, began: Instant::now(), budget };
    let mut session = Session { bench, judge, output, in_force: spec.batching.clone(), tried: Vec::new() };
    let outcome = session.tune(limits).map_err(|halt| match halt {
        Halt::Spent => anyhow!("interrupted"),
        Halt::Failed(error) => error,
    })?;
    let done = Done { options, session: &session, spec: &spec, engine, outcome };
    let written = done.write(&candidate, &models)?;
    done.tell(written.as_deref())
}

/// What was asked for.
struct Wanted {
    objective: Objective,
    budget: Duration,
    rows: Vec<usize>,
    bodies: Bodies,
}

impl Wanted {
    /// Reads the flags; every mistake is told.
    fn read(options: &Tune) -> anyhow::Result<Self> {
        let objective = options.slo.parse().and_then(|objective| match objective {
            Objective::Within { ms, .. } if ms <= LONGEST_MS => Ok(objective),
            Objective::Within { .. } => {
                Err(format!("{objective}: at most {LONGEST_MS} ms can be judged in time"))
            }
            Objective::Goodput { .. } => Err(format!("{objective}: write a latency, such as p99=50ms")),
        });
        let budget = options.budget.parse().map(HumanDuration::get).and_then(|budget: Duration| {
            let fits = !budget.is_zero() && budget <= Duration::from_secs(86_400);
            fits.then_some(budget).ok_or_else(|| "is more than nothing and at most a day".to_owned())
        });
        let row = |part: &str| part.trim().parse().map_err(|_| format!("\"{part}\" is no number of rows"));
        let rows = options.rows.split(',').map(row).collect::<Result<Vec<usize>, String>>();
        let bodies = options.samples.clone().map_or(Bodies::Generated, Bodies::Samples);
        match (objective, budget, rows) {
            (Ok(objective), Ok(budget), Ok(rows)) => Ok(Self { objective, budget, rows, bodies }),
            (objective, budget, rows) => {
                let named = |flag: &str, problem: Option<String>| problem.map(|p| format!("{flag}: {p}"));
                let problems = [
                    named("--slo", objective.err()),
                    named("--budget", budget.err()),
                    named("--rows", rows.err()),
                ];
                bail!(problems.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// What is sent: rows of the typed face, a thousand different requests in turn.
    fn requests(&self, url: String, spec: &ModelSpec) -> Options {
        Options {
            url,
            describe: None,
            model: Some(spec.name.as_str().to_owned()),
            version: Some(spec.version.as_str().to_owned()),
            path: None,
            face: Face::Typed,
            bodies: self.bodies.clone(),
            expect: None,
            tolerance: None,
            rows: self.rows.clone(),
            pool: 1_000,
            repeat: None,
            check: false,
            headers: Vec::new(),
            deadline: false,
            timeout: Duration::from_secs(10),
            seed: 1,
        }
    }
}

/// A setting that was measured.
struct Tried {
    batching: BatchingTable,
    /// The rate it keeps, if any that was tried.
    rate: Option<f64>,
    steps: Vec<Step>,
    /// On average, over all steps.
    rows_an_execution: f64,
    /// Whether the generator was what ended it.
    unbounded: bool,
}

/// What came of it.
enum Outcome {
    /// Every request ran where it was decoded.
    Inline,
    /// No setting was better; whether all were tried.
    None { complete: bool },
    /// One looked better, and there was no time to measure it again.
    Unconfirmed { best: BatchingTable },
    /// One looked better, and measured again it was not.
    Equal { best: BatchingTable, again: Repeated },
    /// One is better.
    Better { best: BatchingTable, ratio: f64, again: Repeated },
}

impl Outcome {
    fn best(&self) -> Option<&BatchingTable> {
        match self {
            Self::Inline | Self::None { .. } => None,
            Self::Unconfirmed { best } | Self::Equal { best, .. } | Self::Better { best, .. } => Some(best),
        }
    }
}

/// A search under way.
struct Session<'a> {
    bench: Bench,
    judge: Judge<'a>,
    output: &'a Output,
    in_force: BatchingTable,
    tried: Vec<Tried>,
}

type Halted = Halt<anyhow::Error>;

impl Session<'_> {
    fn tune(&mut self, limits: Limits) -> Result<Outcome, Halted> {
        let in_force = self.in_force.clone();
        let start = self.alone()?;
        // Asked now: on a server that has too much to do, small work sometimes takes long.
        let inline = self.bench.ran_inline();
        if !self.output.is_json() {
            print::head(self.output);
        }
        let range = Range { start, factor: FACTORS.0, beat: None };
        // Without it there is nothing to compare with, so it may take what it takes.
        let rate = self.measure(&in_force, range, f64::INFINITY)?;
        let none = || anyhow!("no rate that was tried keeps {}", self.judge.objective);
        let rate = rate.ok_or_else(|| Halt::Failed(none()))?;
        if inline {
            return Ok(Outcome::Inline);
        }
        let found = search((&in_force, rate), limits, |batching, beat| {
            let range = Range { start: beat, factor: FACTORS.0, beat: Some(beat) };
            self.measure(batching, range, SEARCH_SHARE)
        });
        let found = found.map_err(Halt::Failed)?;
        if found.best == in_force {
            return Ok(Outcome::None { complete: found.complete });
        }
        self.confirm(found.best, [found.rate, rate], limits)
    }

    /// The rate of an idle server, one request after the other.
    fn alone(&self) -> Result<f64, Halted> {
        let objective = self.judge.objective;
        let mut measured = self.judge.alone("one request after the other")?;
        if !objective.met(&measured) {
            // Once more: the machine may have been busy with something else.
            measured = self.judge.alone("one request after the other")?;
        }
        if objective.met(&measured) {
            return Ok(measured.ok_per_s);
        }
        let (p50, p99) = (measured.latency.p50_ms, measured.latency.p99_ms);
        Err(Halt::Failed(anyhow!(
            "{objective} cannot be kept: one request after the other, with nothing else to do, {} of {} were \
             answered rightly, with a p50 of {p50:.3} ms and a p99 of {p99:.3} ms",
            measured.latency.count,
            measured.requests,
        )))
    }

    /// What a setting keeps, while no more than `share` of the time is used up.
    fn measure(&mut self, batching: &BatchingTable, range: Range, share: f64) -> Result<Option<f64>, Halted> {
        if self.judge.spent(share) {
            return Err(Halt::Spent);
        }
        self.bench.set(batching).map_err(Halt::Failed)?;
        let words = print::setting(batching, &self.in_force);
        let (judge, mut steps) = (&self.judge, Vec::new());
        let rate = capacity(range, |rate| {
            // The first step is one that was begun with.
            if !steps.is_empty() && judge.spent(share) {
                return Err(Halt::Spent);
            }
            let step = judge.step(rate, &words)?;
            steps.push(step);
            Ok(steps.last().is_some_and(|step| step.verdict == Verdict::Met))
        });
        let unbounded = steps.iter().any(|step| step.verdict == Verdict::Unknown);
        let rows_an_execution = self.bench.rows_an_execution();
        let kept = bench::best(&steps).map(|step| step.rate);
        let tried = Tried { batching: batching.clone(), rate: kept, steps, rows_an_execution, unbounded };
        if !self.output.is_json() {
            print::tried(&tried, &self.in_force, self.output);
        }
        self.tried.push(tried);
        rate
    }

    /// Measures the best setting, the one in force and the defaults again, in turn: what was chosen
    /// because it was measured well was also lucky, and a machine changes over minutes. Without the
    /// defaults, a setting could win that is no better than none.
    fn confirm(
        &mut self,
        best: BatchingTable,
        [ours, theirs]: [f64; 2],
        limits: Limits,
    ) -> Result<Outcome, Halted> {
        let (in_force, plain) = (self.in_force.clone(), defaults(&self.in_force));
        let third = !limits.same(&plain, &in_force) && !limits.same(&plain, &best);
        let mut settings = vec![(&best, ours), (&in_force, theirs)];
        settings.extend(third.then_some((&plain, theirs)));
        let mut rates = vec![Vec::new(); settings.len()];
        for repeat in 0..REPEATS.1 {
            for turn in 0..settings.len() {
                // Each begins a round once.
                let at = (repeat + turn) % settings.len();
                let (batching, start) = settings[at];
                match self.measure(batching, Range { start, factor: FACTORS.1, beat: None }, 1.0) {
                    Ok(rate) => rates[at].push(rate.unwrap_or(0.0)),
                    Err(Halt::Spent) => return Ok(Outcome::Unconfirmed { best }),
                    Err(failed) => return Err(failed),
                }
            }
            let again = repeated(&rates);
            match again.settle() {
                Settled::Best(ratio) => return Ok(Outcome::Better { best, ratio, again }),
                Settled::Defaults(ratio) => return Ok(Outcome::Better { best: plain, ratio, again }),
                Settled::Equal => break,
                Settled::Unclear => {}
            }
        }
        Ok(Outcome::Equal { again: repeated(&rates), best })
    }
}

/// Rates by setting: the best, the one in force, and the defaults where they are there.
fn repeated(rates: &[Vec<f64>]) -> Repeated {
    let of = |at: usize| rates.get(at).cloned();
    Repeated { best: of(0).unwrap_or_default(), in_force: of(1).unwrap_or_default(), defaults: of(2) }
}

/// A search that ended.
struct Done<'a> {
    options: &'a Tune,
    session: &'a Session<'a>,
    spec: &'a ModelSpec,
    engine: &'static str,
    outcome: Outcome,
}

impl Done<'_> {
    /// Writes a better setting, unless that is not wanted; the file's name.
    fn write(&self, candidate: &weir_artifact::Candidate, models: &Models) -> anyhow::Result<Option<String>> {
        let Outcome::Better { best, .. } = &self.outcome else { return Ok(None) };
        if self.options.dry_run {
            return Ok(None);
        }
        let edit = Edit::new(candidate, best)?;
        edit.write(|| {
            let loaded = models.load(None)?;
            let spec = models.version(&loaded)?.spec.clone();
            ensure!(spec.batching == *best, "the model does not take the setting from there");
            let same = spec.schema == self.spec.schema && spec.signature == self.spec.signature;
            ensure!(same, "the model has another signature");
            Ok(())
        })?;
        Ok(Some(edit.path().display().to_string()))
    }

    fn tell(&self, written: Option<&str>) -> anyhow::Result<ExitCode> {
        let words = print::words(&self.outcome, self.session, written);
        if self.session.output.is_json() {
            self.session.output.json(&print::document(self, written, &words));
        } else {
            words.iter().for_each(|line| self.session.output.line(line));
        }
        if let Some(path) = &self.options.report {
            let page = report::comparison(&self.about(), &print::comparison(self, words));
            fs::write(path, page).with_context(|| path.display().to_string())?;
            self.session.output.note(&format!("report: {}", path.display()));
        }
        let interrupted = self.session.judge.interrupted.load(Relaxed);
        Ok(if interrupted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn about(&self) -> report::About {
        report::About {
            command: load::command(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::here(),
            target: format!("{} on {}", self.spec.name, self.engine),
            notes: self.session.judge.prepared.notes.clone(),
            written: SystemClock.wall(),
        }
    }
}
