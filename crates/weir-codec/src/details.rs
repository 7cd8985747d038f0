//! `grpc-status-details-bin`: when to try again, in the form that gRPC's clients and servers share. Weir
//! writes it as a server, and reads it as a client.
//!
//! A `google.rpc.Status` with a `google.rpc.RetryInfo` in it
//! (<https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>). Written
//! out here: four messages are not worth a crate, nor a file to generate them from.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, NO_PAD},
    },
};
use prost::Message;

/// The header of a status' details. Binary ones end in `-bin` and are in base64.
pub const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// Written without padding, read with it too, as gRPC has it
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// `google.protobuf.Any`'s name for the message.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Longest message of a status that is repeated here, bytes: clients refuse header lists beyond
/// 8 KiB, and what is longer is no refusal of ours.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    /// Clients check that it is that of `grpc-message`.
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// What a status of this code and message says about trying again after `wait`; nothing where
/// its message is too long to be there twice.
pub fn retry_info(code: i32, message: &str, wait: Duration) -> Option<String> {
    if message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    // Below a thousand million.
    let delay = Delay { seconds, nanos: wait.subsec_nanos() as i32 };
    let info = RetryInfo { retry_delay: Some(delay) };
    let details = vec![Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() }];
    let status = Status { code, message: message.to_owned(), details };
    Some(BASE64.encode(status.encode_to_vec()))
}

/// When a status' details say that the call may be made again; `None` where they say nothing of it, or
/// cannot be read. A wait that is none, or less, is "at once".
pub fn told_retry_info(details: &[u8]) -> Option<Duration> {
    let bytes = BASE64.decode(details).ok()?;
    let details = Status::decode(&*bytes).ok()?.details;
    // Only what is behind the last slash names the message; what is before says who describes it.
    let named = |any: &&Any| any.type_url.rsplit('/').next() == RETRY_INFO.rsplit('/').next();
    let info = RetryInfo::decode(&*details.iter().find(named)?.value).ok()?;
    let Some(Delay { seconds, nanos }) = info.retry_delay else { return Some(Duration::ZERO) };
    let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(whole.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_garbage_says_nothing() {
        for wait in [Duration::ZERO, Duration::from_millis(2_500), Duration::from_secs(86_400)] {
            let value = retry_info(8, "busy", wait).unwrap();
            assert_eq!(told_retry_info(value.as_bytes()), Some(wait));
            let padded = BASE64.decode(value.as_bytes()).unwrap();
            let padded = base64::prelude::BASE64_STANDARD.encode(padded);
            assert_eq!(told_retry_info(padded.as_bytes()), Some(wait));
        }
        let of = |details| {
            let status = Status { code: 8, message: String::new(), details };
            told_retry_info(BASE64.encode(status.encode_to_vec()).as_bytes())
        };
        let any = |type_url: &str, value: Vec<u8>| Any { type_url: type_url.to_owned(), value };
        assert_eq!(of(Vec::new()), None, "details without it");
        assert_eq!(of(vec![any("type.googleapis.com/google.rpc.DebugInfo", Vec::new())]), None);
        assert_eq!(
            of(vec![any("x/y", vec![1]), any("example/google.rpc.RetryInfo", Vec::new())]),
            Some(Duration::ZERO)
        );
        let past = RetryInfo { retry_delay: Some(Delay { seconds: -5, nanos: -1 }) }.encode_to_vec();
        assert_eq!(of(vec![any(RETRY_INFO, past)]), Some(Duration::ZERO));
        assert_eq!(of(vec![any(RETRY_INFO, vec![0xff])]), None);
        for garbage in ["", "!", "AAAA", "////"] {
            assert_eq!(told_retry_info(garbage.as_bytes()), None, "{garbage}");
        }
    }

    /// The bytes are those that Google's protobuf for Python writes for the same.
    #[test]
    fn it_is_what_others_send() {
        let value = retry_info(14, "busy", Duration::from_millis(2_500)).unwrap();
        let mut bytes = vec![0x08, 14, 0x12, 4];
        bytes.extend(b"busy");
        bytes.extend([0x1a, 54, 0x0a, 40]);
        bytes.extend(RETRY_INFO.as_bytes());
        // The delay: 2 seconds, 500,000,000 nanoseconds.
        bytes.extend([0x12, 10, 0x0a, 8, 0x08, 2, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
        assert_eq!(BASE64.decode(value.as_bytes()).unwrap(), bytes);
    }

    #[test]
    fn a_long_message_is_not_sent_twice() {
        assert_eq!(retry_info(14, &"x".repeat(5_000), Duration::ZERO), None);
    }
}
