//! The stages of one prediction.

use std::sync::Arc;

use weir_features::EventTime;
use weir_types::{Batch, Clock, Deadline, Error, ErrorCode, ModelName, Outputs, SequenceId, trace::Scope};

use crate::{
    Admission, Admitted, CacheMode, CacheOutcome, Done, Job, Lookup, Room, Sender, ServedVersion, Took,
    cache::not_cached,
};

/// The use case's entrance.
#[derive(Clone)]
pub struct Predictor {
    admission: Admission,
    clock: Arc<dyn Clock>,
}

impl Predictor {
    /// Admits through `admission`; deadlines are read off `clock`.
    pub fn new(admission: Admission, clock: Arc<dyn Clock>) -> Self {
        Self { admission, clock }
    }

    /// The clock that deadlines are read off.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The same clock, to be kept.
    pub fn shared_clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// Admits up to `max_bytes` of bodies at once from now on.
    pub fn resize(&self, max_bytes: u64) {
        self.admission.resize(max_bytes);
    }

    /// Bytes of bodies held now.
    pub fn held_bytes(&self) -> u64 {
        self.admission.held_bytes()
    }

    /// Room to read a request into before it is known what it asks for.
    pub fn room(&self) -> Room {
        self.admission.room()
    }

    /// Admits a request whose head declares `bytes` of body, if there is room for them now.
    ///
    /// # Errors
    /// `Overloaded` without room, `DeadlineExceeded` for a caller who is late already.
    pub fn admit(&self, sender: Sender, bytes: u64, deadline: Deadline) -> Result<Admitted, Error> {
        if deadline.is_past(self.clock.now()) {
            return Err(Error::new(
                ErrorCode::DeadlineExceeded,
                "the deadline passed before the request was read",
            ));
        }
        self.admission.admit(sender, bytes, deadline)
    }
}

impl Admitted {
    /// Binds the request to the version that will answer it. The snapshot may be swapped
    /// afterwards; this request keeps its version.
    pub fn route(self, version: Arc<ServedVersion>) -> Routed {
        Routed { admitted: self, version }
    }
}

/// A request that has a version to answer it.
#[derive(Debug)]
pub struct Routed {
    admitted: Admitted,
    version: Arc<ServedVersion>,
}

impl Routed {
    /// Takes the decoded rows.
    ///
    /// # Errors
    /// `InvalidArgument` for more rows than the model's limit. Faces that decode by a
    /// limit of their own never see this; it is the bound that holds for every face.
    pub fn batch(self, batch: Batch) -> Result<Ready, Error> {
        self.check_rows(batch.rows)?;
        Ok(Ready { routed: self, batch, feature_asof: None })
    }

    pub(crate) fn check_rows(&self, rows: usize) -> Result<(), Error> {
        let most = self.version.spec.limits.max_rows;
        if rows > most {
            let text = format!("{rows} rows in one request, model `{}` takes {most}", self.version.spec.name);
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    /// How the version's rows are completed.
    pub(crate) fn lookup(&self) -> Result<Arc<Lookup>, Error> {
        let nowhere = || Error::internal("the version has nothing to look features up in");
        self.version.lookup.clone().ok_or_else(nowhere)
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.admitted.deadline()
    }
}

/// A request that can run.
#[derive(Debug)]
pub struct Ready {
    routed: Routed,
    batch: Batch,
    feature_asof: Option<EventTime>,
}

impl Ready {
    /// The same, of which the oldest looked-up value is from `oldest`.
    pub(crate) fn with_asof(self, oldest: Option<EventTime>) -> Self {
        Self { feature_asof: oldest, ..self }
    }

    /// Runs it. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// What the version's executor says.
    pub async fn execute(self) -> Result<Executed, Error> {
        let Routed { admitted, version } = self.routed;
        let (priority, caller, cache) = (admitted.priority(), admitted.caller(), admitted.cache_control());
        if cache.mode == Some(CacheMode::OnlyIfCached) && version.executor.cached().is_none() {
            return Err(not_cached());
        }
        let sequence = admitted.sequence();
        if let Some(step) = sequence.as_ref().filter(|_| version.spec.sequence.is_none()) {
            return Err(no_state(&version.spec.name, &step.id));
        }
        let trace = admitted.trace().map(|scope| traced(scope, &version, self.batch.rows));
        let job =
            Job { priority, caller, cache, sequence, trace, ..Job::new(self.batch, admitted.deadline()) };
        let done = version.executor.execute(job).await?;
        let Done { outputs, tokens, cache, took, .. } = done;
        let tokens = tokens.map(|rows| rows.into_iter().map(|row| row as usize).sum());
        Ok(Executed { outputs, tokens, cache, took, version, feature_asof: self.feature_asof })
    }
}

/// The trace as work of `version`; the request's own span says what it was asked.
fn traced(scope: &Scope, version: &ServedVersion, rows: usize) -> Scope {
    if scope.is_recorded() {
        scope.note("weir.model.name", version.spec.name.to_string());
        scope.note("weir.model.version", version.spec.version.to_string());
        scope.note("weir.rows", rows);
    }
    scope.of(&version.spec.name)
}

/// Whoever names a sequence believes that something is remembered: better told than left to find
/// out. (Triton ignores it.)
fn no_state(model: &ModelName, id: &SequenceId) -> Error {
    let text = format!("model `{model}` keeps no state: leave out the sequence `{id}`");
    Error::invalid(text)
}

/// An answered request.
#[derive(Debug)]
pub struct Executed {
    /// The answer.
    pub outputs: Outputs,
    /// Tokens that the model read for it; `None` for models that read no text.
    pub tokens: Option<usize>,
    /// What the cache did; `None` for models that have none, and where it was not asked.
    pub cache: Option<CacheOutcome>,
    /// Where its time went.
    pub took: Took,
    /// The version that answered.
    pub version: Arc<ServedVersion>,
    /// The oldest event time among the values that were looked up; `None` where none was, or
    /// all had their defaults.
    pub feature_asof: Option<EventTime>,
}
