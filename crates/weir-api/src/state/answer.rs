//! Answering requests about features and events.

use std::{collections::BTreeMap, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::timeout_at;
use weir_artifact::scalar_json;
use weir_codec::{
    CodecError, DecodeLimits, FieldError, QueryDecoder, QueryParam, Record, RecordDecoder, RecordPart,
    RecordShape, Records, Rejection,
};
use weir_features::{
    Entity, Event, EventTime, Events, FeatureError, Features, Found, KeyType, MAX_ENTITY_BYTES, MAX_ROWS,
    Part, Row, Taken, View,
};
use weir_serving::Room;
use weir_types::{Access, Credentials, DType, Deadline, EntityKey, Error, ErrorCode, Grant, Rules, Scalar};

use super::{StateEndpoint, idempotency::Once};
use crate::{
    body, head,
    listener::Body,
    predict::Refusal,
    respond::{self, rfc3339},
    server::Shared,
};

/// A compiled route to features or events.
pub(crate) struct StateHandler {
    pub(crate) endpoint: StateEndpoint,
    features: Features,
    entity: Option<QueryDecoder>,
    records: RecordDecoder,
}

impl StateHandler {
    /// # Errors
    /// A sentence; none that an operator could cause.
    pub(crate) fn new(endpoint: StateEndpoint, features: Features) -> Result<Self, CodecError> {
        let limits = DecodeLimits { max_rows: MAX_ROWS, ..DecodeLimits::default() };
        let (shape, has_id) = match &endpoint {
            StateEndpoint::Events(..) => (RecordShape::OneOrList("events"), true),
            StateEndpoint::PutMany(_) => (RecordShape::List("rows"), false),
            _ => (RecordShape::Nameless, false),
        };
        let records = RecordDecoder::new(shape, has_id, limits);
        let entity = match &endpoint {
            StateEndpoint::Get(view) | StateEndpoint::Put(view) | StateEndpoint::Delete(view) => {
                Some(QueryDecoder::path(vec![parameter(view)], limits)?)
            }
            _ => None,
        };
        Ok(Self { endpoint, features, entity, records })
    }

    fn access(&self) -> Access<'_> {
        match &self.endpoint {
            StateEndpoint::Get(view) => Access::ReadFeatures(&view.name),
            StateEndpoint::Put(view) | StateEndpoint::Delete(view) | StateEndpoint::PutMany(view) => {
                Access::WriteFeatures(&view.name)
            }
            StateEndpoint::Events(stream, _) => Access::SendEvents(stream),
        }
    }

    /// The entity that the path names.
    fn entity(&self, parameters: &[(String, String)]) -> Result<Entity, Refusal> {
        let decoder = self.entity.as_ref().ok_or_else(|| Error::internal("the path names no entity"))?;
        let values =
            decoder.decode_pairs(parameters).map_err(|e| Refusal::Rejected(Rejection::Invalid(e)))?;
        let named = values.get("entity").and_then(entity);
        let named = named.ok_or_else(|| Error::internal("the path names no entity"))?;
        match &named {
            // The rule above counts characters, and stores have room for bytes.
            Entity::String(text) if text.len() > MAX_ENTITY_BYTES => Err(too_long()),
            _ => Ok(named),
        }
    }
}

fn parameter(view: &View) -> QueryParam {
    let dtype = match view.key {
        KeyType::String => DType::String,
        KeyType::Int64 => DType::Int64,
    };
    let rules = match view.key {
        KeyType::String => Rules { max_length: Some(EntityKey::MAX_CHARS), ..Rules::default() },
        KeyType::Int64 => Rules::default(),
    };
    QueryParam { name: "entity".into(), dtype, required: true, default: None, rules }
}

fn too_long() -> Refusal {
    const { assert!(MAX_ENTITY_BYTES == 256) }; // as the message has it
    let msg = "An entity's name takes at most 256 bytes of UTF-8";
    let error = FieldError::elsewhere("string_too_long", ["path", "entity"], msg);
    Refusal::Rejected(Rejection::Invalid(vec![error]))
}

fn entity(value: &Scalar) -> Option<Entity> {
    match value {
        Scalar::Int(number) => Some(Entity::Int(*number)),
        Scalar::String(text) => Some(Entity::from(text.as_str())),
        _ => None,
    }
}

