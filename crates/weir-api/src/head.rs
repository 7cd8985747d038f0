//! What the head of a request says: ids, deadline, caching, whether it is one request at all.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts};

use weir_serving::{CacheControl, CacheMode};
use weir_types::{SequenceId, SequenceStep, unique_wide};

use crate::listener::Ambiguous;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");
const SEQUENCE_ID: HeaderName = HeaderName::from_static("sequence-id");
const SEQUENCE_START: HeaderName = HeaderName::from_static("sequence-start");
const SEQUENCE_END: HeaderName = HeaderName::from_static("sequence-end");
/// What says which step of which sequence a request is.
pub(crate) const SEQUENCE: [HeaderName; 3] = [SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END];
/// Bytes of JSON before V2's tensors; 0 for a body that is one raw tensor.
pub(crate) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// What says how a body is to be read.
pub(crate) const FRAMING: [HeaderName; 2] = [header::CONTENT_ENCODING, JSON_LENGTH];

/// Longest request id taken from a caller.
const MAX_ID_BYTES: usize = 128;

/// The caller's `X-Request-Id` if it is 1 to 128 visible ASCII characters, else one of our
/// own. Anything else a caller sends could forge log lines.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(next_id)
}

/// 128 bits as hex. Unique, not secret.
fn next_id() -> HeaderValue {
    let (number, mut text) = (unique_wide(), [0; 32]);
    for (i, digit) in text.iter_mut().enumerate() {
        let nibble = (number >> (124 - 4 * i)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
}

/// How long the caller waits: `Request-Timeout` in decimal seconds, at most `longest`.
///
/// # Errors
/// What is wrong with the header.
pub(crate) fn timeout(headers: &HeaderMap, longest: Duration) -> Result<Duration, &'static str> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(longest) };
    let seconds = value.to_str().ok().filter(|s| s.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match seconds.and_then(|s| s.parse::<f64>().ok()).and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        Some(timeout) => Ok(timeout.min(longest)),
        None => Err("the header Request-Timeout is decimal seconds, for example 0.25"),
    }
}

/// What the request wants of the model's cache: `Cache-Control` (RFC 9111 section 5.2.1), also as
/// gRPC's metadata. Directives that mean nothing here are ignored, as the RFC has it. Of several,
/// `only-if-cached` wins, which promises that nothing is computed; then `no-store`; and the least `max-age`.
pub(crate) fn cache_control(headers: &HeaderMap) -> CacheControl {
    let mut control = CacheControl::default();
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    for (name, argument) in values.flat_map(|value| directives(value.as_bytes())) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        control.mode = match control.mode {
            Some(CacheMode::OnlyIfCached) => control.mode,
            _ if is("only-if-cached") => Some(CacheMode::OnlyIfCached),
            _ if is("no-store") => Some(CacheMode::NoStore),
            None if is("no-cache") => Some(CacheMode::NoCache),
            mode => mode,
        };
        if is("max-age") {
            let age = delta_seconds(argument);
            control.max_age = Some(control.max_age.map_or(age, |least| least.min(age)));
        }
    }
    control
}

/// Seconds of a directive's argument, quoted or not. As the RFC advises (section 4.2.1), what is
/// none counts as too old already; what is too much to hold counts as for ever (section 1.2.2).
fn delta_seconds(argument: &[u8]) -> Duration {
    let argument = argument.trim_ascii();
    let bare = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument);
    let digits = str::from_utf8(bare).ok().filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    Duration::from_secs(digits.map_or(0, |digits| digits.parse().unwrap_or(u64::MAX)))
}

/// Name and argument (empty without one) of each of a list of directives. A comma inside a quoted
/// argument ends none (RFC 9110 section 5.6.4).
fn directives(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = value.split(move |&b| {
        if escaped {
            escaped = false;
            return false;
        }
        match b {
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
        b == b',' && !quoted
    });
    parts.map(|part| {
        let mut halves = part.splitn(2, |b| *b == b'=');
        let mut half = || halves.next().unwrap_or_default().trim_ascii();
        (half(), half())
    })
}

/// Which step of which sequence the request is: `Sequence-Id`, `Sequence-Start: true`,
/// `Sequence-End: true`.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn sequence(headers: &HeaderMap) -> Result<Option<SequenceStep>, String> {
    let id = only(headers, &SEQUENCE_ID)?.map(|value| value.to_str().map_or("\0", str::trim));
    let id = id.map(SequenceId::text).transpose().map_err(|why| format!("the header Sequence-Id: {why}"))?;
    let (start, end) = (flag(headers, &SEQUENCE_START)?, flag(headers, &SEQUENCE_END)?);
    match id.flatten() {
        Some(id) => Ok(Some(SequenceStep { id, start, end })),
        None if start || end => {
            Err("a sequence starts and ends by its id: send the header Sequence-Id too".to_owned())
        }
        None => Ok(None),
    }
}

/// The one value of a header: of several, which one counts would be anybody's guess.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, String> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err(format!("the request has more than one header {name}")),
    }
}

fn flag(headers: &HeaderMap, name: &HeaderName) -> Result<bool, String> {
    match only(headers, name)?.map(|value| value.as_bytes().trim_ascii()) {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"true") => Ok(true),
        Some(value) if value.eq_ignore_ascii_case(b"false") => Ok(false),
        Some(_) => Err(format!("the header {name} is true or false")),
    }
}

