//! ONNX Runtime, from a library found at run time.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use ::ort::{
    Error, ErrorCode,
    environment::{Environment, GlobalThreadPoolOptions},
    logging::LogLevel,
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};
use weir_artifact::onnx::OnnxModel;
use weir_types::{Batch, Outputs, Signature, Tensor};

use super::{
    location::{Library, OrtLocation, probe},
    ort_call::SharedSession,
    ort_value::{dtype, input, output},
    plan::{Plan, guarded},
};
use crate::{Context, Cost, Engine, EngineError, EngineInfo, Prepared};

/// The engine's name in configuration, metrics and errors.
pub(crate) const NAME: &str = "onnxruntime";

fn unsupported(why: impl Into<String>) -> EngineError {
    EngineError::Unsupported { engine: NAME, why: why.into() }
}

/// The loaded library and its environment. There is one a process: ONNX Runtime allows no
/// second environment, and the bindings keep one table of functions.
pub struct OrtLibrary {
    library: Library,
    environment: Environment,
}

static LOADED: OnceLock<OrtLibrary> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl OrtLibrary {
    /// The library at `location`, loaded on the first call.
    ///
    /// A library that is loaded already is used again, unless the operator named another.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] that says for each file why it cannot be used.
    pub fn find(location: &OrtLocation) -> Result<&'static OrtLibrary, EngineError> {
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        match (LOADED.get(), &location.explicit) {
            (Some(loaded), None) => Ok(loaded),
            (Some(loaded), Some(path)) => loaded.same(path),
            (None, Some(path)) => Self::load(probe(path).map_err(unsupported)?),
            (None, None) => Self::load(first_usable(&location.candidates)?),
        }
    }

    /// Where it was loaded from.
    pub fn path(&self) -> &Path {
        &self.library.path
    }

    /// What it calls itself, for example `1.32.0`.
    pub fn version(&self) -> &str {
        &self.library.version
    }

    /// The environment, for a benchmark that calls the bindings directly: a process cannot
    /// make a second one.
    #[doc(hidden)]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    fn same(&'static self, path: &Path) -> Result<&'static OrtLibrary, EngineError> {
        let other = probe(path).map_err(unsupported)?;
        if other.path == self.library.path {
            return Ok(self);
        }
        let (loaded, other) = (self.library.path.display(), other.path.display());
        Err(unsupported(format!(
            "{loaded} is loaded already and a process can have one only, not {other} too"
        )))
    }

    fn load(library: Library) -> Result<&'static OrtLibrary, EngineError> {
        let environment = guarded(|| environment(&library.path))?
            .map_err(|e| unsupported(format!("{} does not start: {e}", library.path.display())))?;
        Ok(LOADED.get_or_init(|| OrtLibrary { library, environment }))
    }
}

fn first_usable(candidates: &[PathBuf]) -> Result<Library, EngineError> {
    let mut refused = Vec::new();
    for path in candidates {
        match probe(path) {
            Ok(library) => return Ok(library),
            Err(why) => refused.push(why),
        }
    }
    Err(unsupported(match refused.is_empty() {
        true => "no ONNX Runtime library was found".to_owned(),
        false => format!("no usable ONNX Runtime library was found: {}", refused.join("; ")),
    }))
}

/// One environment: no telemetry, its log lines into ours, one thread of its own pool (so a
/// call computes on the thread that makes it) and nobody spinning.
fn environment(path: &Path) -> Result<Environment, String> {
    let builder = ::ort::init_from(path).map_err(|e| e.to_string())?;
    let build = || {
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_spin_control(false)?;
        let environment = builder
            .with_name("weir")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .with_logger(Arc::new(log))
            .build()?;
        // The bindings ask for every message and let the logger choose; formatting them
        // would cost more than small models do.
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    };
    build().map_err(|e: Error| e.to_string())
}

fn log(level: LogLevel, category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(category, place, "onnxruntime: {message}"),
        LogLevel::Warning => tracing::warn!(category, place, "onnxruntime: {message}"),
        _ => tracing::debug!(category, place, "onnxruntime: {message}"),
    }
}

/// A graph loaded by ONNX Runtime, on the CPU.
pub struct OrtEngine {
    info: EngineInfo,
    cost: Cost,
    plan: Plan,
    session: SharedSession,
}