/// Answers one request from head to body.
///
/// # Errors
/// In the order in which it is found: access, deadline, size, room, path, body, store.
pub(crate) async fn answer(
    shared: &Shared,
    handler: &StateHandler,
    parameters: &[(String, String)],
    (_, head): (IpAddr, &Parts),
    incoming: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let grant = authorize(shared, handler.access(), &head.headers)?;
    let timeout = head::timeout(&head.headers, shared.request_timeout()).map_err(Error::invalid)?;
    let deadline = Deadline::after(shared.predictor.clock().now(), timeout);
    body::check_head(&head.headers, shared.body_limits())?;
    let mut room = shared.predictor.room();
    let bytes = body::read_into(incoming, &mut room, deadline, shared.body_limits()).await?;
    let call = Call { handler, headers: &head.headers, parameters, deadline };
    match &handler.endpoint {
        StateEndpoint::Get(view) => call.get(view).await,
        StateEndpoint::Put(view) => call.put(view, &bytes).await,
        StateEndpoint::Delete(view) => call.delete(view).await,
        StateEndpoint::PutMany(view) => call.put_many(view, &bytes).await,
        StateEndpoint::Events(stream, _) => {
            let once = Once::of(shared, head, grant.principal(), &bytes, deadline)?;
            call.events(stream, &bytes, once, room).await
        }
    }
}

fn authorize(shared: &Shared, access: Access<'_>, headers: &HeaderMap) -> Result<Grant, Error> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    shared.authorizer.authorize(Credentials { authorization }, access)
}

/// One request that was read.
struct Call<'a> {
    handler: &'a StateHandler,
    headers: &'a HeaderMap,
    parameters: &'a [(String, String)],
    deadline: Deadline,
}

impl Call<'_> {
    async fn get(&self, view: &View) -> Result<Response<Body>, Refusal> {
        let entity = self.handler.entity(self.parameters)?;
        let found = self.within(self.handler.features.get(&view.name, &entity)).await?;
        let found = found.map_err(|e| self.refused(e, None))?;
        if found.iter().all(Option::is_none) {
            let text = format!("nothing is known of this {} in view `{}`", view.entity, view.name);
            return Err(Error::not_found(text).into());
        }
        Ok(respond::json(StatusCode::OK, known(view, &entity, &found).to_string()))
    }

    async fn put(&self, view: &View, bytes: &Bytes) -> Result<Response<Body>, Refusal> {
        let entity = self.handler.entity(self.parameters)?;
        let records = self.decode(bytes)?;
        let rows = records.records.iter().map(|record| row(record, Some(&entity))).collect();
        let written = self.within(self.handler.features.put(&view.name, rows)).await?;
        let written = written.map_err(|e| self.refused(e, Some(&records)))?;
        let one = written.first().map(|w| json!({"written": w.written, "outdated": w.outdated}));
        Ok(respond::json(StatusCode::OK, one.unwrap_or_default().to_string()))
    }

    async fn put_many(&self, view: &View, bytes: &Bytes) -> Result<Response<Body>, Refusal> {
        let records = self.decode(bytes)?;
        let rows = records.records.iter().map(|record| row(record, None)).collect();
        let written = self.within(self.handler.features.put(&view.name, rows)).await?;
        let written = written.map_err(|e| self.refused(e, Some(&records)))?;
        let sum = |count: fn(&weir_features::Written) -> usize| written.iter().map(count).sum::<usize>();
        let body =
            json!({"rows": written.len(), "written": sum(|w| w.written), "outdated": sum(|w| w.outdated)});
        Ok(respond::json(StatusCode::OK, body.to_string()))
    }

    async fn delete(&self, view: &View) -> Result<Response<Body>, Refusal> {
        let entity = [self.handler.entity(self.parameters)?];
        let gone = self.within(self.handler.features.delete(&view.name, &entity)).await?;
        let gone = gone.map_err(|e| self.refused(e, None))?;
        let body = json!({"deleted": gone.first().copied().unwrap_or(false)});
        Ok(respond::json(StatusCode::OK, body.to_string()))
    }

    /// Events under a key are counted to the end even if the client goes away.
    async fn events(
        &self,
        stream: &str,
        bytes: &Bytes,
        once: Option<Once>,
        room: Room,
    ) -> Result<Response<Body>, Refusal> {
        let records = match (self.decode(bytes), once) {
            (Ok(records), None) => return self.ingest(stream, records).await,
            (Err(refusal), None) => return Err(refusal),
            (records, Some(once)) => (records, once),
        };
        let (records, once) = records;
        let (features, stream) = (self.handler.features.clone(), stream.to_owned());
        let decoder = self.handler.records;
        let counted = once.binding(async move {
            let _held = room;
            let records = records?;
            count(&features, &stream, &decoder, records).await
        });
        self.within(counted).await?
    }

    async fn ingest(&self, stream: &str, records: Records) -> Result<Response<Body>, Refusal> {
        self.within(count(&self.handler.features, stream, &self.handler.records, records)).await?
    }

    fn decode(&self, bytes: &Bytes) -> Result<Records, Refusal> {
        if !head::is_json(self.headers) {
            let text = "features and events are JSON: send Content-Type: application/json";
            return Err(Error::new(ErrorCode::UnsupportedMediaType, text).into());
        }
        self.handler.records.decode(bytes).map_err(Refusal::Rejected)
    }

    /// What `work` gives, if it does in time. It may be done all the same, later.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let text =
            "the deadline passed before the state store answered; what was sent may be done all the same";
        let late = |_| Error::new(ErrorCode::DeadlineExceeded, text);
        Ok(timeout_at(self.deadline.instant().into(), work).await.map_err(late)?)
    }

    fn refused(&self, error: FeatureError, records: Option<&Records>) -> Refusal {
        refused(error, &self.handler.records, records)
    }
}

