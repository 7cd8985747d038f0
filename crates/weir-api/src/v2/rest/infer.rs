//! Inference over REST: JSON, JSON with blobs behind it, or one raw tensor.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use weir_serving::Admitted;
use weir_types::{Access, Deadline, Error};

use super::{Call, error, raw::read_raw_body};
use crate::{
    body,
    coding::Coding,
    head::{self, JSON_LENGTH},
    listener::Body,
    respond,
    state::idempotency::Once,
    v2::{
        core::{InferRequest, ModelView, Parameter, Refused, Timeline, Transport, infer},
        json::{Encoded, Most, read, write_response},
    },
};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers an inference request from head to body.
///
/// The response carries what its model counts.
///
/// # Errors
/// `NotFound` for a model that is not there; whatever else stands in the way is a response.
pub(super) async fn answer(call: &Call<'_>, incoming: &mut Incoming) -> Result<Response<Body>, Error> {
    let (name, version) = call.target();
    let view = call.face.v2.view(name, version)?;
    let mut response = run(call, view, incoming).await.unwrap_or_else(|e| error(&e));
    response.extensions_mut().insert(view.metrics.clone());
    Ok(response)
}

async fn run(
    call: &Call<'_>,
    view: &Arc<ModelView>,
    incoming: &mut Incoming,
) -> Result<Response<Body>, Error> {
    let predictor = &call.shared.predictor;
    let trace = call.shared.tracer.sample(view.version().spec.name.as_str());
    let mut line = Timeline::new(predictor.shared_clock(), predictor.clock().now(), trace, call.from.trace);
    let (asked, once) = match read_body(call, view, incoming, &mut line).await {
        Ok(read) => read,
        Err(error) => {
            line.finish(view, Transport::Http);
            return Err(error);
        }
    };
    let coding = Coding::of_answer(&call.head.headers);
    let Some(once) = once else { return Ok(asked.answer(view, line, coding).await?) };
    // What is kept is not compressed: whoever asks again may take another coding.
    let (stateful, view) = (view.version().spec.sequence.is_some(), view.clone());
    let work = async move {
        match asked.answer(&view, line, None).await {
            Err(Refused { error: told, always: true }) => Ok(error(&told)),
            other => other.map_err(Error::from),
        }
    };
    let answered = if stateful { once.binding(work).await? } else { once.run(work).await? };
    Ok(pack(coding, answered).await)
}

/// A request that was read.
struct Asked {
    admitted: Admitted,
    bytes: Bytes,
    /// Bytes of JSON before the blobs, where there are any.
    json_bytes: Option<usize>,
}

/// Reads the body, and the key that it is under.
async fn read_body(
    call: &Call<'_>,
    view: &ModelView,
    incoming: &mut Incoming,
    line: &mut Timeline,
) -> Result<(Asked, Option<Once>), Error> {
    let headers = &call.head.headers;
    let coding = Coding::of_body(headers)?;
    let json_bytes = header_length(headers)?;
    let mut admitted = admit(call, view, line.received)?;
    let bytes = body::read(incoming, &mut admitted, call.shared.body_limits()).await?;
    line.read();
    let once = Once::of(call.shared, call.head, admitted.principal(), &bytes, admitted.deadline())?;
    let bytes = unpack(call, coding, bytes, &mut admitted)?;
    Ok((Asked { admitted, bytes, json_bytes }, once))
}

impl Asked {
    async fn answer(
        self,
        view: &ModelView,
        mut line: Timeline,
        coding: Option<Coding>,
    ) -> Result<Response<Body>, Refused> {
        let answered = self.infer(view, &mut line, coding).await;
        line.finish(view, Transport::Http);
        answered
    }

    async fn infer(
        self,
        view: &ModelView,
        line: &mut Timeline,
        coding: Option<Coding>,
    ) -> Result<Response<Body>, Refused> {
        let Self { admitted, bytes, json_bytes } = self;
        let (request, binary) = decode(view, &bytes, json_bytes).map_err(Refused::always)?;
        // The tensors are built: what they were read from need not be held while the model runs.
        drop(bytes);
        let answer = infer(admitted, view, request, line).await?;
        let encoded = write_response(&answer, &binary.of(answer.outputs.len()))?;
        let mut response = encode(coding, view, encoded);
        respond::cached(answer.cache, response.headers_mut());
        respond::looked_up(answer.feature_asof, response.headers_mut());
        line.encoded();
        Ok(response)
    }
}

fn admit(call: &Call<'_>, view: &ModelView, received: Instant) -> Result<Admitted, Error> {
    let shared = call.shared;
    let sender = call.sender(Access::Invoke(&view.version().spec.name))?;
    let timeout = head::timeout(&call.head.headers, shared.request_timeout()).map_err(Error::invalid)?;
    let declared = body::check_length(&call.head.headers, shared.body_limits())?;
    let deadline = Deadline::after(received, timeout);
    let mut admitted = shared.predictor.admit(sender, declared, deadline)?;
    admitted.cache(head::cache_control(&call.head.headers));
    admitted.would_run(view.version())?;
    Ok(admitted)
}

