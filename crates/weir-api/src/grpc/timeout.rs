//! `grpc-timeout`: how long a caller waits.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use weir_types::Error;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Most digits of the number (PROTOCOL-HTTP2).
const MAX_DIGITS: usize = 8;

/// How long the caller waits for the whole call, if it says so.
///
/// # Errors
/// `InvalidArgument` for a header that says something else.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse);
    let wrong = || Error::invalid("the header grpc-timeout is up to 8 digits and a unit: one of H M S m u n");
    parsed.map(Some).ok_or_else(wrong)
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    let good = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let n: u64 = digits.parse().ok().filter(|_| good)?;
    Some(match unit {
        'H' => Duration::from_secs(n * 3600),
        'M' => Duration::from_secs(n * 60),
        'S' => Duration::from_secs(n),
        'm' => Duration::from_millis(n),
        'u' => Duration::from_micros(n),
        'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, want) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Some(want), "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "999999999S", "1 S", "1ä"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
