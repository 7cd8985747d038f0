//! Which engine serves a model, and why.

use std::{path::PathBuf, sync::Arc};

use weir_artifact::{EngineChoice, LoadedModel, onnx::OnnxModel};

use crate::{
    ClassicEngine, Cost, Engine, EngineError, SequenceEngine,
    onnx::{LibraryHints, OrtEngine, OrtLibrary, OrtLocation, RtenEngine, candidates},
    text::{TextEngine, TextLimits},
};

/// What the operator decides about engines, for all models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where ONNX Runtime may be.
    pub ort: OrtLocation,
    /// Threads that one inference may use. 1 leaves parallelism to whoever runs several
    /// inferences at once, which wastes less.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { ort: OrtLocation::default(), threads: 1 }
    }
}

impl EngineOptions {
    /// One thread an inference; the library at `explicit`, else the newest one that pip put
    /// into one of `site_packages`.
    pub fn new(explicit: Option<PathBuf>, site_packages: &[PathBuf]) -> Self {
        let hints = LibraryHints { folders: Vec::new(), site_packages: site_packages.to_vec() };
        Self { ort: OrtLocation { explicit, candidates: candidates(&hints) }, threads: 1 }
    }
}

/// Loads the engine that serves `model`.
///
/// Classic graphs (`ai.onnx.ml`) run on the native engine. Everything else, encoders of text
/// models included, runs on ONNX Runtime where a library is found and on rten where none is.
/// `engine = "…"` in `model.toml` overrides that.
/// [`EngineInfo::reason`](crate::EngineInfo::reason) says which rule it was.
///
/// # Errors
/// [`EngineError::Unsupported`] that says what every engine in question lacks, an override
/// that cannot be honoured and a named library that cannot be used included;
/// [`EngineError::Artifact`] for a broken artefact.
pub fn load(model: &LoadedModel, options: &EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    let choice = Choice { model, options };
    let engine = match model.spec.engine {
        EngineChoice::Auto => choice.automatic(),
        EngineChoice::Native => choice.native(asked("native")),
        EngineChoice::Rten => choice.rten(asked("rten")),
        EngineChoice::OnnxRuntime => {
            OrtLibrary::find(&options.ort).and_then(|library| choice.ort(library, asked("onnxruntime")))
        }
    }?;
    if let Some(sequence) = &model.spec.sequence {
        return Ok(Arc::new(SequenceEngine::new(engine, &model.graph.signature, sequence.clone())));
    }
    let Some(text) = &model.spec.text else { return Ok(engine) };
    let purpose = (model.spec.task, &model.spec.labels[..]);
    let engine = TextEngine::new(engine, &model.graph.signature, text, purpose, text_limits(model))?;
    Ok(Arc::new(engine))
}

fn asked(engine: &str) -> String {
    format!("model.toml says engine = \"{engine}\"")
}

/// A model and what may be done about it.
struct Choice<'a> {
    model: &'a LoadedModel,
    options: &'a EngineOptions,
}

type Loaded = Result<Arc<dyn Engine>, EngineError>;

impl Choice<'_> {
    fn automatic(&self) -> Loaded {
        let graph = &self.model.graph;
        if graph.is_classic && self.model.spec.text.is_none() {
            let reason = "the graph is a classic model (ai.onnx.ml), which the native engine runs";
            return or_else(self.native(reason.into()), || {
                let library = OrtLibrary::find(&self.options.ort)?;
                self.ort(library, "the native engine lacks operators of this graph".into())
            });
        }
        match OrtLibrary::find(&self.options.ort) {
            // A library that was named is used or complained about, never passed over.
            Err(error) if self.options.ort.explicit.is_some() => Err(error),
            Ok(library) => {
                let found = format!("ONNX Runtime was found at {}", library.path().display());
                or_else(self.ort(library, found), || self.rten("ONNX Runtime cannot run this graph".into()))
            }
            Err(error) => or_else(self.rten(format!("it is embedded, and {}", why(&error))), || {
                self.native("neither ONNX Runtime nor rten can run this graph".into())
            }),
        }
    }

    /// Threads of one inference: the model's own word, else the operator's for all.
    fn threads(&self) -> usize {
        self.model.spec.batching.threads.unwrap_or(self.options.threads)
    }

    fn native(&self, reason: String) -> Loaded {
        native(&self.model.graph, self.model.spec.text.is_some(), reason)
    }

    fn rten(&self, reason: String) -> Loaded {
        let LoadedModel { bytes, graph, .. } = self.model;
        Ok(Arc::new(RtenEngine::load(bytes, graph, cost(bytes.len(), graph), self.threads(), reason)?))
    }

    fn ort(&self, library: &'static OrtLibrary, reason: String) -> Loaded {
        let LoadedModel { bytes, graph, .. } = self.model;
        self.check_classic()?;
        let cost = cost(bytes.len(), graph);
        Ok(Arc::new(OrtEngine::load(library, bytes, graph, cost, self.threads(), reason)?))
    }

    /// ONNX Runtime believes what the attributes of a forest say about the width of its
    /// input and reads beyond it; the native engine checks them.
    fn check_classic(&self) -> Result<(), EngineError> {
        if !self.model.graph.is_classic {
            return Ok(());
        }
        match self.native(String::new()) {
            Err(EngineError::Artifact(why)) => Err(EngineError::Artifact(why)),
            _ => Ok(()),
        }
    }
}

