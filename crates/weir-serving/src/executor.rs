//! Where prepared work runs.

mod inline;
mod pool;
mod remote;
mod resident;
mod timing;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use weir_clients::GuardStats;
use weir_engine::{CancelFlag, Context, Engine, EngineError};
use weir_types::{Batch, Deadline, Error, Outputs};

pub use inline::{BySize, Inline};
pub use pool::Pool;
pub use remote::{Remote, describe_remote};
pub(crate) use remote::{block_on, describe};
pub use resident::MemoryBudget;
pub(crate) use resident::Resident;
pub use timing::Timing;

/// One request's work.
#[derive(Debug)]
pub struct Job {
    /// The rows.
    pub batch: Batch,
    /// When the answer stops being of use.
    pub deadline: Deadline,
}

/// What came of a job.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub outputs: Outputs,
    /// How long the job waited for a thread.
    pub queued: Duration,
    /// How long the engine ran.
    pub ran: Duration,
}

/// The future of one execution. Dropping it means that nobody waits any more: work that
/// has not started then never does.
pub type ExecuteFuture<'a> = Pin<Box<dyn Future<Output = Result<Done, Error>> + Send + 'a>>;

/// Runs jobs on one model's engine, here or on another server: that is why this is async and
/// the engine is not.
pub trait Executor: Send + Sync {
    /// Runs `job`.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `DeadlineExceeded` when the deadline passes
    /// first, and what the engine says of bad input or its own failure.
    fn execute(&self, job: Job) -> ExecuteFuture<'_>;

    /// What was counted so far.
    fn stats(&self) -> &Stats;

    /// Memory that the model holds now, where that is known: models under a budget.
    fn resident_bytes(&self) -> Option<u64> {
        None
    }

    /// How calls to another server go, for a model that one runs.
    fn remote(&self) -> Option<GuardStats> {
        None
    }
}

/// Counters of one executor; read by `/metrics`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Rows that the engine answered.
    pub rows: AtomicU64,
    /// Jobs that the engine ran.
    pub executed: AtomicU64,
    /// Jobs dropped before their turn because the caller went away or the deadline passed.
    pub abandoned: AtomicU64,
    /// Jobs refused because the queue was full.
    pub refused: AtomicU64,
    /// Jobs answered: queue and engine, and what a face adds for its own work.
    pub answered: Timing,
    /// Jobs that the engine failed to answer.
    pub failed: Timing,
    /// Waiting for a thread.
    pub queued: Timing,
    /// In the engine.
    pub ran: Timing,
    /// Decoding requests; told by the faces.
    pub decoded: Timing,
    /// Encoding answers; told by the faces.
    pub encoded: Timing,
    /// When the last job was answered, milliseconds since 1970; 0 before the first.
    pub last_answer_ms: AtomicU64,
}

impl Stats {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a job that the engine ran, as `result` came of it at `now`.
    pub(crate) fn finished<T>(
        &self,
        result: &Result<T, Error>,
        (queued, ran): (Duration, Duration),
        now: SystemTime,
    ) {
        if result.is_err() {
            return self.failed.record(queued + ran);
        }
        self.answered.record(queued + ran);
        self.queued.record(queued);
        self.ran.record(ran);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Milliseconds since 1970 fit for half a billion years.
        self.last_answer_ms.fetch_max(since.as_millis() as u64, Ordering::Relaxed);
    }

    /// Adds what a face spent on an answered job besides the model.
    pub fn face(&self, decoding: Duration, encoding: Duration) {
        self.decoded.record(decoding);
        self.encoded.record(encoding);
        self.answered.extend(decoding + encoding);
    }
}

/// Prepares and executes one batch, turning a panic into an error: one request's bad luck
/// must not take down the thread that serves the others.
fn run(engine: &dyn Engine, batch: Batch, cancel: CancelFlag, stats: &Stats) -> Result<Outputs, Error> {
    Stats::count(&stats.executed);
    let work = || -> Result<Outputs, EngineError> {
        let prepared = engine.prepare(batch)?;
        engine.execute(&[&prepared], &mut Context { outputs: None, cancel })
    };
    let result = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(EngineError::Runtime("the engine panicked".into())));
    match result {
        Ok(outputs) => {
            stats.rows.fetch_add(outputs.rows as u64, Ordering::Relaxed);
            Ok(outputs)
        }
        Err(error) => Err(report(engine, &error)),
    }
}

