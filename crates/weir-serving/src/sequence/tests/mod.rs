//! Sequences on a model that adds: what was answered against what a simple model says.

mod redis;
mod replicas;

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use proptest::prelude::*;
use tokio::{runtime::Builder, task::JoinSet};
use weir_artifact::{SequenceSpec, SequenceStoreWord, StateSpec};
use weir_engine::{Context, Cost, Engine, EngineError, EngineInfo, Payload, Prepared};
use weir_types::{Batch, Clock, Deadline, ErrorCode, Outputs, TensorData};

use super::*;
use crate::{Cores, Local, LocalOptions};

const TTL: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(600);

/// A clock that stands until it is moved.
pub(super) struct Standing {
    start: Instant,
    passed: Mutex<Duration>,
}

impl Standing {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), passed: Mutex::default() })
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.passed.lock().unwrap() += by;
    }
}

impl Clock for Standing {
    fn now(&self) -> Instant {
        self.start + *self.passed.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// Adds what it is given to what it remembers, and fails on a negative number.
struct Adder(EngineInfo, Cost);

impl Engine for Adder {
    fn info(&self) -> &EngineInfo {
        &self.0
    }

    fn cost(&self) -> Cost {
        self.1
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        Ok(Prepared { rows: batch.rows, length: 1, payload: Payload::Tensors(batch.inputs) })
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        assert_eq!(work.len(), context.steps.len());
        let mut sums = Vec::new();
        for (work, step) in work.iter().zip(&context.steps) {
            let Payload::Tensors(inputs) = &work.payload else { panic!() };
            let (x, sum) =
                (inputs[0].as_f32().unwrap()[0], step.state.as_ref().map_or(0.0, |s| number(&s[0])));
            if x < 0.0 {
                return Err(EngineError::Runtime("negative".into()));
            }
            sums.push(sum + x);
        }
        for (step, sum) in context.steps.iter_mut().zip(&sums) {
            step.state = Some(vec![column(&[*sum])].into());
        }
        Ok(Outputs { rows: sums.len(), tensors: vec![column(&sums)] })
    }
}

fn column(values: &[f32]) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::Float32(values.to_vec())).unwrap()
}

fn number(tensor: &Tensor) -> f32 {
    tensor.as_f32().unwrap()[0]
}

pub(super) fn spec(max_sequences: usize) -> Arc<SequenceSpec> {
    let initial = column(&[0.0]);
    Arc::new(SequenceSpec {
        ttl: TTL,
        max_sequences,
        queue: 3,
        store: SequenceStoreWord::Memory,
        feeds: Vec::new(),
        states: vec![StateSpec { output: 1, name: "sum".into(), axis: Some(0), initial }],
        outputs: vec![0],
        merges: true,
    })
}

/// Runs sequences on a model that adds.
pub(super) fn executor(
    cost: Cost,
    spec: Arc<SequenceSpec>,
    clock: &Arc<Standing>,
    store: Option<Arc<dyn SequenceStore>>,
) -> SequenceExecutor {
    executor_on(Arc::new(Cores::new(2)), cost, spec, clock, store)
}

fn executor_on(
    cores: Arc<Cores>,
    cost: Cost,
    spec: Arc<SequenceSpec>,
    clock: &Arc<Standing>,
    store: Option<Arc<dyn SequenceStore>>,
) -> SequenceExecutor {
    let info = EngineInfo { name: "test", version: "1".into(), reason: "a test".into() };
    let options = LocalOptions {
        batching: weir_artifact::BatchingTable { instances: Some(1), ..Default::default() },
        queue: 10_000,
        merge: true,
        uniform: true,
        cores,
        clock: clock.clone(),
    };
    let inner = Arc::new(Local::new(Arc::new(Adder(info, cost)), options));
    let (model, identity) = ("adder".parse().unwrap(), Identity::new("d"));
    let table = Arc::new(Sequences::new(clock.clone()));
    let own = Own { model, identity, spec, table, store, clock: clock.clone() };
    SequenceExecutor { inner, own: Arc::new(own) }
}