impl OrtEngine {
    /// Loads a graph that passed the gate; `model` is what the gate read from `bytes`.
    ///
    /// `threads` is how many one inference may use: 1 computes on the calling thread, more
    /// gives the model a pool of its own. `reason` goes into [`EngineInfo`].
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] for operators, types and outputs that the library or
    /// Weir does not have, [`EngineError::Artifact`] for a broken graph.
    pub fn load(
        library: &'static OrtLibrary,
        bytes: &[u8],
        model: &OnnxModel,
        cost: Cost,
        threads: usize,
        reason: String,
    ) -> Result<Self, EngineError> {
        let signature = model.signature.clone();
        let session = guarded(|| session(library, bytes, threads.max(1)))?.map_err(load_error)?;
        let inputs: Vec<String> = signature.inputs.iter().map(|t| t.name.clone()).collect();
        let outputs: Vec<String> = signature.outputs.iter().map(|t| t.name.clone()).collect();
        compare(&session, &signature)?;
        let session = SharedSession::new(session, &inputs, &outputs).map_err(load_error)?;
        let info = EngineInfo { name: NAME, version: library.version().to_owned(), reason };
        Ok(Self { info, cost, plan: Plan::new(signature), session })
    }

    fn run(&self, inputs: &[impl AsRef<Tensor>], wanted: &[usize]) -> Result<Vec<Tensor>, EngineError> {
        let values = inputs.iter().map(|t| input(t.as_ref())).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(run_error)?;
        let results = self.session.run(&values, wanted.iter().copied()).map_err(run_error)?;
        let specs = wanted.iter().map(|&o| &self.plan.signature.outputs[o]);
        specs.zip(&results).map(|(spec, value)| output(spec, value).map_err(run_error)).collect()
    }
}

impl Engine for OrtEngine {
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
        self.plan.execute(work, context, |inputs, wanted| self.run(inputs, wanted))
    }
}

fn session(library: &OrtLibrary, bytes: &[u8], threads: usize) -> Result<Session, Error> {
    let mut builder = options(&library.environment, threads)?;
    builder.commit_from_memory(bytes)
}

fn options(environment: &Environment, threads: usize) -> Result<SessionBuilder, Error> {
    let builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_log_level(LogLevel::Warning)?
        // Patterns are kept for every combination of input shapes ever seen, without a bound,
        // and callers choose the shapes.
        .with_memory_pattern(false)?;
    if threads == 1 {
        return Ok(builder);
    }
    let builder = builder.with_independent_thread_pool()?.with_intra_threads(threads)?;
    Ok(builder.with_intra_op_spinning(false)?)
}

/// Holds the session to the signature that was read from the file.
fn compare(session: &Session, signature: &Signature) -> Result<(), EngineError> {
    for spec in &signature.outputs {
        let Some(found) = session.outputs().iter().find(|o| o.name() == spec.name) else {
            return Err(EngineError::Artifact(format!("the graph has no output `{}`", spec.name)));
        };
        if !found.dtype().is_tensor() {
            let (name, dtype) = (&spec.name, found.dtype());
            return Err(unsupported(format!(
                "output `{name}` is {dtype}, no tensor: serve it natively (engine = \"native\") or export \
                 the model without ZipMap"
            )));
        }
    }
    let all = [(session.inputs(), &signature.inputs), (session.outputs(), &signature.outputs)];
    for (outlets, specs) in all {
        for spec in specs {
            let found = outlets.iter().find(|o| o.name() == spec.name).and_then(|o| dtype(o.dtype()));
            if found != Some(spec.dtype) {
                return Err(EngineError::Artifact(format!("ONNX Runtime sees `{spec}` otherwise")));
            }
        }
    }
    Ok(())
}

fn load_error(error: Error) -> EngineError {
    match error.code() {
        ErrorCode::InvalidProtobuf | ErrorCode::InvalidGraph | ErrorCode::NoModel => {
            EngineError::Artifact(error.to_string())
        }
        _ => unsupported(error.to_string()),
    }
}

fn run_error(error: Error) -> EngineError {
    EngineError::Runtime(format!("ONNX Runtime: {error}"))
}
