//! The sentiment demo: CPU milliseconds for one short sentence and for 16 mixed ones, per
//! runtime, beside the runtime called directly with the same tokens.
//!
//! ```sh
//! cargo bench -p weir-engine --bench text             # times and ratios
//! cargo bench -p weir-engine --bench text -- rss rten # memory of one engine, also: rss ort
//! ```
//!
//! Needs `make fetch` and `make venvs`. One thread; A and B interleaved, so that a slow
//! moment hits both.

// A benchmark is read on the terminal and stops at the first surprise, like a test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use rten::{Model, ModelOptions, RunOptions, ThreadPool, ValueView};
use weir_artifact::{EngineChoice, LoadedModel, discover, load};
use weir_engine::{
    Context, Engine, EngineOptions, Payload, Prepared,
    onnx::{LibraryHints, OrtLibrary, OrtLocation, candidates},
};
use weir_types::{Batch, Tensor, TensorData};

/// Rounds of A and B; each runs every body once.
const ROUNDS: usize = 43;
/// Rounds before those that count.
const WARM_UP: usize = 3;

const SHORT: [&str; 8] = [
    "I love you!",
    "I hate you!",
    "What a lovely day.",
    "This is so bad.",
    "Great job, thanks!",
    "Never buying here again.",
    "It was fine.",
    "Simply the best coffee.",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => times(),
        ["rss", engine] => memory(engine),
        _ => panic!("arguments: none, or `rss ort`, or `rss rten`"),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn location() -> OrtLocation {
    let lib = repository().join(".cache/venvs/onnxruntime/lib");
    let pythons = fs::read_dir(lib).unwrap_or_else(|e| panic!("no ONNX Runtime: {e}: run `make venvs`"));
    let site_packages = pythons.map(|p| p.unwrap().path().join("site-packages")).collect();
    OrtLocation {
        explicit: None,
        candidates: candidates(&LibraryHints { site_packages, ..Default::default() }),
    }
}

fn model() -> LoadedModel {
    let found = discover(&repository().join(".cache/sentiment"))
        .complete()
        .unwrap_or_else(|e| panic!("{e:?}: run `make fetch`"));
    load(&found[0]).unwrap()
}

fn engine(choice: EngineChoice) -> Arc<dyn Engine> {
    let mut model = model();
    model.spec.engine = choice;
    weir_engine::load(&model, &EngineOptions { ort: location(), threads: 1 }).unwrap()
}

/// Resident and peak memory of this process in MB.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    format!("{:.1} MB resident, {:.1} at its peak", of("VmRSS:"), of("VmHWM:"))
}

fn memory(name: &str) {
    println!("process alone: {}", resident());
    let engine = engine(match name {
        "ort" => EngineChoice::OnnxRuntime,
        "rten" => EngineChoice::Rten,
        other => panic!("no engine `{other}`"),
    });
    println!("{name} loaded: {}", resident());
    for text in SHORT {
        answer(&*engine, &[text]);
    }
    println!("after short sentences: {}", resident());
    let long = "word ".repeat(1000);
    answer(&*engine, &[long.as_str(); 64]);
    println!("after 64 texts of 256 tokens: {}", resident());
}

fn batch(texts: &[&str]) -> Batch {
    let data = TensorData::String(texts.iter().map(|&t| t.to_owned()).collect());
    Batch { rows: texts.len(), inputs: vec![Tensor::new(vec![texts.len()], data).unwrap()] }
}

fn answer(engine: &dyn Engine, texts: &[&str]) -> Tensor {
    let prepared = engine.prepare(batch(texts)).unwrap();
    engine.execute(&[&prepared], &mut Context::default()).unwrap().tensors.remove(0)
}

/// Token ids and mask as one padded matrix: what a direct caller would build.
struct Tokens {
    rows: usize,
    length: usize,
    ids: Vec<i64>,
    mask: Vec<i64>,
    types: Vec<i64>,
}

impl Tokens {
    fn of(prepared: &Prepared) -> Self {
        let Payload::Tokens(tokens) = &prepared.payload else { panic!("no tokens") };
        let (rows, length) = (prepared.rows, prepared.length);
        let cells = |f: &dyn Fn(&[u32], usize) -> i64| {
            tokens.ids.iter().flat_map(|row| (0..length).map(move |i| f(row, i))).collect::<Vec<i64>>()
        };
        let ids = cells(&|row, i| row.get(i).map_or(0, |&id| id.into()));
        let mask = cells(&|row, i| i64::from(i < row.len()));
        Self { rows, length, ids, mask, types: vec![0; rows * length] }
    }
}

type Direct = Box<dyn FnMut(&Tokens)>;

/// ONNX Runtime through its bindings, with our session options.
fn direct_ort(bytes: &[u8]) -> Direct {
    let environment = OrtLibrary::find(&location()).unwrap().environment();
    let builder = Session::builder(environment).unwrap();
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).unwrap();
    let mut session = builder.with_memory_pattern(false).unwrap().commit_from_memory(bytes).unwrap();
    Box::new(move |tokens| {
        let shape = [tokens.rows, tokens.length];
        let inputs = ort::inputs![
            "input_ids" => TensorRef::from_array_view((shape, &*tokens.ids)).unwrap(),
            "attention_mask" => TensorRef::from_array_view((shape, &*tokens.mask)).unwrap(),
            "token_type_ids" => TensorRef::from_array_view((shape, &*tokens.types)).unwrap(),
        ];
        let outputs = session.run(inputs).unwrap();
        assert_eq!(outputs[0].shape()[0], tokens.rows as i64);
    })
}

