//! Routes that ask a model.

use std::{borrow::Cow, collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use weir_codec::{DecodeLimits, Rejection, RowDecoder, write_answer, write_string};
use weir_serving::{Admitted, Executed, Sender, ServedVersion};
use weir_types::{Access, Credentials, Deadline, Error};

use crate::{
    body,
    declare::resolve_word,
    face::Face,
    head,
    listener::Body,
    metrics::StageMetrics,
    operation::{ResponseTemplate, Word},
    respond,
    server::Shared,
};

/// A compiled route to one version of a model.
pub(crate) struct PredictHandler {
    pub(crate) version: Arc<ServedVersion>,
    pub(crate) decoder: RowDecoder,
    pub(crate) response: ResponseTemplate,
    pub(crate) selectable: bool,
    pub(crate) stages: StageMetrics,
    pub(crate) named: HeaderValue,
}

/// Why a prediction was not answered.
pub(crate) enum Refusal {
    /// The body's own mistakes, told as FastAPI tells them.
    Rejected(Rejection),
    /// Everything else.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

impl Refusal {
    pub(crate) fn response(&self, request_id: &HeaderValue) -> Response<Body> {
        match self {
            Refusal::Failed(error) => respond::error(error, request_id),
            Refusal::Rejected(rejection) => {
                let mut body = Vec::new();
                rejection.write_body(&mut body);
                let status =
                    StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
                respond::json(status, body)
            }
        }
    }
}

/// The decoder's limits for one version.
pub(crate) fn decode_limits(version: &ServedVersion) -> DecodeLimits {
    DecodeLimits { max_rows: version.spec.limits.max_rows, ..DecodeLimits::default() }
}

/// Answers one request from head to body.
///
/// # Errors
/// Whatever stands in the way, in the order in which it is found: access, deadline, size,
/// room, the body's content, the model.
pub(crate) async fn answer(
    shared: &Shared,
    face: &Face,
    handler: &PredictHandler,
    (peer, head): (IpAddr, &Parts),
    incoming: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let chosen = Chosen::of(face, handler, head)?;
    let handler = chosen.handler;
    let mut admitted = admit(shared, handler, (peer, head))?;
    admitted.follow(head::sequence(&head.headers).map_err(Error::invalid)?);
    let bytes = body::read(incoming, &mut admitted, shared.body_limits).await?;
    let (executed, decoding) = execute(shared, handler, admitted, head, bytes).await?;
    let template = chosen.response.as_ref().unwrap_or(&handler.response);
    let (response, encoding) = encode(shared, handler, template, &executed);
    executed.version.executor.stats().face(decoding, encoding);
    Ok(response)
}

/// The version and the outputs that the query asks for.
struct Chosen<'a> {
    handler: &'a PredictHandler,
    response: Option<ResponseTemplate>,
}

impl<'a> Chosen<'a> {
    fn of(face: &'a Face, handler: &'a PredictHandler, head: &Parts) -> Result<Self, Error> {
        let Some(query) = head.uri.query().filter(|_| handler.selectable) else {
            return Ok(Self { handler, response: None });
        };
        let spec = &handler.version.spec;
        let handler = match last(query, "version") {
            Some(version) => face.version_handler(spec, &version)?,
            None => handler,
        };
        let response = last(query, "outputs").map(|words| outputs(&words, handler)).transpose()?;
        Ok(Self { handler, response })
    }
}

/// The last value of `name` in a query string.
fn last<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name).map(|(_, value)| value).last()
}

/// `?outputs=label,score`: each row's answer is an object of these words, each once.
fn outputs(words: &str, handler: &PredictHandler) -> Result<ResponseTemplate, Error> {
    let mut seen = HashSet::new();
    let record: Result<Vec<_>, String> = words
        .split(',')
        .map(str::trim)
        .filter(|word| seen.insert(*word))
        .map(|word| match resolve_word(word, &handler.version.spec)? {
            Word::Answer(answer) => Ok((word.to_owned(), answer)),
            Word::Model | Word::Version => {
                Err(format!("`{word}` is not one a row: leave it out of `outputs`"))
            }
        })
        .collect();
    let record =
        record.map_err(|problem| Error::invalid(format!("in the query parameter `outputs`: {problem}")))?;
    let answer = weir_types::Answer::Record(record);
    Ok(ResponseTemplate { entries: vec![("predictions".into(), Word::Answer(answer))], many: true })
}