/// Counts events.
async fn count(
    features: &Features,
    stream: &str,
    decoder: &RecordDecoder,
    records: Records,
) -> Result<Response<Body>, Refusal> {
    let events = records.records.iter().map(event).collect();
    let taken = Events::new(features.clone()).ingest(stream, events).await;
    let taken = taken.map_err(|e| refused(e, decoder, Some(&records)))?;
    let mut counts: BTreeMap<Taken, usize> = BTreeMap::new();
    taken.into_iter().for_each(|taken| *counts.entry(taken).or_default() += 1);
    let of = |taken| counts.get(&taken).copied().unwrap_or(0);
    let body = json!({
        "accepted": of(Taken::Accepted),
        "late": of(Taken::Late),
        "duplicates": of(Taken::Duplicate),
    });
    Ok(respond::json(StatusCode::OK, body.to_string()))
}

/// Problems of rows stand where the rows do in the body; all others are errors like any.
fn refused(error: FeatureError, decoder: &RecordDecoder, records: Option<&Records>) -> Refusal {
    let (FeatureError::Invalid(problems), Some(records)) = (&error, records) else {
        if let FeatureError::Store(store) = &error {
            // The answer says it in fewer words; a store that is away is told by the first look-up.
            tracing::debug!("the state store: {store:?}");
        }
        return Refusal::Failed(error.into());
    };
    let told = problems.iter().map(|problem| {
        let record = records.records.get(problem.row);
        let at = record.and_then(time).map(|time| Scalar::String(rfc3339(time)));
        let value = |name: &str| record?.values.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let (part, input) = match &problem.part {
            Part::Whole => (RecordPart::Whole, None),
            Part::Entity => (RecordPart::Entity, record.and_then(|r| r.entity.as_ref())),
            Part::EventTime => (RecordPart::EventTime, at.as_ref()),
            Part::EventId => (RecordPart::Id, None),
            Part::Value(name) => (RecordPart::Value(name), value(name)),
        };
        decoder.error(records.listed, (problem.row, part), &problem.message, input)
    });
    Refusal::Rejected(Rejection::Invalid(told.collect()))
}

fn time(record: &Record) -> Option<EventTime> {
    record.event_time_micros.and_then(EventTime::from_micros)
}

/// The entity of the record, or that of the path.
fn row(record: &Record, named: Option<&Entity>) -> Row {
    let entity = record.entity.as_ref().and_then(entity).or_else(|| named.cloned());
    Row { entity: entity.unwrap_or(Entity::Int(0)), event_time: time(record), values: values(record) }
}

fn event(record: &Record) -> Event {
    Event {
        entity: record.entity.as_ref().and_then(entity).unwrap_or(Entity::Int(0)),
        event_time: time(record),
        id: record.id.as_deref().map(Into::into),
        values: values(record),
    }
}

fn values(record: &Record) -> Vec<(Box<str>, Scalar)> {
    record.values.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect()
}

/// What models would see: values with their event times, defaults without.
fn known(view: &View, entity: &Entity, found: &[Option<Found>]) -> Value {
    let (mut values, mut times) = (Map::new(), Map::new());
    for (feature, found) in view.features.iter().zip(found) {
        let default = || feature.default.as_ref().map_or(Value::Null, scalar_json);
        let value = found.as_ref().map_or_else(default, |found| scalar_json(&found.value));
        values.insert(feature.name.to_string(), value);
        if let Some(found) = found {
            times.insert(feature.name.to_string(), rfc3339(found.event_time).into());
        }
    }
    let entity = match entity {
        Entity::Int(number) => json!(number),
        Entity::String(text) => json!(text),
    };
    json!({"entity": entity, "values": values, "event_times": times})
}
