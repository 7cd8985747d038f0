//! Answers: messages, then trailers with the status.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use tokio::sync::mpsc::Receiver;
use weir_codec::{STATUS_DETAILS, retry_info};
use weir_types::Error;

use crate::{
    coding::{self, Coding},
    listener::Body,
    respond,
};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const OK: HeaderValue = HeaderValue::from_static("0");

/// What a message of a status has to escape besides bytes that are not ASCII
/// (PROTOCOL-HTTP2: everything outside space to tilde, and the percent sign).
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
/// Longest message of a status: clients refuse header lists beyond 8 KiB.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// What a stream sends.
#[derive(Debug)]
pub(crate) enum Part {
    /// One message, with its prefix.
    Message(Bytes),
    /// The end.
    End(Result<(), Error>),
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// One message, then OK.
    Unary(Option<Bytes>),
    /// Messages as they come.
    Stream(Receiver<Part>),
    /// Nothing more.
    Done,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let end = match &mut *self {
            Reply::Done => return Poll::Ready(None),
            Reply::Unary(message) => match message.take() {
                Some(message) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                None => Ok(()),
            },
            Reply::Stream(parts) => match ready!(parts.poll_recv(cx)) {
                Some(Part::Message(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Some(Part::End(end)) => end,
                None => Err(Error::internal("the stream broke off")),
            },
        };
        *self = Reply::Done;
        Poll::Ready(Some(Ok(Frame::trailers(status(&end)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Done)
    }
}

/// The headers that tell how a call ended.
fn status(end: &Result<(), Error>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    let Err(error) = end else {
        headers.insert(STATUS, OK);
        return headers;
    };
    headers.insert(STATUS, error.code.grpc_status().into());
    let message = &error.message[..error.message.floor_char_boundary(MAX_MESSAGE_BYTES)];
    let text = percent_encode(message.as_bytes(), ESCAPED).to_string();
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(MESSAGE, text);
    }
    // By the name it has in HTTP, and in gRPC's own form.
    respond::advise(error, &mut headers);
    let info = respond::wait(error).and_then(|wait| retry_info(error.code.grpc_status(), message, wait));
    let info = info.and_then(|info| HeaderValue::try_from(info).ok());
    headers.extend(info.map(|info| (HeaderName::from_static(STATUS_DETAILS), info)));
    headers
}

/// An answer with `body`, or one that is a status alone ("trailers only").
pub(super) fn response(body: Result<Reply, &Error>, coding: Option<Coding>) -> Response<Body> {
    let (headers, body) = match body {
        Ok(body) => (HeaderMap::new(), body),
        Err(error) => (status(&Err(error.clone())), Reply::Done),
    };
    let mut response = Response::new(Body::Call(body));
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(coding::grpc::ACCEPT_ENCODING, coding::grpc::ACCEPTED);
    if let Some(coding) = coding {
        headers.insert(coding::grpc::ENCODING, coding.value());
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use weir_types::ErrorCode;

    use super::*;

    #[test]
    fn every_code_has_its_status() {
        for code in ErrorCode::ALL {
            let headers = status(&Err(Error::new(code, "why")));
            assert_eq!(headers[STATUS], code.grpc_status().to_string());
            assert_eq!(headers[MESSAGE], "why");
        }
        assert_eq!(status(&Ok(()))[STATUS], "0");
        let details = ErrorCode::ALL.into_iter().filter(|code| {
            let headers = status(&Err(Error::new(*code, "why")));
            assert_eq!(headers.contains_key(STATUS_DETAILS), headers.contains_key(header::RETRY_AFTER));
            headers.contains_key(STATUS_DETAILS)
        });
        assert_eq!(details.count(), 3, "a quota, too much to do, not available");
    }

    #[test]
    fn a_message_is_printable_and_bounded() {
        let of = |text: String| status(&Err(Error::invalid(text)))[MESSAGE].to_str().unwrap().to_owned();
        assert_eq!(of("50% of \"ä\"\n".into()), "50%25 of \"%C3%A4\"%0A");
        assert_eq!(of("ä".repeat(10_000)).len(), MAX_MESSAGE_BYTES * 3);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_success() {
        let (sender, parts) = mpsc::channel(2);
        sender.send(Part::Message(Bytes::from_static(b"one"))).await.unwrap();
        drop(sender);
        let all = Reply::Stream(parts).collect().await.unwrap();
        assert_eq!(all.trailers().unwrap()[STATUS], "13");
        assert_eq!(all.to_bytes(), "one");
    }

    #[tokio::test]
    async fn a_unary_answer_is_one_message_and_ok() {
        let all = Reply::Unary(Some(Bytes::from_static(b"one"))).collect().await.unwrap();
        assert_eq!(all.trailers().unwrap()[STATUS], "0");
        assert_eq!(all.to_bytes(), "one");
    }
}
