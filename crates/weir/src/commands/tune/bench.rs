//! A server in this process whose one model changes its setting, and a load on it.
//!
//! Callers see what a server answers: decoding, waiting, admission, batches made of what others sent at
//! the same time. Calling the executor instead would be less code and would leave out what competes
//! with it for the cores.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, ensure};
use tokio::runtime::{Builder, Runtime};
use weir_api::{Server, config::ServerConfig};
use weir_artifact::{BatchingTable, Candidate, Kind};
use weir_load::{Measured, Objective, Plan, Prepared, Progress, Shape, Spread, Stage, Step, Verdict, judge};
use weir_serving::{LoadOptions, Loader, ServedVersion, ServingSnapshot};
use weir_types::{AllowLocal, SystemClock};

use super::search::Halt;
use crate::{
    output::Output,
    settings::{self, failure_lines},
};

/// Requests in flight at most.
pub(super) const CONNECTIONS: usize = 512;
/// Sent before each measurement: connections are made, the executor learns how long work takes.
const WARMUP: Duration = Duration::from_millis(300);
/// Bounds of a measurement, seconds.
const STEP_S: (f64, f64) = (1.0, 10.0);
/// A measurement is so many times longer than the latency that is to be kept: at a rate a tenth above
/// what a server can do, it takes so long until requests wait that long.
const STEP_LATENCIES: f64 = 10.0;
/// Of the requests with which a quantile is judged well, the share that a step is content with: near
/// its capacity a server misses an objective by much, and what is found is measured again.
const FEWER: f64 = 1.0 / 3.0;

/// The model that is tuned, as found on disk.
///
/// # Errors
/// Where there is none or several, or where its batches are made elsewhere.
pub(super) fn candidate(path: &std::path::Path) -> anyhow::Result<Candidate> {
    ensure!(path.exists(), "{} does not exist: name a model file or folder", path.display());
    let mut discovery = weir_artifact::discover(path);
    let problems: Vec<_> = discovery.problems.iter().map(|p| p.problem.to_string()).collect();
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    let Some(newest) = discovery.found.pop() else { bail!("there is no model here") };
    let one = discovery.found.iter().all(|other| other.name == newest.name);
    ensure!(one, "there are several models here: name the folder of one");
    match newest.kind {
        Kind::Artifact => Ok(newest),
        Kind::Graph => {
            bail!("`{}` is made of other models, which have lanes of their own: tune those", newest.name)
        }
        Kind::Remote => {
            bail!("`{}` runs on another server, which makes its batches: tune it there", newest.name)
        }
    }
}

/// Loads a candidate with settings of its own.
#[derive(Clone)]
pub(super) struct Models {
    candidate: Candidate,
    path: std::path::PathBuf,
    options: LoadOptions,
}

impl Models {
    pub(super) fn new(candidate: &Candidate, path: &std::path::Path, config: &ServerConfig) -> Self {
        let mut options = settings::load_options(config, Arc::new(SystemClock));
        // A model that sleeps and wakes would be measured waking.
        options.budget = None;
        Self { candidate: candidate.clone(), path: path.to_owned(), options }
    }

    /// Everything at the path, with `batching` in place of what is written.
    pub(super) fn load(&self, batching: Option<&BatchingTable>) -> anyhow::Result<ServingSnapshot> {
        let options = LoadOptions { batching: batching.cloned(), ..self.options.clone() };
        let loader = Loader::new(vec![self.path.clone()], options);
        let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
        ensure!(snapshot.failures().is_empty(), "{}", failure_lines(snapshot.failures()));
        Ok(snapshot)
    }

    /// The version that is tuned.
    pub(super) fn version(&self, snapshot: &ServingSnapshot) -> anyhow::Result<Arc<ServedVersion>> {
        let Candidate { name, version, .. } = &self.candidate;
        Ok(snapshot.version(name.as_str(), Some(version.as_str()))?.clone())
    }
}

/// The server.
pub(super) struct Bench {
    server: Server,
    models: Models,
    serving: Arc<ServedVersion>,
    address: SocketAddr,
    /// Dropped without waiting: nobody but us asks this server.
    runtime: Option<Runtime>,
}