pub(super) fn step(clock: &Standing, id: u64, (start, end): (bool, bool), x: f32) -> Job {
    let batch = Batch { rows: 1, inputs: vec![column(&[x])] };
    let sequence = SequenceStep { id: SequenceId::number(id).unwrap(), start, end };
    Job { sequence: Some(sequence), ..Job::new(batch, Deadline::after(clock.now(), LONG)) }
}

pub(super) fn sum(done: &Done) -> f32 {
    number(&done.outputs.tensors[0])
}

/// What came of a future that is polled once and dropped.
pub(super) async fn once<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

#[derive(Debug, Clone)]
enum Op {
    Step { id: u64, start: bool, end: bool, x: f32, dropped: bool },
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let x = prop_oneof![9 => (0..100i16).prop_map(f32::from), 1 => Just(-1.0)];
    let step =
        (1..6u64, prop::bool::weighted(0.3), prop::bool::weighted(0.15), x, prop::bool::weighted(0.15));
    let step = step.prop_map(|(id, start, end, x, dropped)| Op::Step { id, start, end, x, dropped });
    prop_oneof![12 => step, 1 => (0..8u64).prop_map(Op::Advance)]
}

/// What sequences are: a sum each, and when it was last added to.
#[derive(Default)]
struct Reference {
    sums: HashMap<u64, (f32, Instant)>,
}

impl Reference {
    fn forget(&mut self, now: Instant) {
        self.sums.retain(|_, (_, last)| now - *last < TTL);
    }

    /// What a step must answer; whoever is told of it applies it.
    fn expect(&self, id: u64, start: bool, x: f32, most: usize) -> Result<f32, ErrorCode> {
        match self.sums.get(&id) {
            None if !start => Err(ErrorCode::InvalidArgument),
            None if self.sums.len() >= most => Err(ErrorCode::Overloaded),
            _ if x < 0.0 => Err(ErrorCode::Internal),
            found => Ok(x + found.filter(|_| !start).map_or(0.0, |(sum, _)| *sum)),
        }
    }

    /// A step was tried: it counts if it was answered, and whatever came of it, the sequence was
    /// not idle.
    fn tried(&mut self, id: u64, end: bool, answer: Option<f32>, now: Instant) {
        match answer {
            Some(_) if end => drop(self.sums.remove(&id)),
            Some(sum) => drop(self.sums.insert(id, (sum, now))),
            None => drop(self.sums.get_mut(&id).map(|(_, last)| *last = now)),
        }
    }
}

async fn agree(cost: Cost, ops: &[Op]) -> Result<(), TestCaseError> {
    const MOST: usize = 3;
    let clock = Standing::new();
    let executor = executor(cost, spec(MOST), &clock, None);
    let mut reference = Reference::default();
    for op in ops {
        let now = clock.now();
        reference.forget(now);
        match *op {
            Op::Advance(seconds) => clock.advance(Duration::from_secs(seconds)),
            Op::Step { id, start, end, x, dropped } => {
                let expected = reference.expect(id, start, x, MOST);
                let asked = executor.execute(step(&clock, id, (start, end), x));
                let came = if dropped { once(asked).await } else { Some(asked.await) };
                if let Some(came) = &came {
                    prop_assert_eq!(came.as_ref().map(sum).map_err(|e| e.code), expected);
                }
                let counts = came.and_then(Result::ok).map(|done| sum(&done));
                reference.tried(id, end, counts, now);
            }
        }
        let table = executor.sequences().unwrap();
        reference.forget(clock.now());
        prop_assert_eq!(table.live(), reference.sums.len());
        prop_assert_eq!(table.bytes(), 4 * reference.sums.len() as u64);
    }
    Ok(())
}

proptest! {
    #[test]
    fn sequences_are_what_a_simple_model_says(ops in prop::collection::vec(op(), 0..60), heavy: bool) {
        let cost = if heavy { Cost::Heavy } else { Cost::Light };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(cost, &ops))?;
    }
}

