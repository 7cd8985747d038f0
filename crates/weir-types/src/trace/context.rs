//! W3C Trace Context (<https://www.w3.org/TR/trace-context-2/>).

use std::{fmt, num};

/// Names a trace: 128 bits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(num::NonZeroU128);

/// Names a span within its trace: 64 bits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(num::NonZeroU64);

impl TraceId {
    /// The id of these bits; `None` for zero, which names nothing.
    pub fn new(bits: u128) -> Option<Self> {
        num::NonZeroU128::new(bits).map(Self)
    }

    /// As OTLP sends it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The 56 bits that are random where the trace's origin says so (level 2, section 3.2.2.5.1).
    pub fn randomness(self) -> u64 {
        self.0.get() as u64 & ((1 << 56) - 1)
    }
}

impl SpanId {
    /// The id of these bits; `None` for zero, which names nothing.
    pub fn new(bits: u64) -> Option<Self> {
        num::NonZeroU64::new(bits).map(Self)
    }

    /// As OTLP sends it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in a trace: what `traceparent` says. `Display` writes it as that header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that what comes next is part of.
    pub span: SpanId,
    flags: u8,
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl TraceContext {
    /// The place of `span`; the trace id was made at random.
    pub(super) fn new(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self { trace, span, flags: RANDOM | u8::from(sampled) }
    }

    /// Reads a `traceparent`; `None` for what is none. What a later version adds is left aside.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(LENGTH)?;
        let [v0, v1, b'-', ids @ ..] = known else { return None };
        let version = hex(&[*v0, *v1])?;
        let ends = rest.is_empty() || (version != 0 && rest.first() == Some(&b'-'));
        if version == 0xff || !ends {
            return None;
        }
        let (trace, rest) = ids.split_at_checked(32)?;
        let (span, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let flags = hex(rest.strip_prefix(b"-")?)?;
        Some(Self {
            trace: TraceId::new(hex(trace)?)?,
            // Sixteen digits fit.
            span: SpanId::new(hex(span)? as u64)?,
            flags: flags as u8 & (SAMPLED | RANDOM),
        })
    }

    /// Whether the trace is recorded, as far as its origin knows.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Another span of the same trace.
    pub(super) fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Most bytes of a `tracestate` that is passed on: what the specification asks for at least.
const MAX_STATE_BYTES: usize = 512;
/// Most members of one.
const MAX_STATE_MEMBERS: usize = 32;

/// A `tracestate` to be passed on as it came; its fields joined, where there are several. `None`
/// where there is none, or one that is longer than anybody must keep or could break a header.
pub fn trace_state<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut joined = String::new();
    for field in fields.map(<[u8]>::trim_ascii).filter(|field| !field.is_empty()) {
        let text = str::from_utf8(field).ok().filter(|t| t.bytes().all(|b| (b' '..=b'~').contains(&b)))?;
        if joined.len() + text.len() >= MAX_STATE_BYTES {
            return None;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(text);
    }
    let members = joined.split(',').count();
    (!joined.is_empty() && members <= MAX_STATE_MEMBERS).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_the_standard_says() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span.to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), GOOD);
        let plain = TraceContext::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap();
        assert!(!plain.is_sampled());
        let odd = TraceContext::parse(GOOD.replace("-01", "-ff").as_bytes()).unwrap();
        assert!(odd.to_string().ends_with("-03"), "flags that nobody knows are not passed on");
        let later = GOOD.replacen("00", "01", 1);
        assert_eq!(TraceContext::parse(later.as_bytes()), Some(context));
        assert_eq!(TraceContext::parse(format!("{later}-more").as_bytes()), Some(context));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zero = |from: &str| GOOD.replace(from, &"0".repeat(from.len()));
        for bad in [
            String::new(),
            "garbage".into(),
            GOOD[..54].into(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-extra"),
            format!("{GOOD} "),
            GOOD.to_uppercase(),
            zero("4bf92f3577b34da6a3ce929d0e0e4736"),
            zero("00f067aa0ba902b7"),
            GOOD.replace('-', "_"),
            GOOD.replacen("00", "01", 1) + "x",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_tracestate_is_kept_whole_or_not_at_all() {
        let of = |fields: &[&str]| trace_state(fields.iter().map(|field| field.as_bytes()));
        assert_eq!(of(&["a=1,b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(of(&["a=1", " b=2 ", ""]).as_deref(), Some("a=1,b=2"));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[""]), None);
        assert_eq!(of(&["a=\u{e4}"]), None);
        assert_eq!(of(&["a=1\r\nx: y"]), None);
        assert_eq!(of(&[&format!("a={}", "x".repeat(512))]), None);
        assert_eq!(of(&[&["a=1"; 33].join(",")]), None);
    }
}
