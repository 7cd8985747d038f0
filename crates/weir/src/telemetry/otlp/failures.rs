//! Which failures may pass: the specification's lists, whole
//! (<https://opentelemetry.io/docs/specs/otlp/#failures>, …/#failures-1 for HTTP).

use std::time::{Duration, SystemTime};

use weir_clients::{Answer, CallError, GrpcError, GrpcStatus, plain};

/// Whether the same message may be taken later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
    /// Where the receiver says when: it is for ever otherwise.
    WhenTold,
}

/// gRPC's statuses, each at its number.
const GRPC: [(&str, Again); 17] = [
    ("OK", Again::No),
    ("CANCELLED", Again::Yes),
    ("UNKNOWN", Again::No),
    ("INVALID_ARGUMENT", Again::No),
    ("DEADLINE_EXCEEDED", Again::Yes),
    ("NOT_FOUND", Again::No),
    ("ALREADY_EXISTS", Again::No),
    ("PERMISSION_DENIED", Again::No),
    ("RESOURCE_EXHAUSTED", Again::WhenTold),
    ("FAILED_PRECONDITION", Again::No),
    ("ABORTED", Again::Yes),
    ("OUT_OF_RANGE", Again::Yes),
    ("UNIMPLEMENTED", Again::No),
    ("INTERNAL", Again::No),
    ("UNAVAILABLE", Again::Yes),
    ("DATA_LOSS", Again::Yes),
    ("UNAUTHENTICATED", Again::No),
];

/// HTTP's statuses that may pass; no other may.
const HTTP: [u16; 4] = [429, 502, 503, 504];

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// In words for the log, bounded.
    pub(crate) text: String,
    /// Whether the same message may be taken later.
    pub(crate) may_pass: bool,
    /// When the receiver wants it again, where it said so.
    pub(crate) retry_after: Option<Duration>,
}

impl Problem {
    /// There was no answer, or none that can be read.
    pub(super) fn of_call(error: &CallError) -> Self {
        let (may_pass, retry_after) = match error {
            CallError::Connection(_) | CallError::TimedOut => (true, None),
            // Certificates are renewed, and a collector gets its right one.
            CallError::Untrusted(_) => (true, None),
            // A proxy's word where gRPC was awaited: the four that may pass are UNAVAILABLE there
            // (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
            CallError::Overloaded { status, retry_after, .. } => (HTTP.contains(status), *retry_after),
            CallError::Status { status, .. } => (HTTP.contains(status), None),
            // The message may have been taken; sent again, it would be there twice.
            _ => (false, None),
        };
        let hint = match error {
            CallError::Untrusted(_) => {
                "; an authority of your own is named in `telemetry.ca_file` (OTEL_EXPORTER_OTLP_CERTIFICATE)"
            }
            _ => "",
        };
        Self { text: format!("{}{hint}", plain(&error.to_string())), may_pass, retry_after }
    }

    /// What an answer over HTTP says that came at `now`; `None` where the message was taken.
    pub(super) fn of_http(answer: &Answer, now: SystemTime) -> Option<Self> {
        let may_pass = HTTP.contains(&answer.status);
        let text = format!("it answered {}: {}", answer.status, answer.said());
        (!answer.is_success()).then(|| Self { text, may_pass, retry_after: answer.retry_after(now) })
    }

    /// Why a call of gRPC failed.
    pub(super) fn of_grpc(error: &GrpcError) -> Self {
        let GrpcStatus { code, text, retry_after, details } = match error {
            GrpcError::Status(status) => status,
            GrpcError::Call(error) => return Self::of_call(error),
        };
        let retry_info = details.as_ref().and_then(|details| weir_codec::told_retry_info(details.as_bytes()));
        let known = usize::try_from(*code).ok().and_then(|code| GRPC.get(code).copied());
        let (name, again) = known.unwrap_or(("an unknown status", Again::No));
        let may_pass = match again {
            Again::No => false,
            Again::Yes => true,
            Again::WhenTold => retry_info.is_some(),
        };
        Self {
            text: format!("it answered {name} ({code}): {text}"),
            may_pass,
            retry_after: retry_info.or(*retry_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(3));

    fn grpc(code: u32, retry_info: Option<Duration>) -> Problem {
        let details = retry_info.and_then(|wait| weir_codec::retry_info(0, "words", wait));
        let details = details.map(|details| HeaderValue::try_from(details).unwrap());
        let status = GrpcStatus { code, text: "words".into(), retry_after: None, details };
        Problem::of_grpc(&GrpcError::Status(status))
    }

    /// The numbers as the specification lists them, apart from the table.
    #[test]
    fn of_grpcs_statuses_those_pass_that_the_specification_lists() {
        for code in 0..=100 {
            let listed = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(grpc(code, None).may_pass, listed, "{code}");
            let told = grpc(code, SOON);
            assert_eq!((told.may_pass, told.retry_after), (listed || code == 8, SOON), "{code}");
        }
        assert_eq!(grpc(15, None).text, "it answered DATA_LOSS (15): words");
        assert_eq!(grpc(u32::MAX, None).text, "it answered an unknown status (4294967295): words");
    }

    #[test]
    fn a_header_says_when_but_not_that_an_exhausted_receiver_recovers() {
        let of = |code| {
            let status = GrpcStatus { code, text: String::new(), retry_after: SOON, details: None };
            Problem::of_grpc(&GrpcError::Status(status))
        };
        assert!(!of(8).may_pass, "RESOURCE_EXHAUSTED wants RetryInfo");
        assert_eq!((of(14).may_pass, of(14).retry_after), (true, SOON));
    }

    #[test]
    fn of_https_statuses_those_pass_that_the_specification_lists() {
        let now = SystemTime::UNIX_EPOCH;
        for status in 100..600 {
            for wait in [None, SOON] {
                let value = wait.map(|wait| HeaderValue::from(wait.as_secs()));
                let headers = value.map(|value| (header::RETRY_AFTER, value)).into_iter().collect();
                let (body, trailers) = (Bytes::new(), HeaderMap::new());
                let problem = Problem::of_http(&Answer { status, headers, body, trailers }, now);
                let expected =
                    (!(200..300).contains(&status)).then(|| ([429, 502, 503, 504].contains(&status), wait));
                assert_eq!(
                    problem.map(|problem| (problem.may_pass, problem.retry_after)),
                    expected,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn without_an_answer_it_may_pass_and_with_one_that_cannot_be_read_it_was_taken() {
        let of = |error: CallError| {
            let (http, grpc) = (Problem::of_call(&error), Problem::of_grpc(&GrpcError::Call(error)));
            assert_eq!(http, grpc);
            http.may_pass
        };
        assert!(of(CallError::TimedOut) && of(CallError::Connection("reset".into())));
        assert!(of(CallError::Untrusted("UnknownIssuer".into())), "certificates are renewed");
        assert!(!of(CallError::Broken("no status".into())));
        assert!(!of(CallError::Unsendable("too large".into())));
        let status = |status| CallError::Status { status, text: String::new() };
        assert!(of(status(502)) && of(status(504)) && !of(status(500)) && !of(status(404)));
        let full = |status| CallError::Overloaded { status, retry_after: SOON, text: String::new() };
        assert!(of(full(429)) && of(full(503)));
        assert_eq!(Problem::of_call(&full(503)).retry_after, SOON);
    }
}
