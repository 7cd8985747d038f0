//! Models that another server runs: nothing waits on a thread for them.

#[cfg(test)]
mod double;
mod grpc;
mod rest;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use weir_artifact::{Candidate, ModelSpec, RemoteDraft, RemoteFacts, RemoteTable, read_remote};
use weir_clients::{BreakerPolicy, CallError, Guard, GuardStats, LimitPolicy, Policy, RetryPolicy, plain};
use weir_engine::EngineInfo;
use weir_types::{Batch, Clock, Error, ErrorCode, Outputs, Signature};

use super::{Done, ExecuteFuture, Executor, Job, Stats, past_deadline};
use crate::background::Background;
use grpc::Grpc;
use rest::Rest;

/// Runs jobs on another server: one call a job, behind a [`Guard`].
///
/// Rows of several callers do not share a call: the server at the other end batches those that
/// come together itself, and knows better than we which it can.
pub struct Remote {
    name: String,
    server: Server,
    guard: Guard,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
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

    async fn infer(&self, batch: &Batch, until: Instant) -> Result<Outputs, CallError> {
        match self {
            Self::Rest(rest) => rest.infer(batch, until).await,
            Self::Grpc(grpc) => grpc.infer(batch, until).await,
        }
    }
}

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
}

/// Why there is no model.
pub(crate) struct Unknown {
    /// For everybody: `/readyz` shows it.
    pub(crate) reason: String,
    /// For operators: it may name the server.
    pub(crate) detail: String,
}

/// Asks the server of `candidate` what the model is. Blocks for as long as its `timeout`.
pub(crate) fn describe(candidate: &Candidate, background: &Background) -> Result<Described, Unknown> {
    let lines = |problems: Vec<weir_artifact::Problem>| {
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Unknown { reason: text.clone(), detail: text }
    };
    let draft = read_remote(candidate).map_err(lines)?;
    let table = draft.table();
    let timeout = table.timeout.get();
    let asked = background
        .run(|runtime| runtime.block_on(async { tokio::time::timeout(timeout, facts(&draft)).await }))
        .map_err(|text| Unknown { reason: text.clone(), detail: text })?;
    let (facts, form) = asked.unwrap_or(Err(CallError::TimedOut)).map_err(|error| Unknown {
        reason: unknown(&error).to_owned(),
        detail: format!("{} does not describe model `{}`: {error}", table.url, draft.model()),
    })?;
    let spec = draft.describe(&facts).map_err(lines)?;
    let version = table.version.as_ref().map(|v| format!(" version {v}")).unwrap_or_default();
    let how = form.as_str();
    let reason = format!("[remote]: model `{}`{version} at {}, {how}", draft.model(), table.url);
    let engine = EngineInfo { name: "remote", version: facts.server.clone(), reason };
    Ok(Described { draft, spec, engine, form })
}

/// What a model on another server is, as `weir inspect` shows it.
///
/// # Errors
/// Why it cannot be told; the text is for operators.
pub fn describe_remote(candidate: &Candidate) -> Result<(ModelSpec, EngineInfo), String> {
    describe(candidate, &Background::default()).map(|d| (d.spec, d.engine)).map_err(|unknown| unknown.detail)
}

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
    /// An executor for it. It belongs to the runtime on which it is first used.
    pub(crate) fn executor(&self, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> Result<Remote, String> {
        Remote::new(&self.draft, self.spec.name.to_string(), self.signature(), self.form, clock, stats)
    }

    /// What the server is asked for. Its own shapes, but with the rows open.
    fn signature(&self) -> Signature {
        self.spec.signature.clone()
    }
}

impl Remote {
    fn new(
        draft: &RemoteDraft,
        name: String,
        signature: Signature,
        form: Form,
        clock: Arc<dyn Clock>,
        stats: Arc<Stats>,
    ) -> Result<Self, String> {
        let guard = Guard::new(policy(draft.table(), draft.repeatable()));
        Ok(Self { name, server: Server::new(draft, signature, form)?, guard, clock, stats })
    }

