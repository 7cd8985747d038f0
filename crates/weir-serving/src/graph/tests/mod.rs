//! Graphs over models made for the test.

mod life;
mod reference;
mod steps;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use weir_artifact::{Candidate, EngineChoice, Kind, ModelLimits, ModelSpec, Task, read_graph};
use weir_engine::EngineInfo;
use weir_types::{
    Batch, DType, Deadline, Dim, Error, ErrorCode, ModelName, Outputs, Schema, Signature, SystemClock,
    Tensor, TensorData, TensorSpec, Version,
};

use super::GraphExecutor;
use crate::{Caller, Done, ExecuteFuture, Executor, Job, ServedVersion, Stats, Took};

/// What a model of the test says about one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) p: [f32; 2],
    pub(super) label: i64,
    pub(super) word: String,
}

/// The model `number` as a function of a row: any function will do that tells rows and models
/// apart.
pub(super) fn say(number: usize, row: &[f32]) -> Said {
    let sum: f32 = row.iter().enumerate().map(|(i, v)| v * (i + 1 + number) as f32).sum();
    let p = (sum * 0.37).fract().abs();
    let label = i64::from(p > 0.4) + i64::from(p > 0.8);
    Said { p: [1.0 - p, p], label, word: format!("w{}", (label + number as i64) % 3) }
}

/// How a model behaves beside answering.
#[derive(Debug, Clone, Default)]
pub(super) enum Manner {
    /// Answers when it is first looked at.
    #[default]
    AtOnce,
    /// Lets others go first, this often.
    Later(usize),
    /// Waits until this many models are asked at the same time.
    Together(Arc<tokio::sync::Barrier>),
    /// Never answers; holds the token meanwhile.
    Never(Arc<()>),
    /// Fails.
    Fails,
    /// Refuses, before the body too.
    Refuses,
}

/// A model of the test, and how often it was asked for how many rows.
pub(super) struct Model {
    number: usize,
    manner: Manner,
    pub(super) calls: AtomicUsize,
    pub(super) rows: AtomicUsize,
    stats: Stats,
}

impl Model {
    pub(super) fn new(number: usize, manner: Manner) -> Arc<Self> {
        let (calls, rows) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { number, manner, calls, rows, stats: Stats::default() })
    }

    pub(super) fn asked(&self) -> (usize, usize) {
        (self.calls.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed))
    }

    fn answer(&self, batch: &Batch) -> Outputs {
        let rows: Vec<&[f32]> =
            batch.inputs[0].as_f32().unwrap().chunks(batch.inputs[0].row_width().max(1)).collect();
        let said: Vec<Said> = rows.into_iter().map(|row| say(self.number, row)).collect();
        let tensors = vec![
            (vec![2], TensorData::Float32(said.iter().flat_map(|s| s.p).collect())),
            (vec![], TensorData::Int64(said.iter().map(|s| s.label).collect())),
            (vec![], TensorData::String(said.into_iter().map(|s| s.word).collect())),
        ];
        let tensor = |(shape, data): (Vec<usize>, TensorData)| {
            Tensor::new(std::iter::once(batch.rows).chain(shape).collect(), data).unwrap()
        };
        Outputs { rows: batch.rows, tensors: tensors.into_iter().map(tensor).collect() }
    }
}

/// The model behind an executor, so that a test keeps it in hand too.
struct Asked(Arc<Model>);

impl Executor for Asked {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let model = &self.0;
        model.calls.fetch_add(1, Ordering::Relaxed);
        model.rows.fetch_add(job.batch.rows, Ordering::Relaxed);
        Box::pin(async move {
            match &model.manner {
                Manner::AtOnce => {}
                Manner::Later(times) => {
                    for _ in 0..*times {
                        tokio::task::yield_now().await;
                    }
                }
                Manner::Together(barrier) => {
                    barrier.wait().await;
                }
                Manner::Never(token) => {
                    let _held = token.clone();
                    std::future::pending::<()>().await;
                }
                Manner::Fails => return Err(Error::internal("it broke")),
                Manner::Refuses => return Err(full()),
            }
            Ok(Done {
                outputs: model.answer(&job.batch),
                tokens: None,
                cache: None,
                state: None,
                took: Took::default(),
            })
        })
    }

    fn ready(&self, _: &Caller, _: Deadline) -> Result<(), Error> {
        if matches!(self.0.manner, Manner::Refuses) { Err(full()) } else { Ok(()) }
    }

    fn stats(&self) -> &Stats {
        &self.0.stats
    }
}

