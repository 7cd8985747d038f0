//! An engine that adds one, runs when it is told to, and panics on a negative number.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant, SystemTime},
};

use weir_engine::{CancelFlag, Context, Cost, Engine, EngineError, EngineInfo, Payload, Prepared};
use weir_types::{Batch, Clock, Deadline, Outputs, Tensor, TensorData};

use crate::executor::{Cores, Job, Local, LocalOptions, Stats};

/// A deadline that nothing here reaches.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A clock that runs when the engine does.
pub(crate) struct TestClock {
    start: Instant,
    passed: Mutex<Duration>,
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.passed.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.start + *self.passed.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }
}

#[derive(Default)]
struct Gate {
    entered: usize,
    /// How many executions may pass.
    allowed: usize,
    calls: Vec<Vec<f32>>,
    cancel: Option<CancelFlag>,
}

/// The engine.
pub(crate) struct Double {
    info: EngineInfo,
    cost: Cost,
    row: Duration,
    clock: Arc<TestClock>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl Double {
    fn new(cost: Cost, row: Duration, allowed: usize) -> Arc<Self> {
        Arc::new(Self {
            info: EngineInfo { name: "test", version: "1".into(), reason: "a test".into() },
            cost,
            row,
            clock: Arc::new(TestClock { start: Instant::now(), passed: Mutex::default() }),
            gate: Mutex::new(Gate { allowed, ..Gate::default() }),
            changed: Condvar::new(),
        })
    }

    /// Of a microsecond a row.
    pub(crate) fn light() -> Arc<Self> {
        Self::new(Cost::Light, Duration::from_micros(1), usize::MAX)
    }

    /// Of 10 ms a row.
    pub(crate) fn heavy() -> Arc<Self> {
        Self::new(Cost::Heavy, Duration::from_millis(10), usize::MAX)
    }

    /// The same, each execution held until it is allowed.
    pub(crate) fn held() -> Arc<Self> {
        Self::new(Cost::Heavy, Duration::from_millis(10), 0)
    }

    pub(crate) fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// The same clock, to be kept.
    pub(crate) fn clone_clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Waits until this many executions have begun.
    pub(crate) fn entered(&self, executions: usize) {
        let gate = self.gate.lock().unwrap();
        drop(self.changed.wait_while(gate, |gate| gate.entered < executions).unwrap());
    }

    /// Lets this many more executions pass.
    pub(crate) fn allow(&self, executions: usize) {
        self.gate.lock().unwrap().allowed += executions;
        self.changed.notify_all();
    }

    /// Lets all pass.
    pub(crate) fn open(&self) {
        self.gate.lock().unwrap().allowed = usize::MAX;
        self.changed.notify_all();
    }

    /// The rows of each execution, in order.
    pub(crate) fn calls(&self) -> Vec<Vec<f32>> {
        self.gate.lock().unwrap().calls.clone()
    }

    /// Whether the execution that began last was told that nobody waits.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.gate.lock().unwrap().cancel.as_ref().is_some_and(CancelFlag::is_cancelled)
    }

    fn enter(&self, rows: Vec<f32>, cancel: &CancelFlag) {
        let mut gate = self.gate.lock().unwrap();
        gate.calls.push(rows);
        gate.cancel = Some(cancel.clone());
        gate.entered += 1;
        let turn = gate.entered;
        self.changed.notify_all();
        drop(self.changed.wait_while(gate, |gate| gate.allowed < turn).unwrap());
    }
}

impl Engine for Double {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        if batch.inputs.iter().any(|t| t.as_f32().is_none()) {
            return Err(EngineError::Input("float32 only".into()));
        }
        Ok(Prepared { rows: batch.rows, length: 1, payload: Payload::Tensors(batch.inputs) })
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        let rows = work.iter().flat_map(|w| match &w.payload {
            Payload::Tensors(inputs) => inputs[0].as_f32().unwrap().to_vec(),
            Payload::Tokens(_) => unreachable!("prepared above"),
        });
        let rows: Vec<f32> = rows.collect();
        self.enter(rows.clone(), &context.cancel);
        // No rows take as long as one: after an execution in no time what comes next is expected to
        // take none either and runs inline, where a test that holds executions would hold itself.
        self.clock.advance(self.row * rows.len().max(1) as u32);
        assert!(rows.iter().all(|v| *v >= 0.0), "negative");
        Ok(Outputs { rows: rows.len(), tensors: vec![column(rows.iter().map(|v| v + 1.0).collect())] })
    }
}

fn column(values: Vec<f32>) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::Float32(values)).unwrap()
}

pub(crate) fn job(clock: &dyn Clock, values: &[f32], timeout: Duration) -> Job {
    let batch = Batch { rows: values.len(), inputs: vec![column(values.to_vec())] };
    Job::new(batch, Deadline::after(clock.now(), timeout))
}

/// A job whose input does not fit the model.
pub(crate) fn wrong(clock: &TestClock) -> Job {
    let tensor = Tensor::new(vec![1], TensorData::Int64(vec![1])).unwrap();
    Job::new(Batch { rows: 1, inputs: vec![tensor] }, Deadline::after(clock.now(), LONG))
}

fn options(double: &Double) -> LocalOptions {
    let batching = weir_artifact::BatchingTable { instances: Some(1), ..Default::default() };
    LocalOptions {
        batching,
        queue: 10_000,
        merge: true,
        uniform: true,
        cores: Arc::new(Cores::new(2)),
        clock: double.clock.clone(),
    }
}

/// One worker over `double`, with other options.
pub(crate) fn local_with(double: &Arc<Double>, edit: impl FnOnce(&mut LocalOptions)) -> Local {
    let mut options = options(double);
    edit(&mut options);
    Local::new(double.clone(), options)
}

/// One worker over `double`, batching in another way.
pub(crate) fn local(double: &Arc<Double>, edit: impl FnOnce(&mut weir_artifact::BatchingTable)) -> Local {
    local_with(double, |options| edit(&mut options.batching))
}

/// The same, counting into `stats`.
pub(crate) fn counting(
    double: &Arc<Double>,
    stats: Arc<Stats>,
    edit: impl FnOnce(&mut weir_artifact::BatchingTable),
) -> Local {
    let mut options = options(double);
    edit(&mut options.batching);
    Local::counting(double.clone(), options, stats)
}

/// The same, batching by default.
pub(crate) fn executor(double: &Arc<Double>, stats: Arc<Stats>) -> Local {
    counting(double, stats, |_| {})
}
