//! Routes that ask a model.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use weir_codec::{DecodeLimits, FieldError, Rejection, RowDecoder, write_answer, write_string};
use weir_features::EventTime;
use weir_serving::{Admitted, Executed, Incomplete, ServedVersion};
use weir_types::{Access, Credentials, Deadline, Error, trace::Scope};

use crate::{
    body,
    declare::resolve_word,
    exchange::Origin,
    face::Face,
    head,
    listener::Body,
    metrics::StageMetrics,
    operation::{ResponseTemplate, Word},
    respond,
    server::Shared,
    state::idempotency::{Once, Refuse},
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
    /// What the body left to be looked up and is not known now, told alike.
    NotKnown(Rejection),
    /// Everything else.
    Failed(Error),
}

impl From<Incomplete> for Refusal {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::Rejected(rejection) => Refusal::NotKnown(rejection),
            Incomplete::Failed(error) => Refusal::Failed(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

impl Refuse for Refusal {
    fn last_word(self) -> Result<Response<Body>, Self> {
        match self {
            Refusal::Rejected(_) => Ok(self.response(&HeaderValue::from_static("-"))),
            other => Err(other),
        }
    }

    fn reused(text: &'static str) -> Self {
        let error = FieldError::elsewhere("idempotency_key_reused", ["header", "Idempotency-Key"], text);
        Refusal::NotKnown(Rejection::Invalid(vec![error]))
    }
}

impl Refusal {
    pub(crate) fn response(&self, request_id: &HeaderValue) -> Response<Body> {
        match self {
            Refusal::Failed(error) => respond::error(error, request_id),
            Refusal::Rejected(rejection) | Refusal::NotKnown(rejection) => {
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
    shared: &Arc<Shared>,
    face: &Face,
    handler: &Arc<PredictHandler>,
    (from, head): (Origin<'_>, &Parts),
    incoming: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let chosen = Chosen::of(face, handler, head)?;
    let mut admitted = admit(shared, chosen.handler, (from, head))?;
    admitted.follow(head::sequence(&head.headers).map_err(Error::invalid)?);
    let start = begin(shared, from.trace);
    let bytes = body::read(incoming, &mut admitted, shared.body_limits()).await?;
    record(shared, from.trace, "receive", start);
    let once = Once::of(shared, head, admitted.principal(), &bytes, admitted.deadline())?;
    let asked = Asked { response: chosen.response, json: head::is_json(&head.headers), admitted, bytes };
    match once {
        None => asked.predict(shared, chosen.handler).await,
        // A step moves its sequence on: see there.
        Some(once) if chosen.handler.version.spec.sequence.is_some() => {
            let (shared, handler) = (shared.clone(), chosen.handler.clone());
            once.binding(async move { asked.predict(&shared, &handler).await }).await
        }
        Some(once) => once.run(asked.predict(shared, chosen.handler)).await,
    }
}

/// A request whose body was read.
struct Asked {
    /// Another answer than the route's.
    response: Option<ResponseTemplate>,
    /// Whether the body says that it is JSON.
    json: bool,
    admitted: Admitted,
    bytes: Bytes,
}

impl Asked {
    async fn predict(self, shared: &Shared, handler: &PredictHandler) -> Result<Response<Body>, Refusal> {
        let Self { response, json, admitted, bytes } = self;
        let trace = admitted.trace().cloned();
        let (executed, decoding) = execute(shared, handler, (admitted, trace.as_ref()), json, bytes).await?;
        let template = response.as_ref().unwrap_or(&handler.response);
        let start = begin(shared, trace.as_ref());
        let (response, encoding) = encode(shared, handler, template, &executed);
        record(shared, trace.as_ref(), "encode", start);
        executed.version.executor.stats().face(decoding, encoding);
        Ok(response)
    }
}

/// The version and the outputs that the query asks for.
struct Chosen<'a> {
    handler: &'a Arc<PredictHandler>,
    response: Option<ResponseTemplate>,
}

impl<'a> Chosen<'a> {
    fn of(face: &'a Face, handler: &'a Arc<PredictHandler>, head: &Parts) -> Result<Self, Error> {
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
            Word::Model | Word::Version | Word::FeatureAsof => {
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
    (from, head): (Origin<'_>, &Parts),
) -> Result<Admitted, Error> {
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let access = Access::Invoke(&handler.version.spec.name);
    let grant = shared.authorizer.authorize(Credentials { authorization }, access)?;
    let timeout = head::timeout(&head.headers, shared.request_timeout()).map_err(Error::invalid)?;
    let declared = body::check_head(&head.headers, shared.body_limits())?;
    let deadline = Deadline::after(shared.predictor.clock().now(), timeout);
    let sender = from.sender(grant);
    let mut admitted = shared.predictor.admit(sender, declared, deadline)?;
    admitted.cache(head::cache_control(&head.headers));
    admitted.would_run(&handler.version)?;
    Ok(admitted)
}

/// When a stage began; the clock is read only for what is recorded.
fn begin(shared: &Shared, trace: Option<&Scope>) -> Option<Instant> {
    trace.filter(|scope| scope.is_recorded()).map(|_| shared.predictor.clock().now())
}

/// Records a stage that began at `start` and ends now. Where nothing is recorded that is a branch.
fn record(shared: &Shared, trace: Option<&Scope>, stage: &'static str, start: Option<Instant>) {
    if let Some((scope, start)) = trace.filter(|scope| scope.is_recorded()).zip(start) {
        scope.add(stage, (start, shared.predictor.clock().now()), |_| {});
    }
}

async fn execute(
    shared: &Shared,
    handler: &PredictHandler,
    (admitted, trace): (Admitted, Option<&Scope>),
    json: bool,
    bytes: Bytes,
) -> Result<(Executed, Duration), Refusal> {
    let clock = shared.predictor.clock();
    let start = clock.now();
    let decoded = if json {
        handler.decoder.decode_rows(&bytes)
    } else {
        Err(handler.decoder.reject_media_type(&bytes))
    };
    record(shared, trace, "decode", Some(start));
    let decoded = decoded.map_err(Refusal::Rejected)?;
    let decoding = clock.now() - start;
    handler.stages.decode.observe(decoding);
    let looked_up = handler.stages.features.as_ref().filter(|_| !decoded.lookups.is_empty());
    let looked_up = looked_up.map(|stage| (stage, clock.now()));
    let ready = admitted.route(handler.version.clone()).complete(&handler.decoder, decoded).await?;
    if let Some((stage, start)) = looked_up {
        record(shared, trace, "features", Some(start));
        stage.observe(clock.now() - start);
    }
    let executed = ready.execute().await?;
    handler.stages.executed(executed.took);
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
    respond::cached(executed.cache, response.headers_mut());
    respond::looked_up(executed.feature_asof, response.headers_mut());
    let encoding = clock.now() - start;
    handler.stages.encode.observe(encoding);
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
        Word::FeatureAsof => return write_time(executed.feature_asof, out),
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

fn write_time(time: Option<EventTime>, out: &mut Vec<u8>) -> usize {
    match time {
        Some(time) => write_text(&respond::rfc3339(time), out),
        None => {
            out.extend_from_slice(b"null");
            0
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) -> usize {
    write_string(text, out);
    0
}
