//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again
//! under the same key gets the first one's answer. It wraps what answers; nothing inside knows.
//!
//! Kept are answers that sending the same again would not change: successes, and what is wrong
//! with the body itself. Not kept are 5xx, 4xx that time changes (no room, late, a feature that
//! is not known yet): the key is free again and the request may be repeated as it is.
//!
//! A request that changes something (events, a step of a sequence) is [*binding*](Once::binding):
//! it runs to its end though its client goes away, and its key is free only where it says itself
//! that it failed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::{future::Future, time::Duration};
use tokio::time::timeout_at;
use weir_features::{Begun, Idempotency, IdempotencyGuard, StoredAnswer};
use weir_types::{Deadline, Error, ErrorCode, Principal};

use crate::{
    head::{FRAMING, SEQUENCE},
    listener::Body,
    metrics::KeyMetrics,
    server::Shared,
};

/// The header, and gRPC's metadata of that name.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the first one's.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// When a request in flight is worth asking about again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a face does not answer. Each tells in its own form what keys have to say.
pub(crate) trait Refuse: From<Error> {
    /// The refusal as an answer, where the same request would be refused again whenever it is sent:
    /// that is kept. A face that knows this of an error hands it in as an answer, or says so here.
    ///
    /// # Errors
    /// Itself, where time may change it.
    fn last_word(self) -> Result<Response<Body>, Self> {
        Err(self)
    }

    /// Another request has used the key, which `text` says.
    fn reused(text: &'static str) -> Self {
        Error::new(ErrorCode::ValidationFailed, text).into()
    }
}

/// What V2's transports fail with.
impl Refuse for Error {}

/// A request that is to run once.
pub(crate) struct Once {
    service: Idempotency,
    /// Principal, method and path: keys of different scopes never meet.
    scope: String,
    key: String,
    fingerprint: [u8; 32],
    deadline: Deadline,
    keys: KeyMetrics,
    binding: bool,
}

impl Once {
    /// The request that `head` and `body` are, if it has a key and the server keeps answers.
    ///
    /// # Errors
    /// `InvalidArgument` for more than one key, or none that can be read.
    pub(crate) fn of(
        shared: &Shared,
        head: &Parts,
        principal: &Principal,
        body: &Bytes,
        deadline: Deadline,
    ) -> Result<Option<Self>, Error> {
        let Some(key) = key(&head.headers)? else { return Ok(None) };
        let Some(service) = shared.state.idempotency.clone() else {
            return Err(Error::invalid("this server keeps no answers: leave Idempotency-Key out"));
        };
        let named = u8::from(principal.is_named());
        let scope = format!("{named}{}\n{}\n{}", principal.as_str(), head.method, head.uri.path());
        let fingerprint = fingerprint(head, body);
        let keys = shared.metrics.keys.clone();
        Ok(Some(Self { service, scope, key, fingerprint, deadline, keys, binding: false }))
    }

    /// Runs `work`, which changes something, or answers what it answered before. It is done
    /// whether or not somebody still waits for the answer: a key that was freed while the change
    /// is on its way would let it be made twice.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn binding<E: Refuse + Send + 'static>(
        self,
        work: impl Future<Output = Result<Response<Body>, E>> + Send + 'static,
    ) -> Result<Response<Body>, E> {
        let bound = Self { binding: true, ..self };
        let lost = |_| Error::internal("the request did not run to its end");
        tokio::spawn(bound.run(work)).await.map_err(lost)?
    }

    /// Runs `work`, or answers what it answered before.
    ///
    /// # Errors
    /// `Conflict` while the same request runs, and for one that was done and whose answer could not be
    /// kept; [`Refuse::reused`] for another request under the key; `Unavailable` where the store cannot be
    /// asked (running without it could be running twice); else what `work` says.
    pub(crate) async fn run<E: Refuse>(
        self,
        work: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        let begun = self.begin().await?;
        self.keys.count(match begun {
            Begun::Fresh(_) => "nothing",
            Begun::Replay(_) => "answer",
            Begun::InFlight => "in_flight",
            Begun::Mismatch => "another_request",
        });
        match begun {
            Begun::Replay(answer) if answer == unkept() => {
                let text = "the request with this Idempotency-Key was done; its answer was larger than \
                            `[idempotency] max_answer` and was not kept";
                Err(Error::new(ErrorCode::Conflict, text).into())
            }
            Begun::Replay(answer) => Ok(replay(answer)),
            Begun::Fresh(guard) if self.binding => {
                let guard = guard.binding();
                settle(guard, work.await, true).await
            }
            Begun::Fresh(guard) => settle(guard, work.await, false).await,
            Begun::InFlight => {
                let text = "the request with this Idempotency-Key is being answered: ask again";
                Err(Error::new(ErrorCode::Conflict, text).after(AGAIN).into())
            }
            Begun::Mismatch => {
                Err(E::reused("Another request has used this key: choose a new one for each request"))
            }
        }
    }

    async fn begin(&self) -> Result<Begun, Error> {
        let begun = self.service.begin(&self.scope, &self.key, self.fingerprint, self.deadline);
        let late =
            |_| Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the key was looked up");
        let begun = timeout_at(self.deadline.instant().into(), begun).await.map_err(late)?;
        begun.map_err(Error::from)
    }
}