fn report(engine: &dyn Engine, error: &EngineError) -> Error {
    match error {
        EngineError::Input(_) | EngineError::Cancelled => {}
        other => tracing::error!(engine = engine.info().name, error = %other, "execution failed"),
    }
    error.public()
}

#[cfg(test)]
pub(crate) mod tests {
    //! The contract suite of [`Executor`]: each implementation runs all of it.

    use std::{
        sync::{Arc, Barrier},
        time::Instant,
    };

    use weir_engine::{Cost, EngineInfo, Payload, Prepared};
    use weir_types::{ErrorCode, SystemClock, Tensor, TensorData};

    use super::*;

    /// An engine that adds one, waits where it is told to, panics on a negative number.
    pub(crate) struct AddOne {
        info: EngineInfo,
        gate: Option<Arc<Barrier>>,
    }

    impl AddOne {
        pub(crate) fn new(gate: Option<Arc<Barrier>>) -> Arc<Self> {
            let info = EngineInfo { name: "test", version: "1".into(), reason: "a test".into() };
            Arc::new(Self { info, gate })
        }
    }

    impl Engine for AddOne {
        fn info(&self) -> &EngineInfo {
            &self.info
        }

        fn cost(&self) -> Cost {
            Cost::Light
        }

        fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
            Ok(Prepared { rows: batch.rows, length: 1, payload: Payload::Tensors(batch.inputs) })
        }

        fn execute(&self, work: &[&Prepared], _: &mut Context) -> Result<Outputs, EngineError> {
            if let Some(gate) = &self.gate {
                gate.wait();
            }
            let Payload::Tensors(inputs) = &work[0].payload else { unreachable!("prepared above") };
            let values = inputs[0].as_f32().ok_or(EngineError::Input("float32 only".into()))?;
            assert!(values.iter().all(|v| *v >= 0.0), "negative");
            let data = values.iter().map(|v| v + 1.0).collect();
            let tensor = Tensor::new(vec![values.len()], TensorData::Float32(data)).unwrap();
            Ok(Outputs { rows: work[0].rows, tensors: vec![tensor] })
        }
    }

    pub(crate) fn job(values: &[f32], timeout: Duration) -> Job {
        let tensor = Tensor::new(vec![values.len()], TensorData::Float32(values.to_vec())).unwrap();
        let batch = Batch { rows: values.len(), inputs: vec![tensor] };
        Job { batch, deadline: Deadline::after(Instant::now(), timeout) }
    }

    const LONG: Duration = Duration::from_secs(60);

    pub(crate) async fn contract(executor: &dyn Executor) {
        let done = executor.execute(job(&[1.0, 2.0], LONG)).await.unwrap();
        assert_eq!(done.outputs.tensors[0].as_f32(), Some(&[2.0, 3.0][..]));
        let panicked = executor.execute(job(&[-1.0], LONG)).await.unwrap_err();
        assert_eq!(panicked.code, ErrorCode::Internal);
        assert!(!panicked.message.contains("negative"), "internals leak: {panicked}");
        let late = executor.execute(job(&[1.0], Duration::ZERO)).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::DeadlineExceeded);
        executor.execute(job(&[5.0], LONG)).await.expect("a panic costs nobody else");
        let stats = executor.stats();
        assert_eq!(stats.executed.load(Ordering::Relaxed), 3, "the late job never ran");
        assert_eq!(stats.abandoned.load(Ordering::Relaxed), 1);
        assert_eq!(stats.rows.load(Ordering::Relaxed), 3);
        assert_eq!((stats.answered.count(), stats.failed.count()), (2, 1));
        assert_eq!(stats.answered.ns(), stats.queued.ns() + stats.ran.ns());
        assert!(stats.last_answer_ms.load(Ordering::Relaxed) > 1_600_000_000_000);
    }

    #[tokio::test]
    async fn inline_keeps_the_contract() {
        contract(&Inline::new(AddOne::new(None), Arc::new(SystemClock))).await;
    }

    #[tokio::test]
    async fn the_pool_keeps_the_contract() {
        contract(&Pool::new(AddOne::new(None), Arc::new(SystemClock), 2, 8).unwrap()).await;
    }

    #[tokio::test]
    async fn the_mix_of_both_keeps_the_contract() {
        let executor = BySize::new(AddOne::new(None), Arc::new(SystemClock), 1, 8, 1);
        contract(&executor).await;
    }
}
