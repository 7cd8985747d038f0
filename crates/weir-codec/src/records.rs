//! Records of what is known or happened: features that are put, events of a stream. Read as
//! Pydantic would, every error at once; what the values mean is their receiver's to check.

use jiff::Timestamp;
use weir_types::Scalar;

use crate::{
    DecodeLimits, Echo, FieldError, Loc, Rejection,
    full::{Doc, Fault, Kind, NodeId, Report, document, echo_text},
};

/// How records lie in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordShape {
    /// The body is one record, of an entity that is named elsewhere.
    Nameless,
    /// `{"<key>": [record, …]}`
    List(&'static str),
    /// One record, or `{"<key>": [record, …]}`.
    OneOrList(&'static str),
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it is about, a string or a whole number; `None` only where the shape has none.
    pub entity: Option<Scalar>,
    /// When it was so, in microseconds since 1970 (UTC).
    pub event_time_micros: Option<i64>,
    /// A name of its own, against being counted twice.
    pub id: Option<String>,
    /// The values, in the body's order.
    pub values: Vec<(String, Scalar)>,
}

/// The records of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Whether they came as a list.
    pub listed: bool,
    /// The records.
    pub records: Vec<Record>,
}

/// A part of a record, for errors that its receiver finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart<'a> {
    /// The record.
    Whole,
    /// Its entity.
    Entity,
    /// Its event time.
    EventTime,
    /// Its id.
    Id,
    /// One of its values.
    Value(&'a str),
}

/// Decodes bodies into records.
#[derive(Debug, Clone, Copy)]
pub struct RecordDecoder {
    shape: RecordShape,
    has_id: bool,
    limits: DecodeLimits,
}

/// The years 1678 to 2261, which nanoseconds in 64 bits hold too.
const MOST_MICROS: i64 = i64::MAX / 1000;

const VALUES: &str = "values";
const EVENT_TIME: &str = "event_time";
const ENTITY: &str = "entity";
const ID: &str = "id";

impl RecordDecoder {
    /// A decoder of bodies of this shape, whose records may have an id of their own.
    pub fn new(shape: RecordShape, has_id: bool, limits: DecodeLimits) -> Self {
        Self { shape, has_id, limits }
    }

    /// The records of a body.
    ///
    /// # Errors
    /// As [`RowDecoder::decode`](crate::RowDecoder::decode).
    pub fn decode(&self, body: &[u8]) -> Result<Records, Rejection> {
        let doc = document(body, self.limits.max_depth)?;
        let report = Report::of(self.limits, &doc);
        let mut reader = Reader { decoder: self, doc: &doc, report };
        let records = reader.body();
        if reader.report.is_clean() { Ok(records) } else { Err(Rejection::Invalid(reader.report.errors)) }
    }

    /// What a receiver says of a part of record `row` of a body in which records came as a list
    /// or not, in the form of this crate's own errors. `input` is repeated.
    pub fn error(
        &self,
        listed: bool,
        (row, part): (usize, RecordPart<'_>),
        msg: &str,
        input: Option<&Scalar>,
    ) -> FieldError {
        let key = |name: &str| Loc::Key(name.to_owned().into());
        let mut loc = vec![key("body")];
        match self.shape {
            RecordShape::List(list) | RecordShape::OneOrList(list) if listed => {
                loc.extend([key(list), Loc::Index(row)]);
            }
            _ => {}
        }
        match part {
            RecordPart::Whole => {}
            RecordPart::Entity => loc.push(key(ENTITY)),
            RecordPart::EventTime => loc.push(key(EVENT_TIME)),
            RecordPart::Id => loc.push(key(ID)),
            RecordPart::Value(name) => loc.extend([key(VALUES), key(name)]),
        }
        let Fault { kind, msg, ctx } = Fault::value_error(msg);
        let input = match input {
            None => Echo::null(),
            Some(Scalar::String(text)) => echo_text(text, self.limits.max_echo_bytes),
            Some(Scalar::Bool(b)) => Echo::from_json(b.to_string()),
            Some(Scalar::Int(n)) => Echo::from_json(n.to_string()),
            Some(Scalar::Float(x)) => Echo::from_float(*x),
        };
        FieldError { kind, loc, msg, input, ctx }
    }
}

impl RecordShape {
    /// The key of the list, where there may be one.
    fn list(self) -> Option<&'static str> {
        match self {
            RecordShape::Nameless => None,
            RecordShape::List(key) | RecordShape::OneOrList(key) => Some(key),
        }
    }
}