    async fn run(&self, job: Job) -> Result<Done, Error> {
        let start = self.clock.now();
        if job.deadline.is_past(start) {
            Stats::count(&self.stats.expired);
            return Err(past_deadline());
        }
        let deadline = Instant::from_std(job.deadline.instant());
        let result = self.guard.call(deadline, |until| self.server.infer(&job.batch, until)).await;
        if let Err(error @ (CallError::Limited(_) | CallError::BreakerOpen(_))) = &result {
            Stats::count(&self.stats.refused);
            return Err(self.public(error));
        }
        Stats::count(&self.stats.executed);
        let ran = self.clock.now() - start;
        let result: Result<Outputs, Error> = result.map_err(|error| self.report(&error));
        self.stats.finished(&result, (Duration::ZERO, ran), self.clock.wall());
        let outputs = result?;
        self.stats.rows.fetch_add(outputs.rows as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(Done { outputs, tokens: None, state: None, queued: Duration::ZERO, ran })
    }

    /// Tells the log what callers are not told.
    fn report(&self, error: &CallError) -> Error {
        match error {
            CallError::TimedOut
            | CallError::Unsendable(_)
            | CallError::Status { status: 400 | 413 | 422 | 504, .. } => {}
            CallError::Connection(_) | CallError::Overloaded { .. } => {
                tracing::warn!(model = self.name, %error, "a remote model gave no answer");
            }
            _ => tracing::error!(model = self.name, %error, "a remote model failed"),
        }
        self.public(error)
    }

    /// The same, as a caller may see it: no address, and of the server's own words only those
    /// that are about the request.
    fn public(&self, error: &CallError) -> Error {
        let name = &self.name;
        let unavailable =
            || Error::new(ErrorCode::Unavailable, format!("model `{name}` is not available at the moment"));
        match error {
            CallError::BreakerOpen(wait) => unavailable().retry_after(*wait),
            CallError::Limited(_) | CallError::Overloaded { status: 429, .. } => {
                let text = format!("model `{name}` has as much to do as it can take; try again shortly");
                let after =
                    if let CallError::Overloaded { retry_after, .. } = error { *retry_after } else { None };
                Error { retry_after: after, ..Error::new(ErrorCode::Overloaded, text) }
            }
            CallError::Overloaded { retry_after, .. } => Error { retry_after: *retry_after, ..unavailable() },
            CallError::Connection(_) | CallError::Status { status: 404, .. } => unavailable(),
            CallError::TimedOut | CallError::Status { status: 504, .. } => past_deadline(),
            CallError::Status { status: 400 | 422, text } => {
                Error::invalid(format!("model `{name}` refuses the request: {}", plain(text)))
            }
            CallError::Unsendable(text) => Error::invalid(text.clone()),
            CallError::Status { status: 413, .. } => {
                Error::new(ErrorCode::TooLarge, format!("the request is larger than model `{name}` takes"))
            }
            CallError::Status { .. } | CallError::Broken(_) => {
                Error::internal("the model failed to answer this request")
            }
        }
    }
}

fn policy(table: &RemoteTable, repeatable: bool) -> Policy {
    let RemoteTable { retry, breaker, limit, .. } = table;
    Policy {
        timeout: table.timeout.get(),
        repeatable,
        retry: RetryPolicy {
            most: retry.most,
            ratio: retry.ratio,
            min_per_second: retry.min_per_second,
            base: retry.backoff.get(),
            max: retry.max_backoff.get(),
        },
        breaker: BreakerPolicy {
            consecutive: breaker.failures,
            ratio: breaker.ratio,
            open: breaker.open.get(),
            open_max: breaker.max_open.get(),
        },
        limit: LimitPolicy { initial: limit.initial, min: limit.min, max: limit.max },
        hedge_after: table.hedge_after.map(|after| after.get()),
    }
}

impl Executor for Remote {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        Box::pin(self.run(job))
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn remote(&self) -> Option<GuardStats> {
        Some(self.guard.stats())
    }
}
