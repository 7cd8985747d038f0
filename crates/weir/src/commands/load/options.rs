//! Flags become a plan's parts; every mistake is told.

use std::time::Duration;

use weir_config::HumanDuration;
use weir_load::{
    Bodies, Face, Objective, Options, Shape, Spread, Stage, Threshold, parse_rate, parse_stages,
};

use crate::args::{FaceArg, Load};

/// Most requests in flight.
const MOST_CONNECTIONS: usize = 100_000;
/// In flight at most where nothing is said: open loop, closed loop.
const CONNECTIONS: (usize, usize) = (1000, 16);

/// What the flags ask for.
pub(super) struct Wanted {
    pub(super) requests: Options,
    pub(super) shape: Shape,
    pub(super) spread: Spread,
    pub(super) connections: usize,
    pub(super) warmup: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) objectives: Vec<Objective>,
    pub(super) start: f64,
    pub(super) step: Duration,
    pub(super) precision: f64,
    pub(super) thresholds: Vec<Threshold>,
}

/// Collects what is wrong.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    /// The value, or its default and one more problem.
    fn take<T: Default>(&mut self, flag: &str, read: Result<T, String>) -> T {
        read.unwrap_or_else(|problem| {
            self.0.push(format!("{flag}: {problem}"));
            T::default()
        })
    }

    fn all<T>(&mut self, flag: &str, texts: &[String]) -> Vec<T>
    where
        T: std::str::FromStr<Err = String>,
    {
        texts.iter().filter_map(|text| self.take(flag, text.parse().map(Some))).collect()
    }

    fn duration(&mut self, flag: &str, text: &str, zero: bool) -> Duration {
        const LONGEST: Duration = Duration::from_secs(86_400);
        let read = text.parse().map(HumanDuration::get).and_then(|duration: Duration| {
            let fits = duration <= LONGEST && (zero || !duration.is_zero());
            fits.then_some(duration).ok_or_else(|| "is more than nothing and at most a day".to_owned())
        });
        self.take(flag, read)
    }

    fn check(&mut self, wrong: bool, words: &str) {
        if wrong {
            self.0.push(words.to_owned());
        }
    }
}

impl Wanted {
    /// Reads the flags.
    pub(super) fn read(load: &Load) -> Result<Self, Vec<String>> {
        let mut problems = Problems::default();
        let deadline = load.deadline.as_ref().map(|text| problems.duration("--deadline", text, false));
        let spread = if load.poisson { Spread::Poisson } else { Spread::Constant };
        let warmup = problems.duration("--warmup", &load.warmup, true);
        let wanted = Self {
            requests: requests(load, deadline.is_some(), &mut problems),
            shape: shape(load, spread, warmup, &mut problems),
            spread,
            connections: 0,
            warmup,
            deadline,
            objectives: problems.all("--slo", &load.slo),
            start: problems.take("--start", parse_rate(&load.start)),
            step: problems.duration("--step", &load.step, false),
            precision: load.precision,
            thresholds: problems.all("--fail-if", &load.fail_if),
        };
        let closed = matches!(wanted.shape, Shape::Closed { .. }) && !load.find_max;
        let connections = load.connections.unwrap_or(if closed { CONNECTIONS.1 } else { CONNECTIONS.0 });
        wanted.check(load, closed, connections, &mut problems);
        problems.0.extend(wanted.requests.problems());
        if problems.0.is_empty() { Ok(Self { connections, ..wanted }) } else { Err(problems.0) }
    }

    fn check(&self, load: &Load, closed: bool, connections: usize, problems: &mut Problems) {
        let goodput = self.objectives.iter().any(Objective::needs_deadline)
            || self.thresholds.iter().any(Threshold::needs_deadline);
        problems.check(
            goodput && self.deadline.is_none(),
            "goodput is about a deadline: give one with --deadline",
        );
        problems.check(
            !load.slo.is_empty() && !load.find_max,
            "--slo is for --find-max: for one load use --fail-if",
        );
        problems.check(
            closed && load.poisson,
            "--poisson is for an open loop: give --rate, --stages or --find-max",
        );
        problems.check(!(1..=2).contains(&load.threads), "--threads is 1 or 2");
        problems
            .check(!(1..=MOST_CONNECTIONS).contains(&connections), "--connections is between 1 and 100,000");
        problems.check(!(0.005..=1.0).contains(&load.precision), "--precision is between 0.005 and 1");
        problems.check(self.start <= 0.0, "--start is a rate above 0");
        problems.check(load.retries > 100, "--retries is at most 100");
    }
}

fn requests(load: &Load, deadline: bool, problems: &mut Problems) -> Options {
    let bodies = match (&load.body, &load.samples) {
        (Some(file), _) => Bodies::File(file.clone()),
        (None, Some(file)) => Bodies::Samples(file.clone()),
        (None, None) => Bodies::Generated,
    };
    let rows = |text: &str| -> Result<Vec<usize>, String> {
        let row = |part: &str| part.trim().parse().map_err(|_| format!("\"{part}\" is no number of rows"));
        text.split(',').map(row).collect()
    };
    let header = |text: &String| {
        let (name, value) = text.split_once(':').ok_or("one has no name: write 'Name: value'")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    Options {
        url: load.url.clone(),
        describe: load.describe.clone(),
        model: load.model.clone(),
        version: load.model_version.clone(),
        path: load.path.clone(),
        face: match load.face {
            FaceArg::Typed => Face::Typed,
            FaceArg::V2 => Face::V2,
            FaceArg::V2Binary => Face::V2Binary,
            FaceArg::Grpc => Face::Grpc,
        },
        bodies,
        expect: load.expect.clone(),
        tolerance: load.tolerance,
        rows: Some(problems.take("--rows", rows(&load.rows))).filter(|r| !r.is_empty()).unwrap_or(vec![1]),
        pool: load.bodies,
        repeat: load.repeat,
        check: load.check,
        headers: problems.take("--header", load.headers.iter().map(header).collect()),
        deadline,
        timeout: problems.duration("--timeout", &load.timeout, false),
        seed: load.seed,
    }
}

/// What to send when; the warm-up comes before it, at the rate with which it begins.
fn shape(load: &Load, spread: Spread, warmup: Duration, problems: &mut Problems) -> Shape {
    let duration = problems.duration("--duration", &load.duration, false);
    let stages = match (&load.stages, &load.rate) {
        (Some(stages), _) => problems.take("--stages", parse_stages(stages)),
        (None, Some(rate)) => {
            let above = |rate: f64| if rate > 0.0 { Ok(rate) } else { Err("is a rate above 0".to_owned()) };
            let rate = problems.take("--rate", parse_rate(rate).and_then(above));
            vec![Stage::constant(duration, rate)]
        }
        (None, None) => return Shape::Closed { seconds: (warmup + duration).as_secs_f64() },
    };
    // A ramp that begins at nothing has no rate to warm up with: a tenth of where it leads.
    let first = stages.first().map_or(0.0, |stage| stage.from.max(stage.to / 10.0));
    let warm = (!warmup.is_zero()).then(|| Stage::constant(warmup, first));
    Shape::Open { stages: warm.into_iter().chain(stages).collect(), spread }
}
