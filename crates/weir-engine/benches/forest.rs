//! The native engine on the housing demo: microseconds a call for 1, 32 and 1024 rows.
//!
//! `cargo bench -p weir-engine --bench forest`; another classifier or regressor of one
//! float32 matrix goes behind `--`, and is given random rows. Rows are rotated, since a row that repeats
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
    let other = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let path = other.as_ref().map_or_else(|| folder.join("model.onnx"), Into::into);
    let model = read(&fs::read(&path).unwrap(), &GateLimits::default()).unwrap();
    let engine = ClassicEngine::load(&model, "bench".into()).unwrap();
    let width = model.signature.inputs[0].row_width().unwrap();
    let rows = if other.is_some() { random(width) } else { samples(&folder.join("samples.jsonl")) };
    println!("{}, one thread; µs a call: median (fastest .. slowest), M rows/s", path.display());
    for batch in [1, 32, 1024] {
        let work = batches(&engine, &rows, width, batch);
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
fn batches(engine: &ClassicEngine, rows: &[f32], width: usize, size: usize) -> Vec<Prepared> {
    let count = rows.len() / width;
    let batch = |start: usize| {
        let values =
            (0..size).flat_map(|i| rows[(start + i) % count * width..][..width].iter().copied()).collect();
        let inputs = vec![Tensor::new(vec![size, width], TensorData::Float32(values)).unwrap()];
        engine.prepare(Batch { rows: size, inputs }).unwrap()
    };
    (0..count).step_by(if size > 64 { 50 } else { 1 }).map(batch).collect()
}

/// 500 rows of about normal values, from a fixed generator (PCG's multiplier).
fn random(width: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..500 * width).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.7 - 3.4).collect()
}

fn samples(path: &Path) -> Vec<f32> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let values = |row: serde_json::Value| {
        row["input"].as_object().unwrap().values().map(|v| v.as_f64().unwrap() as f32).collect::<Vec<_>>()
    };
    text.lines().flat_map(|l| values(line(l))).collect()
}
