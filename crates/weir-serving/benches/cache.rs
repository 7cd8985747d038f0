//! What the cache costs: nanoseconds of a hit and of a miss, and bytes of memory a row, for a row
//! of 8 floats and for a text of 60 bytes.
//!
//! ```sh
//! cargo bench -p weir-serving --bench cache                     # times
//! cargo bench -p weir-serving --bench cache -- rss texts 200000 # bytes, counted and measured
//! ```
//!
//! The model answers at once, so that what is left is the cache.

// A benchmark is read on the terminal and stops at the first surprise, like a test.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use weir_artifact::{CacheTable, EngineChoice, ModelLimits, ModelSpec, Task};
use weir_config::ByteSize;
use weir_engine::EngineInfo;
use weir_serving::{Cache, CacheConfig, Done, ExecuteFuture, Executor, Job, Stats, Took};
use weir_types::{Batch, Clock, Deadline, Outputs, Schema, Signature, SystemClock, Tensor, TensorData};

/// Rows that are asked for again and again.
const HOT: usize = 1_000;
/// Rounds; the median counts.
const ROUNDS: usize = 21;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let floats = ("8 floats", floats as fn(usize) -> Tensor);
    let texts = ("60 bytes of text", texts as fn(usize) -> Tensor);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => [floats, texts].into_iter().for_each(|(name, row)| times(name, row)),
        // One a process: memory that was freed would be used again.
        ["rss", "floats", rows] => memory(floats, rows.parse().unwrap()),
        ["rss", "texts", rows] => memory(texts, rows.parse().unwrap()),
        _ => println!("arguments: none, or `rss floats ROWS`, or `rss texts ROWS`"),
    }
}

/// Answers two scores a row at once, and counts ten tokens a text.
#[derive(Default)]
struct AtOnce(Stats);

impl Executor for AtOnce {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let rows = job.batch.rows;
        let tokens = job.batch.inputs[0].as_strings().map(|texts| vec![10; texts.len()]);
        let scores = Tensor::new(vec![rows, 2], TensorData::Float32(vec![0.5; rows * 2])).unwrap();
        let outputs = Outputs { rows, tensors: vec![scores] };
        let done = Done { outputs, tokens, cache: None, state: None, took: Took::default() };
        Box::pin(std::future::ready(Ok(done)))
    }

    fn stats(&self) -> &Stats {
        &self.0
    }

    fn by_row(&self) -> bool {
        true
    }
}

fn floats(row: usize) -> Tensor {
    Tensor::new(vec![1, 8], TensorData::Float32((0..8).map(|i| (row * 8 + i) as f32).collect())).unwrap()
}

fn texts(row: usize) -> Tensor {
    Tensor::new(
        vec![1],
        TensorData::String(vec![format!("{row:0>9} is what one person said of the film on Monday.. ")]),
    )
    .unwrap()
}

fn cached() -> (Cache, Arc<dyn Executor>) {
    let config = CacheConfig { budget: ByteSize::mib(1024), ..CacheConfig::default() };
    let cache = Cache::new(config, Arc::new(SystemClock));
    let engine = EngineInfo { name: "bench", version: "1".into(), reason: "a benchmark".into() };
    let executor = cache.wrap(&Arc::new(spec()), &engine, &[], Arc::new(AtOnce::default()));
    (cache, executor)
}

fn spec() -> ModelSpec {
    ModelSpec {
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        artifact: "m.onnx".into(),
        artifact_bytes: 1,
        modified: None,
        digest: "d".into(),
        description: None,
        signature: Signature::default(),
        schema: Schema::default(),
        task: Task::Raw,
        labels: vec![],
        answers: vec![],
        text: None,
        graph: None,
        engine: EngineChoice::Auto,
        limits: ModelLimits::default(),
        batching: Default::default(),
        cache: Some(CacheTable::default()),
        deterministic: true,
        stateful: false,
        sequence: None,
        columns: false,
        lookups: Default::default(),
        samples: vec![],
        notes: vec![],
    }
}

fn ask(executor: &dyn Executor, batch: Batch) -> Done {
    let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(60));
    let mut future = executor.execute(Job::new(batch, deadline));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.unwrap(),
        Poll::Pending => unreachable!("the model answers at once"),
    }
}

fn batch(tensors: &[Tensor]) -> Batch {
    let all: Vec<&Tensor> = tensors.iter().collect();
    Batch { rows: tensors.len(), inputs: vec![Tensor::concat_rows(&all).unwrap()] }
}

/// Median nanoseconds a call of `run`, given `n` inputs made by `make`.
fn median<T>(n: usize, mut make: impl FnMut(usize) -> T, mut run: impl FnMut(T)) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let inputs: Vec<T> = (0..n).map(|i| make(round * n + i)).collect();
            let start = Instant::now();
            inputs.into_iter().for_each(&mut run);
            start.elapsed().as_nanos() as f64 / n as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn times(name: &str, row: fn(usize) -> Tensor) {
    let plain = AtOnce::default();
    let (_cache, executor) = cached();
    (0..HOT).for_each(|i| drop(ask(&*executor, batch(&[row(i)]))));
    let one = |i: usize| batch(&[row(i % HOT)]);
    let without = median(HOT, one, |batch| drop(black_box(ask(&plain, batch))));
    let hit = median(HOT, one, |batch| drop(black_box(ask(&*executor, batch))));
    let many = |i: usize| batch(&(0..32).map(|k| row((i * 32 + k) % HOT)).collect::<Vec<_>>());
    let hits = median(HOT / 32, many, |batch| drop(black_box(ask(&*executor, batch)))) / 32.0;
    let miss = median(HOT, |i| batch(&[row(HOT + i)]), |batch| drop(black_box(ask(&*executor, batch))));
    println!(
        "{name}: hit {hit:.0} ns, of 32 rows {hits:.0} ns a row; miss {miss:.0} ns; without a cache {without:.0} ns"
    );
}

fn memory((name, row): (&str, fn(usize) -> Tensor), rows: usize) {
    let (_cache, executor) = cached();
    (0..100).for_each(|i| drop(ask(&*executor, batch(&[row(rows + i)]))));
    let before = resident_bytes();
    (0..rows).for_each(|i| drop(ask(&*executor, batch(&[row(i)]))));
    let measured = (resident_bytes() - before) as f64 / rows as f64;
    let Some(stats) = executor.cached().map(|cached| cached.stats().memory) else { return };
    let counted = stats.bytes as f64 / stats.entries as f64;
    println!(
        "{name}: {counted:.0} bytes a row are counted, {measured:.0} are resident more ({} rows)",
        stats.entries
    );
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
