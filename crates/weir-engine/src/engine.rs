//! The seam: what an engine is.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use weir_types::{Batch, Error, ErrorCode, Outputs, SequenceId, Tensor};

/// What an engine calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `native`, `rten` or `onnxruntime`.
    pub name: &'static str,
    /// Version of the engine, part of the serving digest.
    pub version: String,
    /// Why this engine serves the model.
    pub reason: String,
}

/// How expensive work is, so that the scheduler can choose where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// Microseconds a row: run where the request was decoded.
    Light,
    /// Anything else: run on the model's own threads.
    Heavy,
}

/// Why a model cannot be loaded or run. `Display` is for operators and logs; callers get
/// [`EngineError::public`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The input does not fit the model; the text is for the caller.
    #[error("{0}")]
    Input(String),
    /// The artefact needs something that the engine does not have.
    #[error("{engine} cannot run this model: {why}")]
    Unsupported {
        /// The engine's name.
        engine: &'static str,
        /// What is missing, and what would help.
        why: String,
    },
    /// The artefact is broken.
    #[error("the artefact is broken: {0}")]
    Artifact(String),
    /// The runtime failed; the text may hold internals.
    #[error("the engine failed: {0}")]
    Runtime(String),
    /// The caller went away or the deadline passed.
    #[error("cancelled")]
    Cancelled,
}

impl EngineError {
    /// The same, as a caller may see it.
    pub fn public(&self) -> Error {
        match self {
            EngineError::Input(text) => Error::invalid(text.clone()),
            EngineError::Cancelled => {
                Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the model answered")
            }
            _ => Error::internal("the model failed to answer this request"),
        }
    }
}

/// A switch that tells work in progress that nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct CancelFlag(Switch);

#[derive(Debug, Clone)]
enum Switch {
    Never,
    One(Arc<AtomicBool>),
    All(Arc<[CancelFlag]>),
}

impl Default for CancelFlag {
    fn default() -> Self {
        Self(Switch::One(Arc::default()))
    }
}

impl CancelFlag {
    /// A flag that nobody can set: for work that ends before anybody could.
    pub const NEVER: CancelFlag = CancelFlag(Switch::Never);

    /// A flag that is set when all of `flags` are: for work that has several callers.
    pub fn all(flags: impl IntoIterator<Item = CancelFlag>) -> Self {
        let flags: Vec<_> = flags.into_iter().collect();
        if flags.is_empty() { Self::NEVER } else { Self(Switch::All(flags.into())) }
    }

    /// Nobody waits any more. One made of several is set by setting those.
    pub fn cancel(&self) {
        if let Switch::One(set) = &self.0 {
            set.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nobody waits any more.
    pub fn is_cancelled(&self) -> bool {
        match &self.0 {
            Switch::Never => false,
            Switch::One(set) => set.load(Ordering::Relaxed),
            Switch::All(flags) => flags.iter().all(CancelFlag::is_cancelled),
        }
    }
}

/// The tensors that a step of a sequence leaves for the next one, in the order of the model's
/// states. Shared: who keeps them and who runs on them need no copies.
pub type State = Arc<[Tensor]>;

/// Where one item of work stands in its sequence, for models that keep state.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The sequence, where the model is told.
    pub id: Option<SequenceId>,
    /// What the step before left; `None` before the first. An execution that succeeds puts those of the next step here.
    pub state: Option<State>,
    /// Whether this is the last step.
    pub end: bool,
}

impl Step {
    /// Whether this is the first step.
    pub fn is_first(&self) -> bool {
        self.state.is_none()
    }
}

/// What accompanies one execution.
#[derive(Debug, Default)]
pub struct Context {
    /// Indices of the outputs wanted, ascending; `None` for all. Engines may compute only
    /// these; the others come back as empty tensors in their places.
    pub outputs: Option<Vec<usize>>,
    /// Checked between steps of long work.
    pub cancel: CancelFlag,
    /// One an item of work, for models that keep state. Empty: each item is the first step of a
    /// sequence that is forgotten.
    pub steps: Vec<Step>,
}

/// Token ids of some texts, not yet padded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenBatch {
    /// Token ids, one list a text.
    pub ids: Vec<Vec<u32>>,
    /// Segment ids, one list a text.
    pub type_ids: Vec<Vec<u32>>,
    /// The texts and where their tokens stand in them; none unless the model answers with
    /// parts of a text.
    pub places: Vec<Places>,
}

/// A text and where its tokens stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// The text.
    pub text: String,
    /// Its tokens but for the special ones, in order.
    pub tokens: Vec<Place>,
}

/// Where one token stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into the text's token ids.
    pub index: usize,
    /// Bytes of the text that it was made of.
    pub bytes: Range<usize>,
    /// Whether it goes on with the word of the token before it.
    pub continues: bool,
}

/// What `prepare` made of a batch, in the engine's own form.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Input tensors in signature order.
    Tensors(Vec<Tensor>),
    /// Tokenised texts.
    Tokens(TokenBatch),
}

/// Work that is ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Rows it holds.
    pub rows: usize,
    /// Length of its longest row (tokens for text, 1 otherwise): what buckets are made of.
    pub length: usize,
    /// The work.
    pub payload: Payload,
}

impl Prepared {
    /// Tokens of each row as the model reads them: special tokens included, cut at the limit,
    /// without padding. `None` for models that read no text.
    pub fn tokens(&self) -> Option<Vec<u32>> {
        match &self.payload {
            Payload::Tensors(_) => None,
            Payload::Tokens(tokens) => Some(tokens.ids.iter().map(|ids| ids.len() as u32).collect()),
        }
    }
}

/// A loaded model. Shared between threads; one call at a time is not assumed.
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn info(&self) -> &EngineInfo;

    /// How expensive a row is.
    fn cost(&self) -> Cost;

    /// About how long each row of `batch` will be, in [`Prepared::length`]'s unit and without
    /// the work of `prepare`: to order and bucket what waits. `None` where all rows are alike.
    fn lengths(&self, batch: &Batch) -> Option<Vec<usize>> {
        let _ = batch;
        None
    }

    /// Turns rows into the engine's own form: tokenises, casts, checks shapes.
    ///
    /// Takes the batch by value: for most models it is the prepared form already, and a
    /// large tensor should not be copied to say so. Whoever needs the rows afterwards
    /// clones them first.
    ///
    /// # Errors
    /// [`EngineError::Input`] where the batch does not fit the model.
    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError>;

    /// Runs all of `work` in one call; rows come back in the same order, concatenated.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] when the context says so, [`EngineError::Runtime`] for
    /// everything else that goes wrong. A panic of a runtime is caught and reported so.
    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_several_callers_is_cancelled_when_the_last_one_goes() {
        let flags = [CancelFlag::default(), CancelFlag::default()];
        let all = CancelFlag::all(flags.clone());
        flags[0].cancel();
        assert!(flags[0].is_cancelled() && !all.is_cancelled());
        flags[1].cancel();
        assert!(all.is_cancelled());
        assert!(!CancelFlag::all([]).is_cancelled(), "work without callers is the server's own");
    }
}