impl Bench {
    /// Serves `snapshot` at a port of the loopback interface that the system chooses.
    pub(super) fn start(
        mut config: ServerConfig,
        models: Models,
        snapshot: ServingSnapshot,
    ) -> anyhow::Result<Self> {
        let threads = settings::threads(&config);
        config.listen = ([127, 0, 0, 1], 0).into();
        (config.grpc_listen, config.metrics_listen, config.trace_file) = (None, None, None);
        let serving = models.version(&snapshot)?;
        let server = Server::new(config, Vec::new(), snapshot, Arc::new(AllowLocal), Arc::new(SystemClock));
        let server =
            server.map_err(|p| anyhow!(settings::route_lines(&p, &weir_config::Places::default())))?;
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).thread_name("weir-http").enable_all().build()?;
        let bound = runtime
            .block_on(server.clone().bind())
            .map_err(|(address, error)| anyhow!(error).context(format!("{address} cannot be listened on")))?;
        let address = bound.address()?;
        runtime.spawn(bound.run(std::future::pending()));
        Ok(Self { server, models, serving, address, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Loads the model with another setting and serves it so.
    pub(super) fn set(&mut self, batching: &BatchingTable) -> anyhow::Result<()> {
        let snapshot = self.models.load(Some(batching))?;
        let serving = self.models.version(&snapshot)?;
        let swapped = self.server.swap(snapshot);
        swapped.map_err(|p| anyhow!(settings::route_lines(&p, &weir_config::Places::default())))?;
        self.serving = serving;
        Ok(())
    }

    /// Whether no request had to wait for a thread since the setting was set: all ran where they were
    /// decoded, which no setting changes.
    pub(super) fn ran_inline(&self) -> bool {
        self.serving.executor.stats().queued.ns() == 0
    }

    /// Rows of an execution, on average since the setting was set.
    pub(super) fn rows_an_execution(&self) -> f64 {
        let stats = self.serving.executor.stats();
        stats.rows.load(Relaxed) as f64 / (stats.executed.load(Relaxed) as f64).max(1.0)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Loads the server and judges.
pub(super) struct Judge<'a> {
    pub(super) prepared: Prepared,
    pub(super) objective: Objective,
    pub(super) output: &'a Output,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) began: Instant,
    /// When the whole is to end.
    pub(super) budget: Duration,
}

impl Judge<'_> {
    /// Whether `share` of the time is used up.
    pub(super) fn spent(&self, share: f64) -> bool {
        self.interrupted.load(Relaxed)
            || self.began.elapsed().as_secs_f64() >= self.budget.as_secs_f64() * share
    }

    /// One request after the other: how an idle server answers.
    pub(super) fn alone(&self, words: &str) -> Result<Measured, Halt<anyhow::Error>> {
        let seconds = WARMUP.as_secs_f64() + STEP_S.0;
        self.run(Shape::Closed { seconds }, 1, words)
    }

    /// One rate.
    pub(super) fn step(&self, rate: f64, words: &str) -> Result<Step, Halt<anyhow::Error>> {
        let latency_ms = match self.objective {
            Objective::Within { ms, .. } => ms,
            Objective::Goodput { .. } => 0.0,
        };
        let least = STEP_S.0.max(latency_ms / 1e3 * STEP_LATENCIES);
        let most = STEP_S.1.max(least);
        let seconds = (self.objective.samples() as f64 * FEWER / rate).clamp(least, most);
        let stage = Stage { seconds: seconds + WARMUP.as_secs_f64(), from: rate, to: rate };
        // Callers are independent of each other: even gaps would make batches that nobody gets.
        let shape = Shape::Open { stages: vec![stage], spread: Spread::Poisson };
        let measured = self.run(shape, CONNECTIONS, &format!("{words}: {rate:.0} requests/s"))?;
        Ok(Step { rate, verdict: judge(&[self.objective], &measured), measured })
    }

    fn run(&self, shape: Shape, connections: usize, words: &str) -> Result<Measured, Halt<anyhow::Error>> {
        let Prepared { target, traffic, .. } = self.prepared.clone();
        let plan = Plan {
            target,
            traffic,
            shape,
            connections,
            threads: 1,
            warmup: WARMUP,
            deadline: None,
            timeout: Duration::from_secs(10),
            retries: 0,
            seed: 1,
        };
        let told = |progress: &Progress| {
            if self.interrupted.load(Relaxed) {
                progress.stop();
            }
            let (at, of) = (self.began.elapsed().as_secs(), self.budget.as_secs());
            self.output.progress(&format!("{at}/{of} s  {words}"));
        };
        let measured = weir_load::run(&plan, told).map_err(|error| Halt::Failed(error.into()))?;
        self.output.progress("");
        // A step that was cut short says nothing.
        if self.interrupted.load(Relaxed) { Err(Halt::Spent) } else { Ok(measured) }
    }
}

/// The highest rate of those that were met.
pub(super) fn best(steps: &[Step]) -> Option<&Step> {
    let met = steps.iter().filter(|step| step.verdict == Verdict::Met);
    met.max_by(|a, b| a.rate.total_cmp(&b.rate))
}
