//! The native engine on the housing demo: microseconds a call for 1, 32 and 1024 rows.
//!
//! `cargo bench -p weir-engine --bench forest`. Rows are rotated, since a row that repeats
//! trains the branch predictor; each figure is the median of rounds, with the fastest and
//! the slowest beside it.

// A bench is a program that prints and stops at what is wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{fs, hint::black_box, path::Path, time::Instant};

use weir_artifact::onnx::{GateLimits, read};
use weir_engine::{ClassicEngine, Context, Engine, Prepared};
use weir_types::{Batch, Tensor, TensorData};

const ROUNDS: usize = 31;
const ROWS_PER_ROUND: usize = 32_768;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/housing");
    let model = read(&fs::read(folder.join("model.onnx")).unwrap(), &GateLimits::default()).unwrap();
    let engine = ClassicEngine::load(&model, "bench".into()).unwrap();
    let rows = samples(&folder.join("samples.jsonl"));
    println!("housing, 100 trees of 31 leaves, one thread; µs a call: median (fastest .. slowest), M rows/s");
    for batch in [1, 32, 1024] {
        let work = batches(&engine, &rows, batch);
        let calls = ROWS_PER_ROUND / batch;
        let mut times: Vec<f64> = (0..=ROUNDS).map(|_| round(&engine, &work, calls)).collect();
        times.remove(0); // warm-up
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        let speed = batch as f64 / median;
        println!("{batch:5} rows  {median:9.3} ({:.3} .. {:.3})  {speed:.2}", times[0], times[ROUNDS - 1]);
    }
}

/// Average microseconds of `calls` calls.
fn round(engine: &ClassicEngine, work: &[Prepared], calls: usize) -> f64 {
    let start = Instant::now();
    for call in 0..calls {
        black_box(engine.execute(&[black_box(&work[call % work.len()])], &mut Context::default()).unwrap());
    }
    start.elapsed().as_secs_f64() * 1e6 / calls as f64
}

/// Prepared batches of `size` rows that start at different samples.
fn batches(engine: &ClassicEngine, rows: &[f32], size: usize) -> Vec<Prepared> {
    let count = rows.len() / 8;
    let batch = |start: usize| {
        let values = (0..size).flat_map(|i| rows[(start + i) % count * 8..][..8].iter().copied()).collect();
        let inputs = vec![Tensor::new(vec![size, 8], TensorData::Float32(values)).unwrap()];
        engine.prepare(Batch { rows: size, inputs }).unwrap()
    };
    (0..count).step_by(if size > 64 { 50 } else { 1 }).map(batch).collect()
}

fn samples(path: &Path) -> Vec<f32> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let values = |row: serde_json::Value| {
        row["input"].as_object().unwrap().values().map(|v| v.as_f64().unwrap() as f32).collect::<Vec<_>>()
    };
    text.lines().flat_map(|l| values(line(l))).collect()
}
