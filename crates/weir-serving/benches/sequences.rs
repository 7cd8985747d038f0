//! What sequences cost on the voice-activity model of silero-vad: a step beside a direct call of
//! the engine, and the memory of ten thousand idle sequences.
//!
//! `sh tests/silero/setup.sh`, then `cargo bench -p weir-serving --bench sequences`.

// A bench is a program that prints and stops at what is wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    collections::BTreeSet,
    fs,
    hint::black_box,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use weir_artifact::discover;
use weir_engine::{Context, Engine, EngineOptions, Step};
use weir_serving::{Cores, Executor, Job, KeepSequences, LoadOptions, Loader, ServingSnapshot};
use weir_types::{Batch, Deadline, SequenceId, SequenceStep, SystemClock, Tensor, TensorData};

const FILE: &str = "silero_vad_16k_op15.onnx";
const ROUNDS: usize = 21;
const STEPS: usize = 200;
const IDLE: u64 = 10_000;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(site_packages(&root, "silero").join("silero_vad/data").join(FILE), folder.path().join(FILE))
        .unwrap();
    fs::copy(root.join("tests/silero/model.toml"), folder.path().join("model.toml")).unwrap();
    for (name, libraries) in
        [("ONNX Runtime", vec![site_packages(&root, "onnxruntime")]), ("rten", Vec::new())]
    {
        // A library that was loaded serves the whole process: rten is asked for by name.
        if libraries.is_empty() {
            let manifest = folder.path().join("model.toml");
            let text =
                fs::read_to_string(&manifest).unwrap().replacen("name =", "engine = \"rten\"\nname =", 1);
            fs::write(manifest, text).unwrap();
        }
        measure(name, folder.path(), &EngineOptions::new(None, &libraries));
    }
}

fn site_packages(root: &Path, venv: &str) -> PathBuf {
    let lib = root.join(".cache/venvs").join(venv).join("lib");
    fs::read_dir(lib).unwrap().next().unwrap().unwrap().path().join("site-packages")
}

fn measure(name: &str, folder: &Path, engine: &EngineOptions) {
    let model = weir_artifact::load(&discover(folder).complete().unwrap()[0]).unwrap();
    let direct = weir_engine::load(&model, engine).unwrap();
    let executor = executor(folder, engine);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // As many again before, which take what memory was left over from loading.
    let start = |ids: Range<u64>| {
        ids.for_each(|id| drop(runtime.block_on(executor.execute(job(id, true))).unwrap()));
    };
    start(1..IDLE - 100);
    let before = resident();
    start(IDLE..2 * IDLE);
    let each = (resident() - before) as f64 / IDLE as f64;
    let table = executor.sequences().unwrap();
    let state = table.bytes() as f64 / table.live() as f64;
    println!("{name}: {} idle sequences, {each:.0} bytes each, {state:.0} of them state", table.live());
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS as u64 {
        pairs.push((calls(&*direct), steps(&runtime, &*executor, 3 * IDLE + round)));
    }
    pairs.remove(0); // warm-up
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let call = median(pairs.iter().map(|(call, _)| *call).collect());
    let step = median(pairs.iter().map(|(_, step)| *step).collect());
    println!(
        "{name}: a call {call:.1} µs, a step {step:.1} µs, more {:.1} µs (medians of {ROUNDS})",
        step - call
    );
}

fn executor(folder: &Path, engine: &EngineOptions) -> Arc<dyn Executor> {
    let options = LoadOptions {
        engine: engine.clone(),
        cores: Arc::new(Cores::new(1)),
        queue: 8,
        clock: Arc::new(SystemClock),
        budget: None,
        batching: None,
        cache: None,
        features: None,
        sequences: KeepSequences::Here,
    };
    let loader = Loader::new(vec![folder.to_owned()], options);
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    assert!(snapshot.failures().is_empty(), "{:?}", snapshot.failures());
    snapshot.version("voice", None).unwrap().executor.clone()
}

fn frame() -> Batch {
    let samples = (0..576).map(|i| (i as f32 * 0.1).sin() * 0.1).collect();
    Batch { rows: 1, inputs: vec![Tensor::new(vec![1, 576], TensorData::Float32(samples)).unwrap()] }
}

/// Microseconds of a call of the engine that carries its state along.
fn calls(engine: &dyn Engine) -> f64 {
    let mut context = Context { steps: vec![Step::default()], ..Context::default() };
    let start = Instant::now();
    for _ in 0..STEPS {
        let work = engine.prepare(frame()).unwrap();
        black_box(engine.execute(&[&work], &mut context).unwrap());
    }
    start.elapsed().as_secs_f64() * 1e6 / STEPS as f64
}

fn job(id: u64, start: bool) -> Job {
    let id = SequenceId::number(id).unwrap();
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    Job { sequence: Some(SequenceStep { id, start, end: false }), ..Job::new(frame(), deadline) }
}

/// Microseconds of a step of a sequence.
fn steps(runtime: &Runtime, executor: &dyn Executor, id: u64) -> f64 {
    let start = Instant::now();
    for step in 0..STEPS {
        black_box(runtime.block_on(executor.execute(job(id, step == 0))).unwrap());
    }
    start.elapsed().as_secs_f64() * 1e6 / STEPS as f64
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
