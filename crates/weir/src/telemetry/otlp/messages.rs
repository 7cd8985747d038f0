//! What was recorded, as OTLP has it.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as Message, SpanFlags, Status,
        span::{Link as LinkMessage, SpanKind as Kind},
        status::StatusCode,
    },
};
use weir_types::{
    trace::{Recorded, Span, SpanKind, Value},
    unique,
};

/// Of the conventions that attributes are named by.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
/// The trace flags of a span that was sampled (W3C).
const SAMPLED: u32 = 1;

/// A name and a value.
pub(super) fn pair(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: impl Into<String>) -> any_value::Value {
    any_value::Value::StringValue(value.into())
}

/// Who sends: `service` where it is said, then what `more` says, then what is known anyway; each name
/// once.
///
/// # Errors
/// As [`said`].
pub(super) fn resource(service: Option<&str>, more: &str) -> Result<Resource, String> {
    let mut all = BTreeMap::from([
        ("service.name".to_owned(), "weir".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        // Tells this process from others of the service.
        ("service.instance.id".to_owned(), format!("{:016x}", unique())),
        ("telemetry.sdk.name".to_owned(), "weir".to_owned()),
        ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
        ("telemetry.sdk.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    all.extend(said(more)?);
    let service = service.filter(|service| !service.is_empty());
    all.extend(service.map(|service| ("service.name".to_owned(), service.to_owned())));
    let attributes = all.into_iter().map(|(name, value)| pair(&name, text(value))).collect();
    Ok(Resource { attributes, ..Resource::default() })
}

/// What an operator says of the process: `name=value` with commas between, values percent-encoded
/// (OTEL_RESOURCE_ATTRIBUTES).
///
/// # Errors
/// A pair that is none.
pub(crate) fn said(more: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = more.split(',').map(str::trim).filter(|said| !said.is_empty());
    let read = |said: &str| match said.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), decoded(value.trim()))),
        _ => Err(format!("{said:?} is not of the form name=value")),
    };
    pairs.map(read).collect()
}

/// Percent-encoding undone, as W3C Baggage has it: `+` and `&` are themselves.
pub(super) fn decoded(value: &str) -> String {
    let form = value.replace('+', "%2B").replace('&', "%26");
    form_urlencoded::parse(format!("v={form}").as_bytes())
        .next()
        .map_or_else(|| value.to_owned(), |(_, value)| value.into_owned())
}

/// A message of these spans.
pub(super) fn request(resource: &Resource, spans: Vec<Message>) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope = InstrumentationScope { name: "weir".into(), version, ..InstrumentationScope::default() };
    let spans = ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.into() };
    let spans = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![spans],
        schema_url: SCHEMA.into(),
    };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// The spans of one request.
pub(super) fn spans(recorded: Recorded) -> Vec<Message> {
    let Recorded { trace, state, remote, spans, at, .. } = recorded;
    let (trace, state) = (trace.to_bytes(), state.as_deref().unwrap_or_default());
    let first = spans.first().map(|span| span.id);
    let message = |span: Span| {
        let is_remote = remote && first == Some(span.id);
        let known = SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32;
        Message {
            trace_id: trace.to_vec(),
            span_id: span.id.to_bytes().to_vec(),
            trace_state: state.to_owned(),
            parent_span_id: span.parent.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
            flags: known | if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 },
            kind: kind(span.kind).into(),
            start_time_unix_nano: nanos(span.start, at),
            end_time_unix_nano: nanos(span.end, at),
            attributes: span.attributes.into_iter().map(|(name, said)| pair(name, value(said))).collect(),
            links: span.links.iter().map(|link| link_to(link.0)).collect(),
            status: span.failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
            name: span.name.into_owned(),
            ..Message::default()
        }
    };
    spans.into_iter().map(message).collect()
}

fn kind(kind: SpanKind) -> Kind {
    match kind {
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Internal => Kind::Internal,
    }
}

fn value(value: Value) -> any_value::Value {
    match value {
        Value::Text(said) => text(said),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Double(number) => any_value::Value::DoubleValue(number),
        Value::Bool(yes) => any_value::Value::BoolValue(yes),
    }
}

fn link_to(context: weir_types::trace::TraceContext) -> LinkMessage {
    LinkMessage {
        trace_id: context.trace.to_bytes().to_vec(),
        span_id: context.span.to_bytes().to_vec(),
        flags: u32::from(context.is_sampled()),
        ..LinkMessage::default()
    }
}

/// Calendar time of a moment, by one that is known on both clocks. Nanoseconds fit until 2554.
fn nanos(moment: Instant, (known, wall): (Instant, SystemTime)) -> u64 {
    let at = match known.checked_duration_since(moment) {
        Some(before) => wall.checked_sub(before),
        None => wall.checked_add(moment.saturating_duration_since(known)),
    };
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_resource_says_who_sends() {
        let of = |service, more| {
            let attributes = resource(service, more).unwrap().attributes;
            let number = attributes.len();
            let pairs = attributes.into_iter().map(|pair| {
                let Some(any_value::Value::StringValue(value)) = pair.value.and_then(|v| v.value) else {
                    panic!("{}", pair.key)
                };
                (pair.key, value)
            });
            let pairs = pairs.collect::<BTreeMap<_, _>>();
            assert_eq!(pairs.len(), number, "each name once");
            pairs
        };
        let plain = of(None, "");
        assert_eq!(plain["service.name"], "weir");
        assert_eq!(plain["service.instance.id"].len(), 16);
        let more = "k8s.pod.name=weir-0, service.instance.id=a%2Cb+c&d,service.name=other,service.version=7,\
                    telemetry.sdk.name=x";
        let pod = of(Some("houses"), more);
        assert_eq!((&*pod["service.name"], &*pod["k8s.pod.name"]), ("houses", "weir-0"));
        assert_eq!((&*pod["service.instance.id"], &*pod["service.version"]), ("a,b+c&d", "7"));
        for unset in [None, Some("")] {
            assert_eq!(of(unset, more)["service.name"], "other", "nothing else names it");
        }
        for bad in ["x", "=1", "a=1,b"] {
            assert!(resource(None, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_become_calendar_time_on_both_sides() {
        let (known, wall) =
            (Instant::now() + Duration::from_secs(60), UNIX_EPOCH + Duration::from_secs(1_000));
        let of = |moment| nanos(moment, (known, wall));
        assert_eq!(of(known), 1_000_000_000_000);
        assert_eq!(of(known - Duration::from_micros(7)), 999_999_993_000);
        assert_eq!(of(known + Duration::from_nanos(5)), 1_000_000_000_005);
    }
}
