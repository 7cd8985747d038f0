//! Models that another server runs: nothing waits on a thread for them.

mod attempt;
#[cfg(test)]
mod double;
mod flight;
mod grpc;
mod link;
mod rest;
mod shared;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use weir_artifact::{Candidate, ModelSpec, RemoteDraft, RemoteFacts, read_remote};
use weir_clients::{CallError, Guard, GuardStats};
use weir_engine::EngineInfo;
use weir_types::{Batch, Clock, Deadline, Error, Outputs, Signature, SystemClock};

use super::{
    Caller, Done, ExecuteFuture, Executor, Job, Pending, Stats, Took, past_deadline,
    trial::{self, SharedTrial},
};
use crate::{Reason, background::Background, samples};
use attempt::Address;
use flight::stack;
use grpc::Grpc;
use link::{Link, is_refusal, policy};
use rest::Rest;
use shared::{Shared, Sharing};

/// Runs jobs on another server, behind a [`Guard`]: one call a job, or where rows are
/// independent, one for all that waits while as many calls as the server takes are under way.
pub struct Remote {
    link: Arc<Link>,
    shared: Option<Shared>,
}

/// One model on one server, by one of the protocol's transports.
enum Server {
    Rest(Rest),
    Grpc(Grpc),
}

impl Server {
    fn new(draft: &RemoteDraft, signature: Signature, form: Form) -> Result<Self, String> {
        match form {
            Form::Grpc => Grpc::new(draft, signature).map(Self::Grpc),
            Form::Bytes => Rest::new(draft, signature, true).map(Self::Rest),
            Form::Json => Rest::new(draft, signature, false).map(Self::Rest),
        }
    }

    /// Asks once, and tells the server where in its trace that is.
    async fn infer(&self, batch: &Batch, until: Instant, trace: &Headers) -> Result<Outputs, CallError> {
        match self {
            Self::Rest(rest) => rest.infer(batch, until, trace).await,
            Self::Grpc(grpc) => grpc.infer(batch, until, trace).await,
        }
    }
}

/// Headers that a call has besides its own.
type Headers = [(HeaderName, HeaderValue)];

/// How tensors are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Grpc,
    Bytes,
    Json,
}

impl Form {
    fn as_str(self) -> &'static str {
        match self {
            Form::Grpc => "over gRPC",
            Form::Bytes => "over REST, tensors as bytes",
            Form::Json => "over REST, tensors as JSON",
        }
    }
}

async fn facts(draft: &RemoteDraft) -> Result<(RemoteFacts, Form), CallError> {
    if draft.table().is_grpc() {
        return Ok((grpc::facts(draft).await?, Form::Grpc));
    }
    let (facts, binary) = rest::facts(draft).await?;
    Ok((facts, if binary { Form::Bytes } else { Form::Json }))
}

/// A model as its description and its server come together.
pub(crate) struct Described {
    draft: RemoteDraft,
    /// The model.
    pub(crate) spec: ModelSpec,
    /// What answers for it.
    pub(crate) engine: EngineInfo,
    form: Form,
    /// Most rows that the server takes in one call, where it says so.
    max_rows: Option<usize>,
    /// Whether rows of several callers may share a call.
    shares: bool,
}

/// Asks the server of `candidate` what the model is. Blocks for as long as its `timeout`.
///
/// # Errors
/// Why there is no model.
pub(crate) fn describe(candidate: &Candidate, background: &Background) -> Result<Described, Reason> {
    let wrong = |problems: Vec<weir_artifact::Problem>| Reason::of_files(&problems);
    let draft = read_remote(candidate).map_err(wrong)?;
    let table = draft.table();
    let timeout = table.timeout.get();
    let asked = background
        .run(|runtime| runtime.block_on(async { tokio::time::timeout(timeout, facts(&draft)).await }))
        .map_err(|text| Reason::new(NOT_ASKED, text))?;
    let (facts, form) = asked.unwrap_or(Err(CallError::TimedOut)).map_err(|error| {
        let full = format!("{} does not describe model `{}`: {error}", table.url, draft.model());
        Reason::new(unknown(&error), full)
    })?;
    let spec = draft.describe(&facts).map_err(wrong)?;
    let version = table.version.as_ref().map(|v| format!(" version {v}")).unwrap_or_default();
    let how = form.as_str();
    let reason = format!("[remote]: model `{}`{version} at {}, {how}", draft.model(), table.url);
    let engine = EngineInfo { name: "remote", version: facts.server.clone(), reason };
    Ok(Described { draft, spec, engine, form, max_rows: facts.max_rows, shares: false })
}

/// What a model on another server is, as `weir inspect` shows it.
///
/// # Errors
/// Why it cannot be told; the text is for operators.
pub fn describe_remote(candidate: &Candidate) -> Result<(ModelSpec, EngineInfo), String> {
    let background = Background::default();
    let mut described = describe(candidate, &background).map_err(|reason| reason.to_string())?;
    let probe = described.executor(Arc::new(SystemClock), Arc::default(), 1).map_err(|r| r.to_string())?;
    let note = described.settle(&probe, &SystemClock, &background);
    described.spec.notes.extend(note);
    Ok((described.spec, described.engine))
}