/// The header's value. Decimal digits only: `+5` and ` 5` are read as 5 by some and not by
/// others, and then two readers disagree on where the blobs begin.
///
/// # Errors
/// `InvalidArgument` where it is something else, or there twice.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let mut values = headers.get_all(JSON_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|s| s.parse().ok()).filter(|_| values.next().is_none()) {
        Some(length) => Ok(Some(length)),
        None => {
            Err(Error::invalid("the header Inference-Header-Content-Length is one number of decimal digits"))
        }
    }
}

fn unpack(
    call: &Call<'_>,
    coding: Option<Coding>,
    bytes: Bytes,
    admitted: &mut Admitted,
) -> Result<Bytes, Error> {
    let Some(coding) = coding else { return Ok(bytes) };
    coding.unpack_body(&bytes, call.shared.body_limits().max_bytes, |n| admitted.hold(n)).map(Bytes::from)
}

/// Which outputs go behind the JSON.
#[derive(Debug, PartialEq)]
struct Binary {
    /// Of outputs that say nothing themselves.
    default: bool,
    /// Of the outputs asked for, in their order.
    each: Vec<bool>,
}

impl Binary {
    fn new(request: &InferRequest) -> Result<Self, Error> {
        let default = request.parameters.flag("binary_data_output")?.unwrap_or(false);
        let own = request.outputs.iter().map(|o| Ok(o.parameters.flag("binary_data")?.unwrap_or(default)));
        Ok(Self { default, each: own.collect::<Result<_, Error>>()? })
    }

    fn of(mut self, outputs: usize) -> Vec<bool> {
        self.each.resize(outputs, self.default);
        self.each
    }
}

fn decode(view: &ModelView, body: &[u8], json_bytes: Option<usize>) -> Result<(InferRequest, Binary), Error> {
    let most = Most { inputs: view.inputs().len(), outputs: view.version().spec.signature.outputs.len() };
    let mut request = match json_bytes {
        None => read(body, &[], most)?,
        Some(0) => read_raw_body(view.inputs(), body)?,
        Some(length) => {
            let (json, blobs) = body.split_at_checked(length).ok_or_else(|| {
                Error::invalid(format!(
                    "Inference-Header-Content-Length is {length}, the body has {} bytes",
                    body.len()
                ))
            })?;
            read(json, blobs, most)?
        }
    };
    if json_bytes == Some(0) {
        // As Triton has it: who sends no JSON wants none in the answer's tensors.
        request.parameters.0.push(("binary_data_output".into(), Parameter::Bool(true)));
    }
    let binary = Binary::new(&request)?;
    Ok((request, binary))
}

fn encode(coding: Option<Coding>, view: &ModelView, encoded: Encoded) -> Response<Body> {
    let Encoded { body, json } = encoded;
    let kind = if json.is_some() { OCTETS } else { JSON };
    let mut response = respond::response(StatusCode::OK, kind, Bytes::new());
    let out = response.headers_mut();
    out.insert(respond::MODEL, view.named.clone());
    // The header counts plain bytes, also where the body is compressed.
    json.into_iter().for_each(|n| drop(out.insert(JSON_LENGTH, n.into())));
    packed(coding, response, body.into())
}

/// `response` with `body`, compressed where that makes it smaller.
fn packed(coding: Option<Coding>, mut response: Response<Body>, body: Bytes) -> Response<Body> {
    match coding.and_then(|coding| Some((coding, coding.pack_body(&body)?))) {
        Some((coding, small)) => {
            response.headers_mut().insert(header::CONTENT_ENCODING, coding.value());
            response.map(|_| Body::new(small.into()))
        }
        None => response.map(|_| Body::new(body)),
    }
}

/// An answer as it was kept, compressed for whoever asks now.
async fn pack(coding: Option<Coding>, answered: Response<Body>) -> Response<Body> {
    if answered.status() != StatusCode::OK {
        return answered;
    }
    let (parts, body) = answered.into_parts();
    let Ok(body) = body.collect().await;
    packed(coding, Response::from_parts(parts, Body::default()), body.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_length_is_digits_only() {
        let read = |values: &[&'static str]| {
            let values = values.iter().map(|v| (JSON_LENGTH, HeaderValue::from_static(v)));
            header_length(&values.collect())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["0"]), Ok(Some(0)));
        assert_eq!(read(&["0123"]), Ok(Some(123)));
        for bad in ["", "+5", "-1", " 5", "5 ", "0x5", "5.0", "1e3", "99999999999999999999999"] {
            // The HTTP reader trims blanks; this test hands them in as they are.
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
        assert!(read(&["5", "5"]).is_err());
    }

    #[test]
    fn an_outputs_own_word_counts_more_than_the_requests() {
        let json = br#"{"inputs":[],"parameters":{"binary_data_output":true},
            "outputs":[{"name":"a"},{"name":"b","parameters":{"binary_data":false}}]}"#;
        let request = read(json, &[], Most { inputs: 1, outputs: 2 }).unwrap();
        assert_eq!(Binary::new(&request).unwrap().of(2), [true, false]);
        let all = read(br#"{"inputs":[]}"#, &[], Most { inputs: 1, outputs: 2 }).unwrap();
        assert_eq!(Binary::new(&all).unwrap().of(3), [false; 3]);
    }
}
