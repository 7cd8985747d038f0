//! The native engine: an interpreter of classic machine-learning graphs.
//!
//! scikit-learn's exports are small graphs of `ai.onnx.ml` operators with some plain ones
//! between them. No pure-Rust runtime has those operators, and the runtimes that do spend
//! more time around a forest than in it. Here a graph is compiled once into steps over
//! numbered slots ([`graph`]); a step is a closure that read its attributes at load
//! ([`table`]). Answers follow onnxruntime, its departures from the specification included,
//! since that is what a model was checked against when it was exported.
//!
//! Left out on purpose: subgraphs (`If`, `Loop`), half floats, `DictVectorizer` and other
//! operators on maps; such graphs go to ONNX Runtime.

mod cast;
mod cost;
mod elementwise;
mod features;
mod forest;
mod graph;
mod index;
mod labels;
mod linear;
mod matrix;
mod op;
mod post;
mod reduce;
mod shape;
mod svm;
mod table;
mod unary;

use weir_artifact::onnx::OnnxModel;
use weir_types::{Batch, Outputs, Tensor, TensorData, TensorSpec};

use crate::{CancelFlag, Context, Cost, Engine, EngineError, EngineInfo, Prepared, onnx::Plan};
use graph::Graph;
use op::unsupported;

/// A graph loaded by the native engine.
///
/// Where it departs from onnxruntime on purpose: a binary `TreeEnsembleClassifier` whose
/// leaves score both classes answers with the class labels, where onnxruntime answers 0 and
/// 1 even if the labels are others; numbers that onnxruntime leaves uninitialised are the
/// complement of the other score; an integer divided by zero is 0.
pub struct ClassicEngine {
    info: EngineInfo,
    cost: Cost,
    plan: Plan,
    graph: Graph,
}

impl ClassicEngine {
    /// Compiles a graph that passed the gate; `reason` goes into [`EngineInfo`].
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] naming what the engine lacks for this graph (also element
    /// types, which are found out by running it once), [`EngineError::Artifact`] for
    /// attributes that contradict each other.
    pub fn load(model: &OnnxModel, reason: String) -> Result<Self, EngineError> {
        if let missing @ [_, ..] = &model.unsupported_ops_for_native[..] {
            return Err(unsupported(format!("it does not have {}", missing.join(", "))));
        }
        let graph = crate::onnx::guarded(|| Graph::compile(model))??;
        let info = EngineInfo { name: op::NAME, version: env!("CARGO_PKG_VERSION").to_owned(), reason };
        let engine =
            Self { info, cost: cost::estimate(model), plan: Plan::new(model.signature.clone()), graph };
        engine.try_out()?;
        Ok(engine)
    }

    /// Runs one row of zeros. Types inside a graph are known only when it runs; what no
    /// kernel is for should refuse the model, not its first request. Other errors are the
    /// zeros' fault (no such category) and are left to real rows.
    fn try_out(&self) -> Result<(), EngineError> {
        let inputs = self.plan.signature.inputs.iter().map(zeros).collect::<Option<Vec<_>>>();
        let outputs: Vec<usize> = (0..self.plan.signature.outputs.len()).collect();
        let Some(inputs) = inputs else { return Ok(()) };
        let made = match crate::onnx::guarded(|| self.graph.run(&inputs, &outputs, &CancelFlag::default()))? {
            Err(error @ EngineError::Unsupported { .. }) => return Err(error),
            Err(_) => return Ok(()),
            Ok(made) => made,
        };
        let wrong = self.plan.signature.outputs.iter().zip(&made).find(|(spec, t)| spec.dtype != t.dtype());
        match wrong {
            Some((spec, tensor)) => {
                Err(unsupported(format!("`{spec}` would come out as {}", tensor.dtype())))
            }
            None => Ok(()),
        }
    }
}

/// One row of zeros, or nothing where that is too large to try.
fn zeros(spec: &TensorSpec) -> Option<std::borrow::Cow<'static, Tensor>> {
    const MOST: usize = 1 << 20;
    let shape: Vec<usize> = spec.shape.iter().map(|d| d.fixed().unwrap_or(1)).collect();
    let n = weir_types::element_count(&shape).ok().filter(|&n| n <= MOST)?;
    let none = TensorData::with_capacity(spec.dtype, n);
    let data = op::map_data!(none, _v => vec![Default::default(); n]);
    Tensor::new(shape, data).ok().map(std::borrow::Cow::Owned)
}

impl Engine for ClassicEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        self.plan.check(&batch)?;
        Ok(Plan::prepared(batch.rows, batch.inputs))
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        self.plan.execute(work, context, |inputs, wanted| self.graph.run(inputs, wanted, &context.cancel))
    }
}