fn admit(
    shared: &Shared,
    handler: &PredictHandler,
    (peer, head): (IpAddr, &Parts),
) -> Result<Admitted, Error> {
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let access = Access::Invoke(&handler.version.spec.name);
    let grant = shared.authorizer.authorize(Credentials { authorization }, access)?;
    let timeout = head::timeout(&head.headers, shared.request_timeout).map_err(Error::invalid)?;
    let declared = body::check_head(&head.headers, shared.body_limits)?;
    let deadline = Deadline::after(shared.predictor.clock().now(), timeout);
    let sender = Sender { grant, peer: Some(peer) };
    let admitted = shared.predictor.admit(sender, declared, deadline)?;
    admitted.would_run(&handler.version)?;
    Ok(admitted)
}

async fn execute(
    shared: &Shared,
    handler: &PredictHandler,
    admitted: Admitted,
    head: &Parts,
    bytes: Bytes,
) -> Result<(Executed, Duration), Refusal> {
    let clock = shared.predictor.clock();
    let start = clock.now();
    let decoded = if head::is_json(&head.headers) {
        handler.decoder.decode(&bytes)
    } else {
        Err(handler.decoder.reject_media_type(&bytes))
    };
    let batch = decoded.map_err(Refusal::Rejected)?;
    let decoding = clock.now() - start;
    handler.stages.decode.observe(decoding.as_secs_f64());
    let executed = admitted.route(handler.version.clone()).batch(batch)?.execute().await?;
    handler.stages.queue.observe(executed.queued.as_secs_f64());
    handler.stages.engine.observe(executed.ran.as_secs_f64());
    Ok((executed, decoding))
}

fn encode(
    shared: &Shared,
    handler: &PredictHandler,
    template: &ResponseTemplate,
    executed: &Executed,
) -> (Response<Body>, Duration) {
    let clock = shared.predictor.clock();
    let start = clock.now();
    let mut body = Vec::with_capacity(64 + 32 * executed.outputs.rows);
    let nulls = write_body(template, executed, &mut body);
    let mut response = respond::json(StatusCode::OK, body);
    response.headers_mut().insert(respond::MODEL, handler.named.clone());
    if nulls > 0 {
        response.headers_mut().insert(respond::NON_FINITE, nulls.into());
    }
    let encoding = clock.now() - start;
    handler.stages.encode.observe(encoding.as_secs_f64());
    (response, encoding)
}

/// Writes the response's object; returns how many numbers were not finite.
fn write_body(template: &ResponseTemplate, executed: &Executed, out: &mut Vec<u8>) -> usize {
    let mut nulls = 0;
    for (i, (key, word)) in template.entries.iter().enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        write_string(key, out);
        out.push(b':');
        nulls += write_word(word, template.many, executed, out);
    }
    out.push(b'}');
    nulls
}

fn write_word(word: &Word, many: bool, executed: &Executed, out: &mut Vec<u8>) -> usize {
    let answer = match word {
        Word::Model => return write_text(executed.version.spec.name.as_str(), out),
        Word::Version => return write_text(executed.version.spec.version.as_str(), out),
        Word::Answer(answer) => answer,
    };
    if !many {
        return write_answer(answer, &executed.outputs, 0, out);
    }
    let mut nulls = 0;
    out.push(b'[');
    for row in 0..executed.outputs.rows {
        if row > 0 {
            out.push(b',');
        }
        nulls += write_answer(answer, &executed.outputs, row, out);
    }
    out.push(b']');
    nulls
}

fn write_text(text: &str, out: &mut Vec<u8>) -> usize {
    write_string(text, out);
    0
}