#[tokio::test]
async fn steps_of_one_sequence_run_in_the_order_in_which_they_came_and_others_beside_them() {
    let (clock, cores) = (Standing::new(), Arc::new(Cores::new(1)));
    let executor = Arc::new(executor_on(cores.clone(), Cost::Heavy, spec(100), &clock, None));
    let busy = cores.take(1);
    let mut all = JoinSet::new();
    for n in 0..4u32 {
        for id in 1..9 {
            let (executor, job) =
                (executor.clone(), step(&clock, id, (n == 0, n == 3), 10f32.powi(n as i32)));
            all.spawn(async move { (id, n, sum(&executor.execute(job).await.unwrap())) });
        }
    }
    // The first step of each; the others wait for them.
    while executor.waiting() < 8 {
        tokio::task::yield_now().await;
    }
    drop(busy);
    let mut answers = all.join_all().await;
    answers.sort_by_key(|(id, n, _)| (*id, *n));
    for (answer, wanted) in answers.iter().zip([1.0, 11.0, 111.0, 1111.0].iter().cycle()) {
        assert_eq!(answer.2, *wanted, "{answer:?}");
    }
    assert_eq!(executor.sequences().unwrap().live(), 0);
    let sizes = executor.stats().batches.sizes();
    assert!(sizes.iter().any(|(rows, ..)| *rows == 8), "different sequences share an execution: {sizes:?}");
}

#[tokio::test]
async fn too_many_steps_too_many_sequences_and_no_sequence_are_told_apart() {
    let clock = Standing::new();
    let executor = Arc::new(executor(Cost::Light, spec(1), &clock, None));
    let ask = |id, flags| executor.execute(step(&clock, id, flags, 1.0));
    let none = Job { sequence: None, ..step(&clock, 1, (true, false), 1.0) };
    let none = executor.execute(none).await.unwrap_err();
    assert!(none.message.contains("must specify a non-zero or non-empty correlation ID"), "{none}");
    let unknown = ask(7, (false, false)).await.unwrap_err();
    assert!(
        unknown.message.contains("for sequence 7 to model 'adder' must specify the START flag"),
        "{unknown}"
    );
    ask(1, (true, false)).await.unwrap();
    clock.advance(Duration::from_secs(4));
    let full = ask(2, (true, false)).await.unwrap_err();
    assert_eq!((full.code, full.retry_after), (ErrorCode::Overloaded, Some(Duration::from_secs(6))));
    // The sequence is held, so that steps wait.
    let key = Key { tenant: Principal::LOCAL, id: SequenceId::number(1).unwrap() };
    let turn = executor.own.table.enter(&executor.own.spec, key, false).ok().unwrap();
    let held = turn.progress.clone().lock_owned().await;
    let mut waiting: Vec<_> = (0..3).map(|_| ask(1, (false, false))).collect();
    for waiting in &mut waiting {
        assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
    }
    let busy = ask(1, (false, false)).await.unwrap_err();
    assert!(
        busy.code == ErrorCode::Overloaded && busy.message.contains("3 steps of sequence 1 wait"),
        "{busy}"
    );
    drop(waiting.pop());
    assert!(once(ask(1, (false, false))).await.is_none(), "who goes away makes room");
    drop((held, turn));
    let mut sums = Vec::new();
    for waiting in waiting {
        sums.push(sum(&waiting.await.unwrap()));
    }
    assert_eq!(sums, [2.0, 3.0]);
    let counts = executor.sequences().unwrap().counts();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        [count(&counts.started), count(&counts.full), count(&counts.busy), count(&counts.unknown)],
        [1; 4]
    );
}

#[tokio::test]
async fn a_sequence_belongs_to_whoever_began_it() {
    let clock = Standing::new();
    let executor = executor(Cost::Light, spec(10), &clock, None);
    let of = |name: &'static str, flags, x| Job {
        caller: Caller::Named(Principal::new(name)),
        ..step(&clock, 1, flags, x)
    };
    executor.execute(of("a", (true, false), 5.0)).await.unwrap();
    assert!(executor.execute(of("b", (false, false), 1.0)).await.is_err());
    executor.execute(of("b", (true, false), 100.0)).await.unwrap();
    let done = executor.execute(of("a", (false, false), 1.0)).await.unwrap();
    assert_eq!(sum(&done), 6.0);
}
