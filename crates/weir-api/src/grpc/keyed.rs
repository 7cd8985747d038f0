//! `ModelInfer` under an `idempotency-key`. What is kept of it is the message itself, neither framed
//! nor compressed, and the metadata beside it; of a mistake of the question, a status and its text.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use prost::Message;
use tokio::time::timeout_at;
use weir_serving::Room;
use weir_types::{Access, Error};

use super::{
    call::{Call, late},
    frame,
    generated::inference::{ModelInferRequest, ModelInferResponse},
    inference::{Until, ask},
    reply::Reply,
};
use crate::{
    listener::Body,
    v2::core::{ModelView, Refused},
};

/// Answers `question`, or as it was answered before.
///
/// # Errors
/// Whatever stands in the way.
pub(super) async fn infer(
    call: Call,
    view: Arc<ModelView>,
    question: ModelInferRequest,
    mut room: Room,
) -> Result<Reply, Error> {
    let grant = call.authorize(Access::Invoke(&view.version().spec.name))?;
    room.hold(question.encoded_len() as u64)?;
    let Some(once) = call.once(grant.principal(), &canonical(&question))? else {
        return Err(Error::internal("a call under a key has none"));
    };
    let (deadline, call) = (call.deadline, Arc::new(call));
    let binding = view.version().spec.sequence.is_some();
    let until = if binding { Until::Done(deadline) } else { Until::Deadline(deadline) };
    let asked = call.clone();
    let work = async move {
        let times = (asked.received, until);
        kept(ask((&asked, asked.trace.as_ref()), &view, question, room, times).await)
    };
    let answered = match binding {
        // The step goes on; who asks again under the key gets its answer.
        true => timeout_at(deadline.instant().into(), once.binding(work)).await.map_err(|_| late())??,
        false => once.run(work).await?,
    };
    again(&call, answered).await
}

/// What a request is told apart by. Clients write the entries of a map in any order (Go's in another
/// one each time): what counts is the message as it is written here.
fn canonical(question: &ModelInferRequest) -> Bytes {
    question.encode_to_vec().into()
}

/// An answer as it is kept.
fn kept(answered: Result<(ModelInferResponse, HeaderMap), Refused>) -> Result<Response<Body>, Error> {
    match answered {
        Ok((message, metadata)) => {
            let mut response = Response::new(Body::new(message.encode_to_vec().into()));
            *response.headers_mut() = metadata;
            Ok(response)
        }
        Err(Refused { error, always: true }) => {
            let mut response = Response::new(Body::new(Bytes::from(error.message.into_owned())));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok(response)
        }
        Err(refused) => Err(refused.error),
    }
}

/// What was [`kept`], as this caller takes it.
async fn again(call: &Call, answered: Response<Body>) -> Result<Reply, Error> {
    let (parts, body) = answered.into_parts();
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    call.tells(parts.headers);
    match parts.status {
        StatusCode::OK => Ok(Reply::Unary(Some(frame::wrap(&body, call.answers)?))),
        _ => Err(Error::invalid(String::from_utf8_lossy(&body).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::{generated::inference::InferParameter, messages::flag};

    #[test]
    fn the_order_of_parameters_does_not_count() {
        let with = |name: &str, value: InferParameter| ModelInferRequest {
            parameters: [(name.to_owned(), value)].into(),
            ..Default::default()
        };
        let (a, b) = (with("a", flag(true)), with("b", flag(false)));
        // Messages written one behind the other are one: protobuf's maps are lists of entries.
        let read = |parts: [&ModelInferRequest; 2]| {
            let bytes = parts.map(Message::encode_to_vec).concat();
            (canonical(&frame::decode(bytes.clone().into()).unwrap()), bytes)
        };
        let ((one, sent), (other, sent_otherwise)) = (read([&a, &b]), read([&b, &a]));
        assert_ne!(sent, sent_otherwise);
        assert_eq!(one, other);
        assert_ne!(one, canonical(&a));
    }
}
