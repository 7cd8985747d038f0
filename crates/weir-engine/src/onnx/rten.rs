//! rten: pure Rust, embedded, the default for neural networks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ::rten::{LoadErrorKind, Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView};
use weir_artifact::onnx::OnnxModel;
use weir_types::{Batch, Outputs, Signature, Tensor, TensorSpec};

use super::{
    plan::{Plan, guarded},
    rten_operators::{missing, wrong},
    rten_value::{narrowed, supports, view, widened},
};
use crate::{Context, Cost, Engine, EngineError, EngineInfo, Prepared};

/// The engine's name in configuration, metrics and errors.
pub(crate) const NAME: &str = "rten";
/// The version in `Cargo.toml`; a test compares the two.
const VERSION: &str = "0.27.0";
const HELP: &str = "install onnxruntime (pip install onnxruntime) or set engine = \"onnxruntime\" and point \
                    WEIR_ONNXRUNTIME at its library";

/// A graph loaded by rten.
///
/// Where it is known to differ from ONNX Runtime, and why that is accepted:
/// - int64 and bool are held as int32: an input that does not fit is refused, a sum inside
///   the graph that overflows 32 bits wraps;
/// - of equal values, `ArgMax` and `ArgMin` give the last, not the first;
/// - `Relu` and `Clip` make NaN 0 (a NaN gets in only where the schema allows one);
/// - a `Conv` without the attribute `strides` fails when it runs.
///
/// Graphs with operators that rten answers wrongly are refused.
pub struct RtenEngine {
    info: EngineInfo,
    cost: Cost,
    plan: Plan,
    model: Model,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    threads: usize,
}

impl RtenEngine {
    /// Loads a graph that passed the gate; `model` is what the gate read from `bytes`.
    ///
    /// `threads` is how many one inference may use (at least 1); `reason` goes into
    /// [`EngineInfo`].
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] naming the types or operators that rten does not have,
    /// [`EngineError::Artifact`] for a broken graph.
    pub fn load(
        bytes: &[u8],
        model: &OnnxModel,
        cost: Cost,
        threads: usize,
        reason: String,
    ) -> Result<Self, EngineError> {
        let signature = model.signature.clone();
        refuse_types(&signature)?;
        let mut options = ModelOptions::with_all_ops();
        // Twice the memory for the weights, and 1.8 times the speed on short texts.
        options.prepack_weights(true);
        let model = load_model(&options, bytes, model)?;
        let inputs = node_ids(&model, &signature.inputs)?;
        let outputs = node_ids(&model, &signature.outputs)?;
        let info = EngineInfo { name: NAME, version: VERSION.into(), reason };
        Ok(Self { info, cost, plan: Plan::new(signature), model, inputs, outputs, threads: threads.max(1) })
    }

    fn run(&self, inputs: &[impl AsRef<Tensor>], wanted: &[usize]) -> Result<Vec<Tensor>, EngineError> {
        let views = inputs.iter().zip(&self.inputs).map(|(t, &id)| Ok((id, view(t.as_ref())?)));
        let views: Vec<(NodeId, ValueOrView<'_>)> = views.collect::<Result<_, EngineError>>()?;
        let ids: Vec<NodeId> = wanted.iter().map(|&o| self.outputs[o]).collect();
        let pool = Lease::take(self.threads);
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&pool.pool)));
        let values = self.model.run(views, &ids, Some(options)).map_err(run_error)?;
        let specs = wanted.iter().map(|&o| &self.plan.signature.outputs[o]);
        specs.zip(values).map(|(spec, value)| widened(spec, value)).collect()
    }
}

impl Engine for RtenEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        self.plan.check(&batch)?;
        let specs = &self.plan.signature.inputs;
        let inputs = specs.iter().zip(batch.inputs).map(|(spec, tensor)| narrowed(spec, tensor));
        Ok(Plan::prepared(batch.rows, inputs.collect::<Result<_, _>>()?))
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        self.plan.execute(work, context, |inputs, wanted| self.run(inputs, wanted))
    }
}

fn refuse_types(signature: &Signature) -> Result<(), EngineError> {
    let all = signature.inputs.iter().chain(&signature.outputs);
    let refused: Vec<String> = all.filter(|t| !supports(t.dtype)).map(|t| format!("`{t}`")).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let refused = refused.join(", ");
    Err(unsupported(format!(
        "it computes with float32, integers of 32 and 8 bits and bool only, not {refused}"
    )))
}

fn unsupported(why: String) -> EngineError {
    EngineError::Unsupported { engine: NAME, why: format!("{why}: {HELP}") }
}

fn load_model(options: &ModelOptions, bytes: &[u8], model: &OnnxModel) -> Result<Model, EngineError> {
    let wrong = wrong(&model.model);
    if !wrong.is_empty() {
        return Err(unsupported(wrong.join(", ")));
    }
    let error = match guarded(|| options.load(bytes.to_vec())) {
        Ok(Ok(model)) => return Ok(model),
        Ok(Err(error)) => error,
        Err(panicked) => return Err(unsupported(panicked.to_string())),
    };
    let missing = match error.kind() {
        LoadErrorKind::OperatorInvalid => missing(options, &model.model),
        _ => Vec::new(),
    };
    Err(match error.kind() {
        _ if !missing.is_empty() => {
            unsupported(format!("it does not have the operators {}", missing.join(", ")))
        }
        LoadErrorKind::ParseError | LoadErrorKind::UnknownFileType => {
            EngineError::Artifact(error.to_string())
        }
        // A known operator used in a way that rten does not know, a type it does not have, a
        // graph that it cannot wire up: the other engine may.
        _ => unsupported(error.to_string()),
    })
}

fn node_ids(model: &Model, specs: &[TensorSpec]) -> Result<Vec<NodeId>, EngineError> {
    let id = |spec: &TensorSpec| {
        model
            .find_node(&spec.name)
            .ok_or_else(|| EngineError::Artifact(format!("the graph has no value called `{}`", spec.name)))
    };
    specs.iter().map(id).collect()
}

fn run_error(error: ::rten::RunError) -> EngineError {
    EngineError::Runtime(format!("rten: {error}"))
}

/// A thread pool that nobody else uses while it is held.
///
/// rten runs a model on a rayon pool. Its own pool has a thread a core, so concurrent calls
/// would wait for each other's pieces; one small pool for all would run them in turn. So a
/// call takes an idle pool of its size, or makes one: at most as many exist as calls ran at
/// the same time, and since the caller sleeps meanwhile, no more threads compute than called.
struct Lease {
    pool: Arc<ThreadPool>,
    threads: usize,
}

static IDLE: Mutex<Option<HashMap<usize, Vec<Arc<ThreadPool>>>>> = Mutex::new(None);

impl Lease {
    fn take(threads: usize) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.get_or_insert_default().get_mut(&threads).and_then(Vec::pop);
        drop(idle);
        let pool = found.unwrap_or_else(|| Arc::new(ThreadPool::with_num_threads(threads)));
        Self { pool, threads }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_or_insert_default().entry(self.threads).or_default().push(Arc::clone(&self.pool));
    }
}
