//! What the tests are made of: a model, an executor that is told when to answer, a shared tier.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};
use weir_artifact::{CacheTable, EngineChoice, ModelLimits, ModelSpec, Task};
use weir_engine::EngineInfo;
use weir_types::{
    Batch, Clock, DType, Deadline, Dim, Error, Field, InputSlot, Outputs, Schema, Signature, SystemClock,
    Tensor, TensorData, TensorSpec,
};

use crate::{
    Cache, CacheConfig, CacheControl, CacheMode, CacheStats, Done, ExecuteFuture, Executor, Job, Stats, Tier,
    TierEntry, TierError, TierFuture, Took, executor::tests::double,
};

pub(super) const LONG: Duration = Duration::from_secs(600);

/// A model of one number a row whose answer is one more.
pub(super) fn spec(table: CacheTable) -> Arc<ModelSpec> {
    let tensor =
        |name: &str| TensorSpec { name: name.into(), dtype: DType::Float32, shape: vec![Dim::Any(None)] };
    let schema = Schema {
        fields: vec![Field::new("x", DType::Float32, 0, 0)],
        inputs: vec![InputSlot { name: "x".into(), dtype: DType::Float32, row_shape: vec![] }],
        ..Schema::default()
    };
    Arc::new(ModelSpec {
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        artifact: "m.onnx".into(),
        artifact_bytes: 1,
        modified: None,
        digest: "d".into(),
        description: None,
        signature: Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")] },
        schema,
        task: Task::Regression,
        labels: vec![],
        answers: vec![],
        text: None,
        graph: None,
        engine: EngineChoice::Auto,
        limits: ModelLimits::default(),
        batching: Default::default(),
        cache: Some(table),
        deterministic: true,
        stateful: false,
        sequence: None,
        lookups: Default::default(),
        columns: false,
        samples: vec![],
        notes: vec![],
    })
}

pub(super) fn engine() -> EngineInfo {
    EngineInfo { name: "test", version: "1".into(), reason: "a test".into() }
}

pub(super) fn wrap(cache: &Cache, table: CacheTable, executor: Arc<dyn Executor>) -> Arc<dyn Executor> {
    cache.wrap(&spec(table), &engine(), &[], executor)
}

/// A model of a microsecond a row under a cache, and its clock.
pub(super) struct Light {
    pub(super) double: Arc<double::Double>,
    pub(super) cache: Cache,
    pub(super) executor: Arc<dyn Executor>,
}

/// The test's clock, which the engine moves.
pub(super) struct SharedClock(pub(super) Arc<double::Double>);

impl Clock for SharedClock {
    fn now(&self) -> std::time::Instant {
        self.0.clock().now()
    }

    fn wall(&self) -> std::time::SystemTime {
        self.0.clock().wall()
    }
}

impl Light {
    pub(super) fn new(table: CacheTable) -> Self {
        Self::with(table, |clock| Cache::new(CacheConfig::default(), clock))
    }

    pub(super) fn with(table: CacheTable, cache: impl FnOnce(Arc<dyn Clock>) -> Cache) -> Self {
        let double = double::Double::light();
        let cache = cache(Arc::new(SharedClock(double.clone())));
        let executor = wrap(&cache, table, Arc::new(double::executor(&double, Arc::default())));
        Self { double, cache, executor }
    }

    pub(super) async fn ask(&self, values: &[f32]) -> Done {
        self.ask_as(values, CacheMode::Use).await.unwrap()
    }

    pub(super) async fn ask_as(&self, values: &[f32], cache: impl Into<CacheControl>) -> Result<Done, Error> {
        let job = Job { cache: cache.into(), ..double::job(self.double.clock(), values, LONG) };
        self.executor.execute(job).await
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.executor.cached().unwrap().stats()
    }
}

pub(super) fn values(outputs: &Outputs) -> Vec<f32> {
    outputs.tensors[0].as_f32().unwrap().to_vec()
}

pub(super) fn column(values: Vec<f32>) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::Float32(values)).unwrap()
}

pub(super) fn job(values: &[f32], timeout: Duration) -> Job {
    let batch = Batch { rows: values.len(), inputs: vec![column(values.to_vec())] };
    Job::new(batch, Deadline::after(SystemClock.now(), timeout))
}

/// The rows of a job, and how it is told to end.
type Waiting = (Vec<f32>, oneshot::Sender<Result<(), Error>>);

/// An executor whose jobs wait until they are told how they end.
#[derive(Default)]
pub(super) struct Told {
    stats: Stats,
    waiting: Mutex<VecDeque<Waiting>>,
    pub(super) asked: AtomicUsize,
    /// Whether it says that it took no time, and not 10 ms.
    pub(super) quick: AtomicBool,
}

