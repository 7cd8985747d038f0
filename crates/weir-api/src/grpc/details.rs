//! `grpc-status-details-bin`: when to try again, in the form that gRPC's clients read.
//!
//! A `google.rpc.Status` with a `google.rpc.RetryInfo` in it
//! (<https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto>). Written
//! out here: four messages are not worth a crate, nor a file to generate them from.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderName, HeaderValue};
use prost::Message;

/// The header. Binary ones end in `-bin` and are in base64.
pub(super) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

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
pub(super) fn retry_info(code: i32, message: &str, wait: Duration) -> Option<HeaderValue> {
    if message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    // Below a thousand million.
    let delay = Delay { seconds, nanos: wait.subsec_nanos() as i32 };
    let info = RetryInfo { retry_delay: Some(delay) };
    let details = vec![Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() }];
    let status = Status { code, message: message.to_owned(), details };
    HeaderValue::from_str(&STANDARD_NO_PAD.encode(status.encode_to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(STANDARD_NO_PAD.decode(value.as_bytes()).unwrap(), bytes);
    }

    #[test]
    fn a_long_message_is_not_sent_twice() {
        assert_eq!(retry_info(14, &"x".repeat(5_000), Duration::ZERO), None);
    }
}
