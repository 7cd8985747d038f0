//! What was recorded, as OTLP has it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
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
use weir_types::trace::{Recorded, Span, SpanKind, Value};

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

/// Who sends: `service` and what `more` says, `name=value` with commas between, values
/// percent-encoded (OTEL_RESOURCE_ATTRIBUTES). What says the service's name there counts less than
/// `service`.
///
/// # Errors
/// A pair that is none.
pub(super) fn resource(service: &str, more: &str) -> anyhow::Result<Resource> {
    let instance = format!("{:016x}", instance());
    let mut attributes = vec![
        pair("service.name", text(service)),
        pair("service.version", text(env!("CARGO_PKG_VERSION"))),
        pair("telemetry.sdk.name", text("weir")),
        pair("telemetry.sdk.language", text("rust")),
        pair("telemetry.sdk.version", text(env!("CARGO_PKG_VERSION"))),
    ];
    let mut named = false;
    for said in more.split(',').map(str::trim).filter(|said| !said.is_empty()) {
        let Some((name, value)) = said.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            bail!("`telemetry.resource`: `{said}` is not of the form name=value");
        };
        named |= name.trim() == "service.instance.id";
        if name.trim() != "service.name" {
            attributes.push(pair(name.trim(), text(decoded(value.trim()))));
        }
    }
    if !named {
        attributes.push(pair("service.instance.id", text(instance)));
    }
    Ok(Resource { attributes, ..Resource::default() })
}

/// Percent-encoding undone; a `+` is one.
fn decoded(value: &str) -> String {
    let plus = value.replace('+', "%2B");
    form_urlencoded::parse(format!("v={plus}").as_bytes())
        .next()
        .map_or_else(|| value.to_owned(), |(_, value)| value.into_owned())
}

/// Tells this process from others of the service: at random, for the process's life.
fn instance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
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
            let pairs = attributes.into_iter().map(|pair| {
                let Some(any_value::Value::StringValue(value)) = pair.value.and_then(|v| v.value) else {
                    panic!("{}", pair.key)
                };
                (pair.key, value)
            });
            pairs.collect::<std::collections::BTreeMap<_, _>>()
        };
        let plain = of("weir", "");
        assert_eq!(plain["service.name"], "weir");
        assert_eq!(plain["service.instance.id"].len(), 16);
        let pod = of("houses", "k8s.pod.name=weir-0, service.instance.id=a%2Cb+c,service.name=other");
        assert_eq!((&*pod["service.name"], &*pod["k8s.pod.name"]), ("houses", "weir-0"));
        assert_eq!(pod["service.instance.id"], "a,b+c");
        for bad in ["x", "=1", "a=1,b"] {
            assert!(resource("weir", bad).is_err(), "{bad}");
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
