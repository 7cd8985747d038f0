//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again
//! under the same key gets the first one's answer. It wraps what answers; nothing inside knows.
//!
//! Kept are answers that sending the same again would not change: successes, and what is wrong
//! with the body itself. Not kept are 5xx, 4xx that time changes (no room, late, a feature that
//! is not known yet): the key is free again and the request may be repeated as it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::{future::Future, time::Duration};
use tokio::time::timeout_at;
use weir_codec::{FieldError, Rejection};
use weir_features::{Begun, Idempotency, IdempotencyGuard, StoredAnswer};
use weir_types::{Deadline, Error, ErrorCode, Principal};

use crate::{listener::Body, metrics::KeyMetrics, predict::Refusal, server::Shared};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the first one's.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// When a request in flight is worth asking about again.
const AGAIN: Duration = Duration::from_secs(1);

type Answer = Result<Response<Body>, Refusal>;

/// A request that is to run once.
pub(crate) struct Once {
    service: Idempotency,
    /// Principal, method and path: keys of different scopes never meet.
    scope: String,
    key: String,
    fingerprint: [u8; 32],
    deadline: Deadline,
    keys: KeyMetrics,
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
        Ok(Some(Self { service, scope, key, fingerprint, deadline, keys }))
    }

    /// Runs `work`, or answers what it answered before.
    ///
    /// # Errors
    /// `Conflict` while the same request runs, a 422 for another request under the key, `Unavailable` where the store cannot be asked (running without it could be running
    /// twice), else what `work` says.
    pub(crate) async fn run(self, work: impl Future<Output = Answer>) -> Answer {
        let begun = self.begin().await?;
        self.keys.count(match begun {
            Begun::Fresh(_) => "nothing",
            Begun::Replay(_) => "answer",
            Begun::InFlight => "in_flight",
            Begun::Mismatch => "another_request",
        });
        match begun {
            Begun::Replay(answer) => Ok(replay(answer)),
            Begun::Fresh(guard) => settle(guard, work.await).await,
            Begun::InFlight => {
                let text = "the request with this Idempotency-Key is being answered: ask again";
                Err(Error::new(ErrorCode::Conflict, text).after(AGAIN).into())
            }
            Begun::Mismatch => {
                let text = "Another request has used this key: choose a new one for each request";
                let loc = ["header", "Idempotency-Key"];
                let error = FieldError::elsewhere("idempotency_key_reused", loc, text);
                Err(Refusal::NotKnown(Rejection::Invalid(vec![error])))
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

/// What makes two requests of one scope the same.
fn fingerprint(head: &Parts, body: &Bytes) -> [u8; 32] {
    let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let mut hash = Sha256::new();
    for part in [head.uri.query().unwrap_or_default().as_bytes(), content_type, body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
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

/// Keeps an answer that is final, frees the key after any other.
async fn settle(guard: IdempotencyGuard, answer: Answer) -> Answer {
    let response = match answer {
        Ok(response) => response,
        Err(refusal) if refusal.is_final() => refusal.response(&HeaderValue::from_static("-")),
        Err(refusal) => {
            if let Err(error) = guard.release().await {
                tracing::warn!("an Idempotency-Key was not freed, its lease ends it: {error}");
            }
            return Err(refusal);
        }
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (Bytes::copy_from_slice(name.as_str().as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
    };
    let headers = parts.headers.iter().map(header).collect();
    let kept = StoredAnswer { status: parts.status.as_u16(), headers, body: body.clone() };
    if let Err(error) = guard.finish(kept).await {
        tracing::warn!("an answer was not kept under its Idempotency-Key: {error}");
    }
    Ok(Response::from_parts(parts, Body::new(body)))
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
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, Error> {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(KEY, value.parse().unwrap());
        });
        key(&headers)
    }

    #[test]
    fn a_key_is_bare_or_a_structured_string() {
        assert_eq!(of(&[]), Ok(None));
        for written in ["abc-1", "\"abc-1\"", " abc-1 "] {
            assert_eq!(of(&[written]), Ok(Some("abc-1".into())), "{written}");
        }
        assert!(of(&["a", "a"]).is_err());
        for none in ["\"\"", "", "\"", "\"half"] {
            assert!(of(&[none]).is_err(), "{none}");
        }
        let half = of(&["\"zz"]).unwrap_err();
        assert!(half.message.contains("quote"), "{half}");
    }
}