/// What makes two requests of one scope the same. Which step of which sequence a request is, and where
/// tensors begin in its body, count where it says so, and only there: a request that says nothing of them
/// is the same as it was before they were.
fn fingerprint(head: &Parts, body: &Bytes) -> [u8; 32] {
    let value = |name: &HeaderName| head.headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let mut parts = vec![query, value(&header::CONTENT_TYPE), &body[..]];
    // Three and two of them: how many there are says whose they are.
    for group in [&SEQUENCE[..], &FRAMING] {
        if group.iter().any(|name| head.headers.contains_key(name)) {
            parts.extend(group.iter().map(value));
        }
    }
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Whether a request has a key.
pub(crate) fn is_keyed(headers: &HeaderMap) -> bool {
    headers.contains_key(KEY)
}

/// The one key of a request: bare, or as the string of RFC 8941 that the draft has it as.
fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut all = headers.get_all(KEY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Error::invalid("the request has more than one Idempotency-Key header"));
    }
    let unreadable = || Error::invalid("Idempotency-Key takes 1 to 255 visible ASCII characters");
    let unended = || Error::invalid("the Idempotency-Key begins with a quote and does not end with one");
    let text = value.to_str().map_err(|_| unreadable())?.trim();
    let bare = match text.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').ok_or_else(unended)?,
        None => text,
    };
    if bare.is_empty() { Err(unreadable()) } else { Ok(Some(bare.to_owned())) }
}

/// Keeps an answer that is final, frees the key after any other. In the place of an answer that is
/// too large to be kept, that of a binding request is that it was done.
async fn settle<E: Refuse>(
    guard: IdempotencyGuard,
    answer: Result<Response<Body>, E>,
    binding: bool,
) -> Result<Response<Body>, E> {
    let response = match answer.or_else(E::last_word) {
        Ok(response) => response,
        Err(refusal) => {
            if let Err(error) = guard.release().await {
                tracing::warn!("an Idempotency-Key was not freed, its lease ends it: {error}");
            }
            return Err(refusal);
        }
    };
    let (response, mut kept) = stored(response).await;
    if binding && !guard.fits(&kept) {
        kept = unkept();
    }
    if let Err(error) = guard.finish(kept).await {
        tracing::warn!("an answer was not kept under its Idempotency-Key: {error}");
    }
    Ok(response)
}

/// What is kept of a request that was done and whose answer is too large. No face answers that.
fn unkept() -> StoredAnswer {
    StoredAnswer { status: StatusCode::CONFLICT.as_u16(), ..StoredAnswer::default() }
}

/// The answer, and as it is kept.
async fn stored(response: Response<Body>) -> (Response<Body>, StoredAnswer) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (Bytes::copy_from_slice(name.as_str().as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
    };
    let headers = parts.headers.iter().map(header).collect();
    let kept = StoredAnswer { status: parts.status.as_u16(), headers, body: body.clone() };
    (Response::from_parts(parts, Body::new(body)), kept)
}

fn replay(answer: StoredAnswer) -> Response<Body> {
    let mut response = Response::new(Body::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in answer.headers {
        let header = HeaderName::from_bytes(&name).ok().zip(HeaderValue::from_bytes(&value).ok());
        if let Some((name, value)) = header {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests;
