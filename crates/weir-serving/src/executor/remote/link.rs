//! One model on one server, behind a [`Guard`], and what callers are told of it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use weir_artifact::RemoteTable;
use weir_clients::{BreakerPolicy, CallError, Guard, LimitPolicy, Policy, RetryPolicy, plain};
use weir_types::{Batch, Clock, Error, ErrorCode, Outputs, trace::Scope};

use super::{
    Server,
    attempt::{Address, Attempt},
};
use crate::executor::{Stats, past_deadline};

/// The way to a model.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) server: Server,
    pub(super) address: Address,
    pub(super) guard: Guard,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
}

impl Link {
    /// Asks, with repeats where they are allowed.
    pub(super) async fn ask(
        &self,
        batch: &Batch,
        deadline: Instant,
        trace: Option<&Scope>,
    ) -> Result<Outputs, CallError> {
        let start = self.clock.now();
        let result = self.guard.call(deadline, |until| self.attempt(batch, until, trace)).await;
        if !result.as_ref().is_err_and(is_refusal) {
            Stats::count(&self.stats.executed);
        }
        if result.is_ok() {
            self.stats.answered_rows(batch.rows, self.clock.now() - start);
        }
        result
    }

    /// Asks once.
    async fn attempt(
        &self,
        batch: &Batch,
        until: Instant,
        trace: Option<&Scope>,
    ) -> Result<Outputs, CallError> {
        let Some(around) = trace else { return self.server.infer(batch, until, &[]).await };
        let attempt = Attempt::new(around, &self.address, &*self.clock);
        let result = self.server.infer(batch, until, &attempt.headers()).await;
        attempt.end(&result);
        result
    }

    /// Counts a job, of whose call this came.
    pub(super) fn count<T>(&self, result: &Result<T, Error>, refused: bool, took: (Duration, Duration)) {
        match refused {
            true => Stats::count(&self.stats.refused),
            false => self.stats.finished(result, took, self.clock.wall()),
        }
    }

    /// Counts a job that is refused before anybody is asked, and says what its caller is told.
    pub(super) fn refuse(&self, error: &CallError) -> Error {
        Stats::count(&self.stats.refused);
        self.public(error)
    }

    /// Tells the log what callers are not told.
    pub(super) fn report(&self, error: &CallError) -> Error {
        match error {
            CallError::TimedOut
            | CallError::Unsendable(_)
            | CallError::Limited(_)
            | CallError::BreakerOpen(_)
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
            CallError::Connection(_) | CallError::Untrusted(_) | CallError::Status { status: 404, .. } => {
                unavailable()
            }
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

/// Whether nobody was asked.
pub(super) fn is_refusal(error: &CallError) -> bool {
    matches!(error, CallError::Limited(_) | CallError::BreakerOpen(_))
}

pub(super) fn policy(table: &RemoteTable, repeatable: bool) -> Policy {
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