fn entry(doc: &Doc<'_>, object: NodeId, key: &str) -> Option<NodeId> {
    if doc.kind(object) != Kind::Object {
        return None;
    }
    doc.entries(object).find(|&(k, _)| doc.string(k).chars == key).map(|(_, value)| value)
}

struct Reader<'a> {
    decoder: &'a RecordDecoder,
    doc: &'a Doc<'a>,
    report: Report<'a>,
}

const ROOT: NodeId = 0;

impl Reader<'_> {
    fn body(&mut self) -> Records {
        if self.doc.kind(ROOT) != Kind::Object {
            self.report.no_object(ROOT);
            return Records { listed: false, records: Vec::new() };
        }
        let shape = self.decoder.shape;
        match shape.list().map(|key| (key, entry(self.doc, ROOT, key))) {
            Some((key, Some(list))) => Records { listed: true, records: self.list(key, list) },
            Some((key, None)) if matches!(shape, RecordShape::List(_)) => {
                self.report.at(Loc::Key(key.into()), |r| r.missing(ROOT));
                Records { listed: true, records: Vec::new() }
            }
            _ => Records { listed: false, records: self.record(ROOT).into_iter().collect() },
        }
    }

    fn list(&mut self, key: &'static str, list: NodeId) -> Vec<Record> {
        let mut records = Vec::new();
        self.report.loc_enter(Loc::Key(key.into()));
        if self.doc.kind(list) != Kind::List {
            self.report.no_list(list);
        } else if self.doc.len(list) > self.decoder.limits.max_rows {
            let fault = Fault::list_length(true, self.decoder.limits.max_rows, self.doc.len(list));
            self.report.push(fault, list);
        } else {
            let doc = self.doc;
            for (i, item) in doc.items(list).enumerate() {
                if self.report.is_full() {
                    break;
                }
                self.report.loc_enter(Loc::Index(i));
                records.extend(self.record(item));
                self.report.loc_leave();
            }
        }
        self.report.loc_leave();
        self.extras(ROOT, &[key]);
        records
    }

    fn record(&mut self, node: NodeId) -> Option<Record> {
        if self.doc.kind(node) != Kind::Object {
            self.report.no_object(node);
            return None;
        }
        let names_entity = self.decoder.shape != RecordShape::Nameless;
        let entity = if names_entity { self.needed(node, ENTITY, Self::entity) } else { None };
        let event_time_micros = self.optional(node, EVENT_TIME, Self::time);
        let id = if self.decoder.has_id { self.optional(node, ID, Self::text) } else { None };
        // An event need not carry anything but that it happened.
        let values = match self.decoder.has_id {
            true => self.optional(node, VALUES, Self::values),
            false => self.needed(node, VALUES, Self::values),
        };
        let all = [VALUES, EVENT_TIME, ENTITY, ID];
        let known: Vec<&str> = all
            .into_iter()
            .filter(|key| (*key != ENTITY || names_entity) && (*key != ID || self.decoder.has_id))
            .collect();
        self.extras(node, &known);
        Some(Record { entity, event_time_micros, id, values: values.unwrap_or_default() })
    }

    fn needed<T>(
        &mut self,
        record: NodeId,
        key: &'static str,
        read: impl FnOnce(&mut Self, NodeId) -> Option<T>,
    ) -> Option<T> {
        match entry(self.doc, record, key) {
            Some(_) => self.optional(record, key, read),
            None => self.report.at(Loc::Key(key.into()), |r| {
                r.missing(record);
                None
            }),
        }
    }

    fn optional<T>(
        &mut self,
        record: NodeId,
        key: &'static str,
        read: impl FnOnce(&mut Self, NodeId) -> Option<T>,
    ) -> Option<T> {
        let value = entry(self.doc, record, key)?;
        self.report.loc_enter(Loc::Key(key.into()));
        let read = read(self, value);
        self.report.loc_leave();
        read
    }

    fn extras(&mut self, object: NodeId, known: &[&str]) {
        let doc = self.doc;
        for (key, value) in doc.entries(object) {
            let name = doc.string(key).chars;
            if !self.report.is_full() && !known.contains(&&*name) {
                self.report.extra(&name, value);
            }
        }
    }

    fn fault<T>(&mut self, fault: Fault, node: NodeId) -> Option<T> {
        self.report.push(fault, node);
        None
    }

    fn entity(&mut self, node: NodeId) -> Option<Scalar> {
        let number = match self.doc.kind(node) {
            Kind::Int | Kind::Plain | Kind::Escaped => return self.scalar(node),
            // `42.0` is 42, as where a row names its entity.
            Kind::Float => whole(self.doc.raw(node)).map(Scalar::Int),
            _ => None,
        };
        let msg = "Input should be a valid string or integer";
        number.or_else(|| self.fault(Fault::plain("string_type", msg), node))
    }

    fn text(&mut self, node: NodeId) -> Option<String> {
        match self.doc.kind(node) {
            Kind::Plain | Kind::Escaped => match self.scalar(node)? {
                Scalar::String(text) => Some(text),
                _ => None,
            },
            _ => self.fault(Fault::plain("string_type", "Input should be a valid string"), node),
        }
    }

    fn values(&mut self, node: NodeId) -> Option<Vec<(String, Scalar)>> {
        if self.doc.kind(node) != Kind::Object {
            let msg = "Input should be a valid dictionary";
            return self.fault(Fault::plain("dict_type", msg), node);
        }
        let doc = self.doc;
        let mut values = Vec::new();
        for (key, value) in doc.entries(node) {
            if self.report.is_full() {
                break;
            }
            let name = doc.string(key).chars;
            let step = self.report.key_step(&name);
            self.report.loc_enter(step);
            values.extend(self.scalar(value).map(|value| (name.into_owned(), value)));
            self.report.loc_leave();
        }
        Some(values)
    }

    /// A single value of any type.
    fn scalar(&mut self, node: NodeId) -> Option<Scalar> {
        let doc = self.doc;
        match doc.kind(node) {
            Kind::True => Some(Scalar::Bool(true)),
            Kind::False => Some(Scalar::Bool(false)),
            Kind::Int => match doc.raw(node).parse() {
                Ok(number) => Some(Scalar::Int(number)),
                Err(_) => self.fault(too_large(), node),
            },
            Kind::Float => Some(Scalar::Float(doc.raw(node).parse().unwrap_or(f64::NAN))),
            Kind::Plain | Kind::Escaped => {
                let text = doc.string(node);
                match text.lone {
                    false => Some(Scalar::String(text.chars.into_owned())),
                    true => self.fault(lone_surrogate(), node),
                }
            }
            Kind::Nan | Kind::Infinity | Kind::MinusInfinity => {
                self.fault(Fault::plain("finite_number", "Input should be a finite number"), node)
            }
            Kind::Null | Kind::List | Kind::Object => {
                let msg = "Input should be a number, a string or a boolean";
                self.fault(Fault::plain("scalar_type", msg), node)
            }
        }
    }

    /// RFC 3339, or seconds since 1970.
    fn time(&mut self, node: NodeId) -> Option<i64> {
        let micros = match self.doc.kind(node) {
            Kind::Plain | Kind::Escaped => {
                self.doc.string(node).chars.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
            }
            Kind::Int => self.doc.raw(node).parse::<i64>().ok().and_then(|s| s.checked_mul(1_000_000)),
            Kind::Float => self.doc.raw(node).parse::<f64>().ok().and_then(micros),
            _ => None,
        };
        let micros = micros.filter(|micros| (-MOST_MICROS..=MOST_MICROS).contains(micros));
        let msg = "Input should be a valid datetime: as `2026-01-31T12:00:00Z`, or in seconds since 1970";
        micros.or_else(|| self.fault(Fault::plain("datetime_parsing", msg), node))
    }
}

/// The integer that a float is, if it is one of 64 bits.
fn whole(digits: &str) -> Option<i64> {
    let number: f64 = digits.parse().ok()?;
    let fits = number.fract() == 0.0 && number.abs() < 2f64.powi(63);
    fits.then_some(number as i64)
}

/// Rounded, as doubles cannot hold every microsecond.
fn micros(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    (micros.abs() < 9.2e18).then_some(micros as i64)
}

fn too_large() -> Fault {
    Fault::plain("int_parsing_size", "Input should be an integer of 64 bits")
}

fn lone_surrogate() -> Fault {
    let msg = "Input should be a valid string, unable to parse raw data as a unicode string";
    Fault::plain("string_unicode", msg)
}