/// rten through its API, one thread, weights packed.
fn direct_rten(bytes: &[u8]) -> Direct {
    let model: Model = ModelOptions::with_all_ops().prepack_weights(true).load(bytes.to_vec()).unwrap();
    let ids = ["input_ids", "attention_mask", "token_type_ids"].map(|n| model.node_id(n).unwrap());
    let output = model.node_id("last_hidden_state").unwrap();
    let pool = Arc::new(ThreadPool::with_num_threads(1));
    Box::new(move |tokens| {
        let narrow = |v: &[i64]| v.iter().map(|&x| x as i32).collect::<Vec<_>>();
        let data = [&tokens.ids, &tokens.mask, &tokens.types].map(|v| narrow(v));
        let shape = [tokens.rows, tokens.length];
        let inputs =
            ids.iter().zip(&data).map(|(&id, v)| (id, ValueView::from_shape(shape, v).unwrap().into()));
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool)));
        let _ = model.run(inputs.collect(), &[output], Some(options)).unwrap();
    })
}

/// 16 sentences of 4 to 130 tokens.
fn mixed() -> Vec<String> {
    let sentence = |i: usize| {
        let words = [3, 9, 120, 5, 14, 30, 7, 60, 4, 18, 11, 90, 6, 25, 8, 12][i];
        let vocabulary = ["we", "walked", "to", "the", "river", "and", "it", "was", "a", "fine", "day"];
        (0..words).map(|w| vocabulary[(w * 7 + i) % vocabulary.len()]).collect::<Vec<_>>().join(" ")
    };
    (0..16).map(sentence).collect()
}

/// CPU milliseconds of all threads of this process. Wall time would also measure who else
/// uses the machine.
fn cpu_ms() -> f64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e6
}

/// A against B, per body.
struct Compared {
    /// CPU milliseconds of the cheapest round.
    best: (f64, f64),
    /// Median of the rounds' ratios, and ratio of the cheapest rounds.
    ratios: (f64, f64),
}

impl Compared {
    fn show(&self, what: &str) {
        let Compared { best: (a, b), ratios: (median, best) } = self;
        println!("{what:<34}{a:>10.3}{b:>10.3}{best:>10.3}{median:>10.3}");
    }
}

fn compare(bodies: usize, mut a: impl FnMut(usize), mut b: impl FnMut(usize)) -> Compared {
    let timed = |f: &mut dyn FnMut(usize)| {
        let start = cpu_ms();
        (0..bodies).for_each(f);
        (cpu_ms() - start) / bodies as f64
    };
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (timed(&mut a), timed(&mut b))).collect();
    rounds.drain(..WARM_UP);
    let mut ratios: Vec<f64> = rounds.iter().map(|r| r.0 / r.1).collect();
    ratios.sort_by(f64::total_cmp);
    let best = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
    let best = (best(|r| r.0), best(|r| r.1));
    Compared { best, ratios: (ratios[ratios.len() / 2], best.0 / best.1) }
}

fn times() {
    let bytes = model().bytes;
    let mixed = mixed();
    let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
    println!("{:<34}{:>10}{:>10}{:>10}{:>10}", "CPU ms, cheapest round", "weir", "direct", "ratio", "median");
    for (name, choice, mut direct) in [
        ("onnxruntime", EngineChoice::OnnxRuntime, direct_ort(&bytes)),
        ("rten", EngineChoice::Rten, direct_rten(&bytes)),
    ] {
        let engine = engine(choice);
        let short: Vec<Tokens> =
            SHORT.iter().map(|&t| Tokens::of(&engine.prepare(batch(&[t])).unwrap())).collect();
        compare(
            // Long enough a round for the kernel's account of CPU time, kept in ticks.
            10 * SHORT.len(),
            |i| {
                answer(&*engine, &[SHORT[i % SHORT.len()]]);
            },
            |i| direct(&short[i % SHORT.len()]),
        )
        .show(&format!("{name}, one short sentence"));
        let whole = Tokens::of(&engine.prepare(batch(&mixed)).unwrap());
        let together = |_| {
            answer(&*engine, &mixed);
        };
        compare(1, together, |_| direct(&whole)).show(&format!("{name}, 16 mixed, all padded"));
        let alone: Vec<Tokens> =
            mixed.iter().map(|&t| Tokens::of(&engine.prepare(batch(&[t])).unwrap())).collect();
        compare(1, together, |_| alone.iter().for_each(&mut direct))
            .show(&format!("{name}, 16 mixed, one by one"));
    }
    let engine = engine(EngineChoice::Rten);
    let tokenising = |bodies: usize, texts: &[&str]| {
        let prepare = |i: usize| drop(engine.prepare(batch(&[texts[i % texts.len()]])).unwrap());
        compare(bodies, prepare, |_| ()).best.0
    };
    println!("tokenising one short sentence: {:.1} µs", tokenising(20_000, &SHORT) * 1e3);
    let (one, many) = ("x".repeat(20_000), "word ".repeat(4000));
    let (one, many) = (tokenising(50, &[&one]), tokenising(50, &[&many]));
    println!("tokenising 20,000 characters: one word {one:.2} ms, 4,000 words {many:.2} ms");
}