fn full() -> Error {
    Error::new(ErrorCode::Overloaded, "full").retry_after(Duration::from_secs(3))
}

fn tensor(name: &str, dtype: DType, row: &[usize]) -> TensorSpec {
    let row = row.iter().map(|n| Dim::Fixed(*n));
    TensorSpec { name: name.into(), dtype, shape: std::iter::once(Dim::Any(None)).chain(row).collect() }
}

/// A version that takes `input`, `width` floats a row.
pub(super) fn version(
    name: &str,
    (input, width): (&str, usize),
    executor: Arc<dyn Executor>,
) -> Arc<ServedVersion> {
    let outputs = vec![
        tensor("p", DType::Float32, &[2]),
        tensor("label", DType::Int64, &[]),
        tensor("word", DType::String, &[]),
    ];
    let signature = Signature { inputs: vec![tensor(input, DType::Float32, &[width])], outputs };
    served(name, signature, executor)
}

pub(super) fn served(name: &str, signature: Signature, executor: Arc<dyn Executor>) -> Arc<ServedVersion> {
    let spec = ModelSpec {
        name: name.parse().unwrap(),
        version: Version::default(),
        artifact: PathBuf::new(),
        artifact_bytes: 0,
        modified: None,
        digest: name.to_owned(),
        description: None,
        signature,
        schema: Schema::default(),
        task: Task::Raw,
        labels: Vec::new(),
        answers: Vec::new(),
        text: None,
        graph: None,
        engine: EngineChoice::Auto,
        limits: ModelLimits::default(),
        batching: Default::default(),
        cache: None,
        deterministic: true,
        stateful: false,
        sequence: None,
        columns: false,
        lookups: Default::default(),
        samples: Vec::new(),
        notes: Vec::new(),
    };
    let engine = EngineInfo { name: "test", version: "1".into(), reason: "a test".into() };
    Arc::new(ServedVersion { spec: Arc::new(spec), engine, executor, lookup: None, members: Vec::new() })
}

/// Models `m0`, `m1`, … that take the input `x` of three floats.
pub(super) fn plain(models: &[Arc<Model>]) -> Vec<Arc<ServedVersion>> {
    let one = |(i, model): (usize, &Arc<Model>)| {
        version(&format!("m{i}"), ("x", 3), Arc::new(Asked(model.clone())))
    };
    models.iter().enumerate().map(one).collect()
}

/// Models `t0`, `t1`, … that take what those give as `p`.
pub(super) fn behind(models: &[Arc<Model>]) -> Vec<Arc<ServedVersion>> {
    let one = |(i, model): (usize, &Arc<Model>)| {
        version(&format!("t{i}"), ("p", 2), Arc::new(Asked(model.clone())))
    };
    models.iter().enumerate().map(one).collect()
}

/// The graph that `toml` describes, on these models.
pub(super) fn graph(toml: &str, versions: &[Arc<ServedVersion>]) -> GraphExecutor {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("model.toml");
    std::fs::write(&file, toml).unwrap();
    let candidate = Candidate {
        name: "g".parse().unwrap(),
        version: Version::default(),
        kind: Kind::Graph,
        folder: folder.path().to_owned(),
        artifact: file.clone(),
        manifest: Some(file),
        foreign: None,
    };
    let find = |model: &ModelName| versions.iter().find(|v| v.spec.name == *model);
    let lookup = |model: &ModelName, _: Option<&Version>| {
        find(model).map(|v| &*v.spec).ok_or_else(|| format!("there is no {model}"))
    };
    let spec = read_graph(&candidate)
        .unwrap()
        .resolve(&lookup)
        .unwrap_or_else(|problems| panic!("{toml}\n{problems:#?}"));
    let plan = spec.graph.unwrap();
    let members = plan.members.iter().map(|member| find(&member.model).unwrap().clone()).collect();
    GraphExecutor::new(plan, members, Arc::new(SystemClock))
}

pub(super) const LONG: Duration = Duration::from_secs(60);

/// A request of these rows.
pub(super) fn job(rows: &[[f32; 3]]) -> Job {
    let data = TensorData::Float32(rows.iter().flatten().copied().collect());
    let tensor = Tensor::new(vec![rows.len(), 3], data).unwrap();
    let batch = Batch { rows: rows.len(), inputs: vec![tensor] };
    Job::new(batch, Deadline::after(Instant::now(), LONG))
}
