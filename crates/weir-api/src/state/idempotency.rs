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
use weir_codec::{FieldError, Rejection};
use weir_features::{Begun, Idempotency, IdempotencyGuard, StoredAnswer};
use weir_types::{Deadline, Error, ErrorCode, Principal};

use crate::{head::SEQUENCE, listener::Body, metrics::KeyMetrics, predict::Refusal, respond, server::Shared};

pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
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
    pub(crate) async fn binding(self, work: impl Future<Output = Answer> + Send + 'static) -> Answer {
        let bound = Self { binding: true, ..self };
        let lost = |_| Error::internal("the request did not run to its end");
        tokio::spawn(bound.run(work)).await.map_err(lost)?
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

/// What makes two requests of one scope the same. Which step of which sequence a request is
/// counts where it says so, and only there: a request that names none is the same as it was
/// before sequences were.
fn fingerprint(head: &Parts, body: &Bytes) -> [u8; 32] {
    let value = |name: &HeaderName| head.headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let mut parts = vec![query, value(&header::CONTENT_TYPE), &body[..]];
    if SEQUENCE.iter().any(|name| head.headers.contains_key(name)) {
        parts.extend(SEQUENCE.iter().map(value));
    }
    let mut hash = Sha256::new();
    for part in parts {
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

/// Keeps an answer that is final, frees the key after any other. In the place of an answer that is
/// too large to be kept, that of a binding request is that it was done.
async fn settle(guard: IdempotencyGuard, answer: Answer, binding: bool) -> Answer {
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
    let (response, mut kept) = stored(response).await;
    if binding && !guard.fits(&kept) {
        kept = stored(unkept()).await.1;
    }
    if let Err(error) = guard.finish(kept).await {
        tracing::warn!("an answer was not kept under its Idempotency-Key: {error}");
    }
    Ok(response)
}

/// What a repetition is told of a request that was done, and whose answer was not kept.
fn unkept() -> Response<Body> {
    let text = "the request with this Idempotency-Key was done; its answer was larger than \
                `[idempotency] max_answer` and was not kept";
    respond::error(&Error::new(ErrorCode::Conflict, text), &HeaderValue::from_static("-"))
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
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use http::Request;
    use weir_features::{IdempotencyConfig, Memory};
    use weir_types::{Clock, SystemClock};

    use super::*;

    fn print(headers: &[(&str, &str)]) -> [u8; 32] {
        let mut request = Request::post("/v1/models/m:predict?outputs=a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        fingerprint(&request.body(()).unwrap().into_parts().0, &Bytes::from_static(b"[1]"))
    }

    #[test]
    fn another_step_or_sequence_is_another_request() {
        let steps = [
            &[][..],
            &[("sequence-id", "a")],
            &[("sequence-id", "b")],
            &[("sequence-id", "a"), ("sequence-start", "true")],
            &[("sequence-id", "a"), ("sequence-end", "true")],
            &[("sequence-id", "a"), ("sequence-start", "true"), ("sequence-end", "true")],
            &[("sequence-id", "atrue")],
        ];
        let prints: HashSet<_> = steps.iter().map(|headers| print(headers)).collect();
        assert_eq!(prints.len(), steps.len());
        assert_eq!(print(&[("sequence-id", "a"), ("x", "1")]), print(&[("x", "2"), ("sequence-id", "a")]));
        // What was kept before sequences were is still the answer to what names none.
        let mut before = Sha256::new();
        for part in [&b"outputs=a"[..], b"", b"[1]"] {
            before.update((part.len() as u64).to_le_bytes());
            before.update(part);
        }
        assert_eq!(print(&[]), <[u8; 32]>::from(before.finalize()));
    }

    fn once(service: &Idempotency) -> Once {
        let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(60));
        let (service, keys) = (service.clone(), KeyMetrics::default());
        Once {
            service,
            scope: String::new(),
            key: "k".into(),
            fingerprint: [1; 32],
            deadline,
            keys,
            binding: false,
        }
    }

    fn service() -> Idempotency {
        let clock = Arc::new(SystemClock);
        let config = IdempotencyConfig { max_answer: weir_config::ByteSize::kib(1), ..Default::default() };
        Idempotency::new(&config, Arc::new(Memory::new(1 << 20, clock.clone())), clock)
    }

    fn answer(bytes: usize) -> Answer {
        Ok(respond::json(StatusCode::OK, vec![b'7'; bytes]))
    }

    #[tokio::test]
    async fn what_changes_something_is_done_to_the_end_and_once() {
        let service = service();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go, gate) = tokio::sync::oneshot::channel();
        let (over, is_over) = tokio::sync::oneshot::channel();
        let work = async move {
            begun.send(()).unwrap();
            gate.await.unwrap();
            over.send(()).unwrap();
            answer(1)
        };
        let mut call = Box::pin(once(&service).binding(work));
        tokio::select! {
            biased;
            began = has_begun => began.unwrap(),
            _ = &mut call => panic!("nobody said go"),
        }
        drop(call); // the client goes away
        go.send(()).unwrap();
        is_over.await.unwrap();
        let again = loop {
            match once(&service).run(async { unreachable!("it has been done") }).await {
                Ok(response) => break response,
                Err(Refusal::Failed(error)) if error.code == ErrorCode::Conflict => {
                    tokio::task::yield_now().await;
                }
                Err(_) => panic!("neither running nor done"),
            }
        };
        assert_eq!(again.status(), StatusCode::OK);
        assert_eq!(again.headers()[REPLAYED], "true");
    }

    #[tokio::test]
    async fn what_was_done_and_answered_at_length_is_not_done_again() {
        let service = service();
        let first = once(&service).binding(async { answer(5000) }).await;
        assert!(first.is_ok_and(|response| response.status() == StatusCode::OK));
        let again = once(&service).binding(async { unreachable!("it has been done") }).await;
        assert!(again.is_ok_and(|response| response.status() == StatusCode::CONFLICT));
        // What changes nothing may run again.
        let service = self::service();
        for _ in 0..2 {
            let same = once(&service).run(async { answer(5000) });
            assert!(same.await.is_ok_and(|response| response.status() == StatusCode::OK));
            tokio::task::yield_now().await; // the key is freed in the background
        }
    }

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
