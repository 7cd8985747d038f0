//! Streams: `ModelStreamInfer`, and what all streams share.

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::unconstrained,
};
use tokio_util::task::AbortOnDropHandle;
use weir_serving::Room;
use weir_types::{Access, Deadline, Error, ErrorCode};

use super::{
    call::{Call, late},
    frame,
    generated::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse},
    inference, messages,
    reply::{Part, Reply},
};
use crate::observe::at_the_end;

/// Requests of one stream that are worked on at once; the next waits, and with it what the
/// caller sends.
const IN_FLIGHT: usize = 16;
/// Answers that wait for the caller to take them.
const WAITING: usize = 4;

/// The sending end of a stream.
pub(super) type Parts = Sender<Part>;

/// Runs `work` beside the answer that it fills; it is dropped where the caller goes away or
/// the call's deadline passes.
pub(super) fn open<F>(deadline: Option<Deadline>, work: impl FnOnce(Parts) -> F) -> Reply
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (parts, receiver) = channel(WAITING);
    let work = work(parts.clone());
    tokio::spawn(async move {
        let passed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.instant().into()).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            () = parts.closed() => return,
            end = work => end,
            () = passed => Err(late()),
        };
        // The caller may have gone by now.
        let _ = parts.send(Part::End(end)).await;
    });
    Reply::Stream(receiver)
}

/// The error that ends streams of a server which shuts down, once they have their answers.
pub(super) fn closing() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is shutting down; open the stream again elsewhere")
}

/// `ModelStreamInfer`: any number of requests, answered in their order, several worked on at
/// once. A request that fails is a message; the stream lives on.
///
/// # Errors
/// Without access; `InvalidArgument` under a key.
pub(super) fn infer(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Read)?;
    if call.is_keyed() {
        let text =
            "an idempotency-key is one request's, and a stream has many: leave it out, or ask ModelInfer";
        return Err(Error::invalid(text));
    }
    let call = std::sync::Arc::new(call);
    Ok(open(call.stream_deadline, |parts| async move {
        let (asked, answers) = channel(IN_FLIGHT);
        let (end, ()) = tokio::join!(read_on(&call, body, asked), pass_on(answers, parts));
        end
    }))
}

/// An answer that is being made.
type Pending = AbortOnDropHandle<Result<Bytes, Error>>;

/// Reads requests and starts each, as many at once as `asked` has room for.
async fn read_on(call: &std::sync::Arc<Call>, body: Incoming, asked: Sender<Pending>) -> Result<(), Error> {
    let mut messages = call.messages(body, call.shared.body_limits(), call.stream_deadline);
    loop {
        let Ok(place) = asked.reserve().await else { return Ok(()) };
        let mut room = call.shared.predictor.room();
        let message = tokio::select! {
            message = messages.next(&mut room, None) => message?,
            () = call.shared.closing() => return Err(closing()),
        };
        let Some(message) = message else { return Ok(()) };
        let call = call.clone();
        let steps = names_a_sequence(&message);
        let mut work = Box::pin(async move { answer(&call, message, room).await });
        // Tasks start in any order, steps of a sequence must not: they take their place in it
        // here. No more than that, and without the task's budget of polls, which might end just
        // before it.
        let begun = match steps {
            true => unconstrained(poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx)))).await,
            false => Poll::Pending,
        };
        place.send(AbortOnDropHandle::new(match begun {
            Poll::Ready(done) => tokio::spawn(std::future::ready(done)),
            Poll::Pending => tokio::spawn(work),
        }));
    }
}

/// Whether a message may be a step of a sequence: it holds the parameter's name. Where that is
/// a chance, it costs nothing but the order of work.
fn names_a_sequence(message: &[u8]) -> bool {
    memchr::memmem::find(message, b"sequence_id").is_some()
}

/// Passes answers on in the order of their requests.
async fn pass_on(mut answers: Receiver<Pending>, parts: Parts) {
    while let Some(pending) = answers.recv().await {
        let answer =
            pending.await.unwrap_or_else(|_| Err(Error::internal("the request could not be answered")));
        let sent = match answer {
            Ok(message) => parts.send(Part::Message(message)).await,
            Err(error) => parts.send(Part::End(Err(error))).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The message that answers one request, be it an error.
async fn answer(call: &Call, message: Bytes, mut room: Room) -> Result<Bytes, Error> {
    let now = call.shared.predictor.clock().now();
    let limit = Deadline::after(now, call.shared.request_timeout());
    let deadline = call.stream_deadline.map_or(limit, |d| d.min(limit));
    let (id, mark, result) = match inference::read(message, &mut room) {
        Ok(question) => {
            let (id, mark) = (question.id.clone(), messages::wants_final(&question));
            (id, mark, ask(call, question, room, (now, deadline)).await)
        }
        Err(error) => (String::new(), false, Err(error)),
    };
    let message = match result {
        Ok(response) => ModelStreamInferResponse { infer_response: Some(response), ..Default::default() },
        Err(error) => failed(id, mark, &error),
    };
    frame::encode(&message, call.answers)
}

/// Asks one question of a stream, and counts it for its model.
async fn ask(
    call: &Call,
    question: ModelInferRequest,
    room: Room,
    times: (Instant, Deadline),
) -> Result<ModelInferResponse, Error> {
    let view = inference::view(call, &question)?;
    // Handed in by itself: the call's own span ends where its answers begin.
    let mut part = call.trace.as_ref().and_then(|scope| scope.own_part("message", times.0));
    let scope = part.as_ref().map_or(call.trace.as_ref(), |part| Some(part.scope()));
    let (received, deadline) = times;
    let until = inference::Until::Deadline(deadline);
    let result = inference::ask((call, scope), &view, question, room, (received, until)).await;
    let result = result.map_err(Error::from);
    let end = call.shared.predictor.clock().now();
    let took = end - times.0;
    let failed = result.as_ref().is_err_and(|e| e.code.http_status() >= 500);
    let sampled =
        part.as_mut().and_then(|part| part.end(end, failed, |_| {}).then(|| part.scope().context()));
    let status = result.as_ref().map_or_else(|error| error.code.http_status(), |_| 200);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    view.grpc(&call.shared, true).observe(status, took, at_the_end(&call.shared, sampled));
    // Metadata belong to the stream; of one message of it, nothing is told.
    result.map(|(answer, _)| answer)
}

fn failed(id: String, mark_final: bool, error: &Error) -> ModelStreamInferResponse {
    let mut response = ModelInferResponse { id, ..Default::default() };
    if mark_final {
        response.parameters.insert(messages::FINAL.to_owned(), messages::flag(true));
    }
    ModelStreamInferResponse { error_message: error.message.to_string(), infer_response: Some(response) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_request_it_is_of() {
        let message = failed("7".into(), true, &Error::not_found("there is no model `x`"));
        assert_eq!(message.error_message, "there is no model `x`");
        let response = message.infer_response.unwrap();
        assert_eq!(
            (response.id.as_str(), response.parameters[messages::FINAL].clone()),
            ("7", messages::flag(true))
        );
        let plain = failed("8".into(), false, &Error::invalid("x")).infer_response.unwrap();
        assert!(plain.parameters.is_empty());
    }
}