/// `first`, or where it lacks something, `second`; the error of both where both do.
fn or_else(first: Loaded, second: impl FnOnce() -> Loaded) -> Loaded {
    let Err(EngineError::Unsupported { engine, why }) = first else { return first };
    match second() {
        Err(EngineError::Unsupported { engine: other, why: too }) => {
            let why = format!("{why}; and {other} cannot either: {too}");
            Err(EngineError::Unsupported { engine, why })
        }
        second => second,
    }
}

fn why(error: &EngineError) -> String {
    match error {
        EngineError::Unsupported { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

fn native(graph: &OnnxModel, text: bool, reason: String) -> Loaded {
    let unsupported = |why: String| EngineError::Unsupported { engine: "native", why };
    if text {
        return Err(unsupported("it runs no encoders of text models".into()));
    }
    Ok(Arc::new(ClassicEngine::load(graph, reason)?))
}

fn text_limits(model: &LoadedModel) -> TextLimits {
    let declared = model.spec.schema.fields.first().and_then(|f| f.rules.max_length);
    let default = TextLimits::default();
    TextLimits { max_tokens: model.spec.limits.max_tokens, max_chars: declared.unwrap_or(default.max_chars) }
}

/// Largest artefact of a model whose rows take microseconds: 16,000 weights.
const LIGHT_BYTES: usize = 64 * 1024;

/// Operators whose work is not bounded by the number of weights.
const LOOPING: [&str; 8] = ["Conv", "ConvTranspose", "Einsum", "GRU", "LSTM", "Loop", "RNN", "Scan"];

/// A row costs about what the graph has weights, where it uses each once: in a small graph
/// without loops over rows whose width is fixed.
fn cost(artifact_bytes: usize, graph: &OnnxModel) -> Cost {
    let loops = || {
        let nodes = graph.model.graph.iter().flat_map(|g| &g.node);
        nodes
            .into_iter()
            .any(|n| LOOPING.contains(&n.op_type.as_str()) || n.attribute.iter().any(|a| a.g.is_some()))
    };
    let fixed = || graph.signature.inputs.iter().all(|i| i.row_width().is_some());
    if artifact_bytes <= LIGHT_BYTES && fixed() && !loops() { Cost::Light } else { Cost::Heavy }
}

// The integration tests load ONNX Runtime, which then serves their whole process; what
// happens without it is tested here, where nobody does.
#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use weir_artifact::{discover, load as read};

    use super::*;

    fn load_fixture(name: &str, options: &EngineOptions) -> Loaded {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.onnx"));
        let found = discover(&path).complete().unwrap();
        load(&read(&found[0]).unwrap(), options)
    }

    #[test]
    fn without_a_library_networks_run_on_rten_and_the_reason_says_so() {
        let engine = load_fixture("mlp", &EngineOptions::default()).unwrap();
        assert_eq!(engine.info().name, "rten");
        assert_eq!(engine.info().reason, "it is embedded, and no ONNX Runtime library was found");
    }

    #[test]
    fn a_candidate_that_is_no_library_is_passed_over_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let capi = folder.path().join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        fs::write(capi.join("libonnxruntime.so.1.32.0"), "garbage").unwrap();
        let options = EngineOptions::new(None, &[folder.path().to_owned()]);
        let engine = load_fixture("mlp", &options).unwrap();
        let reason = &engine.info().reason;
        assert!(engine.info().name == "rten" && reason.contains("libonnxruntime.so.1.32.0"), "{reason}");
    }

    #[test]
    fn a_choice_that_cannot_be_honoured_says_what_is_missing() {
        let mut options = EngineOptions::default();
        options.ort.explicit = Some("/nowhere/libonnxruntime.so".into());
        let error = load_fixture("mlp", &options).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
    }
}