/// What everybody may read where this server is the reason.
const NOT_ASKED: &str = "the model's server cannot be asked from here; the log says why";

fn unknown(error: &CallError) -> &'static str {
    match error {
        CallError::Connection(_) | CallError::TimedOut => {
            "the model's server cannot be reached; the log names it. It is tried again every ten seconds"
        }
        CallError::Broken(_) => {
            "the model's server does not describe it in a form that can be read; see the log"
        }
        _ => {
            "the model's server does not have the model ready; see the log. It is asked again every ten seconds"
        }
    }
}

impl Described {
    /// An executor for it, of which `queue` jobs may wait. It belongs to the runtime on which it
    /// is first used.
    pub(crate) fn executor(
        &self,
        clock: Arc<dyn Clock>,
        stats: Arc<Stats>,
        queue: usize,
    ) -> Result<Remote, Reason> {
        // What the server is asked for: its own shapes, but with the rows open.
        let signature = self.spec.signature.clone();
        let name = self.spec.name.to_string();
        let sharing = self.shares.then(|| Sharing::new(&self.spec, self.max_rows, queue));
        Remote::new(&self.draft, name, signature, self.form, (clock, stats), sharing)
            .map_err(|text| Reason::new(NOT_ASKED, text))
    }

    /// Finds out on `probe`, which shares nothing, whether rows of several callers may share a
    /// call. Where they may not, a request has no more rows than the server takes, and what an
    /// operator should know about it is given.
    pub(crate) fn settle(
        &mut self,
        probe: &Remote,
        clock: &dyn Clock,
        background: &Background,
    ) -> Option<String> {
        let answer = |rows: &[&Batch]| {
            let batch = stack(rows).ok_or("the rows differ in shape")?;
            samples::ask(probe, batch, clock, background)
        };
        let (repeatable, max_rows) = (self.draft.repeatable(), self.max_rows);
        let Err(why) = trial::may_share(&self.spec, &SharedTrial { repeatable, max_rows, answer: &answer })
        else {
            self.shares = true;
            return None;
        };
        let limits = &mut self.spec.limits;
        limits.max_rows = limits.max_rows.min(self.max_rows.unwrap_or(usize::MAX));
        Some(format!("each request is a call of its own: {why}; see docs/reference/remote.md"))
    }
}

impl Remote {
    fn new(
        draft: &RemoteDraft,
        name: String,
        signature: Signature,
        form: Form,
        (clock, stats): (Arc<dyn Clock>, Arc<Stats>),
        sharing: Option<Sharing>,
    ) -> Result<Self, String> {
        let guard = Guard::new(policy(draft.table(), draft.repeatable()));
        let server = Server::new(draft, signature, form)?;
        let address = Address::of(&draft.table().url);
        let link = Arc::new(Link { name, server, address, guard, clock, stats });
        Ok(Self { shared: sharing.map(|sharing| Shared::new(link.clone(), sharing)), link })
    }

    /// One call for one job.
    async fn alone(&self, job: Job) -> Result<Done, Error> {
        let Link { clock, stats, .. } = &*self.link;
        let start = clock.now();
        if job.deadline.is_past(start) {
            Stats::count(&stats.expired);
            return Err(past_deadline());
        }
        let pending = Pending::new(stats, &**clock, job.deadline);
        let result =
            self.link.ask(&job.batch, Instant::from_std(job.deadline.instant()), job.trace.as_ref()).await;
        pending.ended();
        let ran = clock.now() - start;
        let refused = result.as_ref().is_err_and(is_refusal);
        let result = result.map_err(|error| self.link.report(&error));
        self.link.count(&result, refused, (Duration::ZERO, ran));
        let took = Took::by_model(Duration::ZERO, ran);
        Ok(Done { outputs: result?, tokens: None, cache: None, state: None, took })
    }
}

impl Executor for Remote {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        match &self.shared {
            Some(shared) => Box::pin(shared.run(job)),
            None => Box::pin(self.alone(job)),
        }
    }

    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        match &self.shared {
            Some(shared) => shared.ready(caller, deadline),
            None => {
                let ready = self.link.guard.closed().and_then(|()| self.link.guard.room());
                ready.map_err(|error| self.link.refuse(&error))
            }
        }
    }

    fn by_row(&self) -> bool {
        self.shared.is_some()
    }

    fn stats(&self) -> &Stats {
        &self.link.stats
    }

    fn waiting(&self) -> usize {
        self.shared.as_ref().map_or(0, Shared::waiting)
    }

    fn remote(&self) -> Option<GuardStats> {
        Some(self.link.guard.stats())
    }
}