/// What makes a head ambiguous, so that two readers of it could see two requests
/// (RFC 9112 sections 3.2 and 6.3).
pub(crate) fn ambiguity(head: &Parts) -> Option<&'static str> {
    let count = |name| head.headers.get_all(name).iter().count();
    let hosts = count(header::HOST);
    if head.version == Version::HTTP_11 && hosts == 0 {
        return Some("an HTTP/1.1 request needs a Host header");
    }
    if hosts > 1 {
        return Some("the request has more than one Host header");
    }
    let watched = head.extensions.get::<Ambiguous>().is_some();
    if watched || (count(header::TRANSFER_ENCODING) > 0 && count(header::CONTENT_LENGTH) > 0) {
        return Some("the request has both Content-Length and Transfer-Encoding");
    }
    (count(header::TRANSFER_ENCODING) > 1).then_some("the request has more than one Transfer-Encoding header")
}

/// The body's length as declared; `None` for a chunked one.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body's coding, if it has one we do not undo.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(header::CONTENT_ENCODING).filter(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a body of this content type is JSON. Load scripts send none: that is JSON too,
/// as on FastAPI before 0.116.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    kind == "application" && (subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn ids_are_taken_when_harmless_and_made_otherwise() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert_eq!(request_id(&headers(&[("x-request-id", bad)])).len(), 32);
        }
        assert_ne!(next_id(), next_id());
    }

    #[test]
    fn timeouts_are_decimal_seconds_and_bounded() {
        let longest = Duration::from_secs(30);
        let of = |v| timeout(&headers(&[("request-timeout", v)]), longest);
        assert_eq!(of("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(of("1000000"), Ok(longest));
        for bad in ["", "-1", "1e3", "inf", "NaN", "1s", "."] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cache_control_is_read_as_the_rfc_lists_it() {
        use CacheMode::{NoCache, NoStore, OnlyIfCached};
        let of = |value| cache_control(&headers(&[("cache-control", value)]));
        assert_eq!(cache_control(&HeaderMap::new()), CacheControl::default());
        for (value, mode) in [
            ("no-cache", NoCache),
            ("No-Cache", NoCache),
            ("max-age=0, no-cache=\"a, b\"", NoCache),
            ("no-store", NoStore),
            ("no-store, no-cache", NoStore),
            ("no-cache ,\tno-store", NoStore),
            ("only-if-cached", OnlyIfCached),
            ("no-store,only-if-cached,no-cache", OnlyIfCached),
        ] {
            assert_eq!(of(value).mode, Some(mode), "{value}");
        }
        for value in ["", ",,", "min-fresh=5, x-no-store", "ext=\"no-store, \\\", no-cache, max-age=1\""] {
            assert_eq!(of(value), CacheControl::default(), "{value}");
        }
        let no_cache = HeaderValue::from_static("no-cache");
        let mut both = headers(&[("cache-control", "max-age=1")]);
        both.append(header::CACHE_CONTROL, no_cache);
        assert_eq!(cache_control(&both).mode, Some(NoCache), "a list over several fields is one list");
        let odd = HeaderValue::from_bytes(b"\xff, no-store").unwrap();
        assert_eq!(cache_control(&HeaderMap::from_iter([(header::CACHE_CONTROL, odd)])).mode, Some(NoStore));
    }

    #[test]
    fn the_least_max_age_counts_and_a_broken_one_is_none_at_all() {
        let of =
            |value| cache_control(&headers(&[("cache-control", value)])).max_age.map(|age| age.as_secs());
        for (value, age) in [
            ("max-age=60", Some(60)),
            ("Max-Age = \"60\" , max-age=5", Some(5)),
            ("no-store, max-age=0", Some(0)),
            ("max-age", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=99999999999999999999999", Some(u64::MAX)),
            ("s-maxage=1", None),
        ] {
            assert_eq!(of(value), age, "{value}");
        }
    }

    #[test]
    fn a_sequence_is_told_in_three_headers() {
        let of = |pairs: &[(&'static str, &str)]| sequence(&headers(pairs));
        assert_eq!(of(&[]), Ok(None));
        let step = SequenceStep { id: SequenceId::Text("call-7".into()), start: true, end: false };
        assert_eq!(of(&[("sequence-id", "call-7"), ("sequence-start", "True")]), Ok(Some(step)));
        let step = SequenceStep { id: SequenceId::Number(7), start: false, end: true };
        assert_eq!(
            of(&[("sequence-id", "7"), ("sequence-end", "true"), ("sequence-start", "false")]),
            Ok(Some(step))
        );
        for bad in [
            &[("sequence-start", "true")][..],
            &[("sequence-id", "0"), ("sequence-end", "true")],
            &[("sequence-id", "a b")],
            &[("sequence-id", "ä")],
            &[("sequence-id", "7"), ("sequence-start", "yes")],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        for name in [SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END] {
            let mut twice =
                headers(&[("sequence-id", "7"), ("sequence-start", "true"), ("sequence-end", "true")]);
            assert!(sequence(&twice).is_ok());
            let value = twice[&name].clone();
            twice.append(&name, value);
            assert_eq!(sequence(&twice), Err(format!("the request has more than one header {name}")));
        }
    }

    #[test]
    fn ambiguous_heads_are_told() {
        let head = |pairs| {
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.headers = headers(pairs);
            parts
        };
        assert_eq!(ambiguity(&head(&[("host", "a")])), None);
        assert!(ambiguity(&head(&[])).is_some());
        assert!(ambiguity(&head(&[("host", "a"), ("host", "b")])).is_some());
        let both = [("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
        assert!(ambiguity(&head(&both)).is_some());
    }

    #[test]
    fn json_by_any_of_its_names() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(is_json(&headers(&[("content-type", json)])), "{json}");
        }
        assert!(is_json(&HeaderMap::new()));
        for other in ["text/plain", "application/x-www-form-urlencoded", "json", "text/json"] {
            assert!(!is_json(&headers(&[("content-type", other)])), "{other}");
        }
    }
}