impl Told {
    /// Jobs that wait, those of callers who went away not counted.
    pub(super) fn waiting(&self) -> Vec<Vec<f32>> {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.retain(|(_, reply)| !reply.is_closed());
        waiting.iter().map(|(rows, _)| rows.clone()).collect()
    }

    /// Ends the job at `index` of those that wait.
    pub(super) fn end(&self, index: usize, result: Result<(), Error>) {
        let (_, reply) = self.waiting.lock().unwrap().remove(index).unwrap();
        let _ = reply.send(result);
    }
}

impl Executor for Told {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let rows = job.batch.inputs[0].as_f32().unwrap().to_vec();
        let (reply, told) = oneshot::channel();
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().unwrap().push_back((rows.clone(), reply));
        let ran = Duration::from_millis(if self.quick.load(Ordering::Relaxed) { 0 } else { 10 });
        Box::pin(async move {
            told.await.unwrap()?;
            let tokens = Some(rows.iter().map(|row| *row as u32 + 100).collect());
            let outputs = Outputs {
                rows: rows.len(),
                tensors: vec![column(rows.iter().map(|row| row + 1.0).collect())],
            };
            Ok(Done { outputs, tokens, cache: None, state: None, took: Took::by_model(Duration::ZERO, ran) })
        })
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn by_row(&self) -> bool {
        true
    }
}

/// How long a tier that hangs is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_millis(20);

/// A tier in memory, which can be away.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) values: Mutex<BTreeMap<Vec<u8>, Bytes>>,
    ends: Mutex<BTreeMap<Vec<u8>, Instant>>,
    pub(super) away: AtomicBool,
    /// Whether each call times out.
    pub(super) hangs: AtomicBool,
    /// Whether it deletes nothing.
    pub(super) keeps: AtomicBool,
}

impl Shelf {
    /// Keys that begin with `kind`.
    pub(super) fn keys(&self, kind: &str) -> Vec<Vec<u8>> {
        let values = self.values.lock().unwrap();
        values.keys().filter(|key| key.starts_with(kind.as_bytes())).cloned().collect()
    }

    fn forget_old(&self) {
        let mut ends = self.ends.lock().unwrap();
        let mut values = self.values.lock().unwrap();
        ends.retain(|key, end| {
            let keep = *end > Instant::now();
            if !keep {
                values.remove(key);
            }
            keep
        });
    }

    async fn here(&self) -> Result<(), TierError> {
        if self.hangs.load(Ordering::Relaxed) {
            tokio::time::sleep(TIMEOUT).await;
            return Err(TierError("timeout".into()));
        }
        self.forget_old();
        if self.away.load(Ordering::Relaxed) { Err(TierError("away".into())) } else { Ok(()) }
    }

    fn store(&self, entry: &TierEntry) -> bool {
        let mut values = self.values.lock().unwrap();
        let taken = entry.if_absent && values.contains_key(&entry.key);
        if !taken {
            values.insert(entry.key.clone(), entry.value.clone());
            let end = entry.ttl.map(|ttl| (entry.key.clone(), Instant::now() + ttl));
            self.ends.lock().unwrap().extend(end);
        }
        !taken
    }
}

impl Tier for Shelf {
    fn get_each<'a>(&'a self, keys: &'a [Vec<u8>]) -> TierFuture<'a, Vec<Result<Option<Bytes>, TierError>>> {
        Box::pin(async move {
            let here = self.here().await;
            let values = self.values.lock().unwrap();
            keys.iter().map(|key| here.clone().map(|()| values.get(key).cloned())).collect()
        })
    }

    fn set_many<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Result<Vec<bool>, TierError>> {
        Box::pin(async move {
            self.here().await?;
            Ok(entries.iter().map(|entry| self.store(entry)).collect())
        })
    }

    fn store_each<'a>(&'a self, entries: &'a [TierEntry]) -> TierFuture<'a, Vec<Result<(), TierError>>> {
        Box::pin(async move {
            let stored = self.set_many(entries).await.map(drop);
            vec![stored; entries.len()]
        })
    }

    fn delete_matching<'a>(&'a self, prefix: &'a [u8]) -> TierFuture<'a, Result<u64, TierError>> {
        Box::pin(async move {
            self.here().await?;
            if self.keeps.load(Ordering::Relaxed) {
                return Err(TierError("no permission".into()));
            }
            let mut values = self.values.lock().unwrap();
            let before = values.len();
            values.retain(|key, _| !key.starts_with(prefix));
            Ok((before - values.len()) as u64)
        })
    }
}

/// Lets everything run that can.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
