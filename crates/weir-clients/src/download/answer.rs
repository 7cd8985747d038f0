//! What a server answers to a download.

use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::{Came, DownloadError, DownloadOptions, Sink};
use crate::{CallError, plain, pool};

pub(super) type Response = http::Response<Incoming>;

/// Longest part of an error's text that is kept, bytes.
const MAX_ERROR_BYTES: usize = 4 * 1024;

/// Where it sends us, if it does.
///
/// # Errors
/// A place that cannot be read, or that is less safe than the one before.
pub(super) fn redirect(from: &Uri, response: &Response) -> Result<Option<Uri>, DownloadError> {
    let refuse = |text: &str| Err(DownloadError::Refused(format!("it redirects {text}")));
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(to) = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()) else {
        return refuse("nowhere");
    };
    let next = match (to.starts_with('/') && !to.starts_with("//"), from.scheme_str(), from.authority()) {
        (true, Some(scheme), Some(authority)) => format!("{scheme}://{authority}{to}").parse::<Uri>(),
        _ => to.parse(),
    };
    let Ok(next) = next else { return refuse("to what is no address") };
    match (from.scheme_str(), next.scheme_str(), next.host()) {
        (Some("https"), Some("http"), _) => refuse("from https to http"),
        (_, Some("http" | "https"), Some(_)) => Ok(Some(next)),
        _ => refuse("to what is no whole address"),
    }
}

/// Reads the answer into `sink`, whether it is the whole file or its rest.
pub(super) async fn receive(
    response: Response,
    sink: &mut (dyn Sink + Send),
    options: &DownloadOptions,
) -> Result<Came, DownloadError> {
    let (head, mut body) = response.into_parts();
    match head.status {
        StatusCode::OK => sink.restart().map_err(DownloadError::Write)?,
        StatusCode::PARTIAL_CONTENT if starts_at(&head.headers) == Some(sink.bytes()) => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            // Another file lies there now, or the server cannot count. From the first byte, then.
            sink.restart().map_err(DownloadError::Write)?;
            return Err(CallError::Broken("it gave another part than was asked for".to_owned()).into());
        }
        status => return Err(refusal(status, &head.headers, body, options).await),
    }
    use hyper::body::Body;
    if sink.bytes().saturating_add(body.size_hint().lower()) > options.max_bytes {
        return Err(too_large(options.max_bytes));
    }
    let marked = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let marked = marked.iter().any(|name| head.headers.contains_key(name));
    let came = Came { in_one_piece: head.status == StatusCode::OK && marked };
    let mut pace = Pace { since: Instant::now(), bytes: 0 };
    loop {
        let frame = timeout(options.stall_timeout, body.frame()).await.map_err(|_| CallError::TimedOut)?;
        let Some(frame) = frame else { return Ok(came) };
        let frame = frame.map_err(|e| pool::connection(&e))?;
        if let Ok(piece) = frame.into_data() {
            take(&piece, sink, options.max_bytes)?;
            pace.keep(piece.len(), options)?;
        }
    }
}

/// How much came since when: one byte within each `stall_timeout` is no pause, and never ends.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Counts a piece.
    ///
    /// # Errors
    /// What came within the last `stall_timeout` was too little.
    fn keep(&mut self, bytes: usize, options: &DownloadOptions) -> Result<(), CallError> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let passed = self.since.elapsed();
        if passed < options.stall_timeout {
            return Ok(());
        }
        if u128::from(self.bytes) * 1_000 < u128::from(options.min_rate) * passed.as_millis() {
            let text = format!("{} bytes came in {passed:.0?}: slower than `fetch.min_rate`", self.bytes);
            return Err(CallError::Broken(text));
        }
        *self = Self { since: Instant::now(), bytes: 0 };
        Ok(())
    }
}

/// Adds `piece`, where there is room.
pub(super) fn take(piece: &[u8], sink: &mut (dyn Sink + Send), most: u64) -> Result<(), DownloadError> {
    if sink.bytes() + piece.len() as u64 > most {
        return Err(too_large(most));
    }
    sink.write(piece).map_err(DownloadError::Write)
}

fn too_large(most: u64) -> DownloadError {
    DownloadError::Refused(format!(
        "it has more than {most} bytes: raise `fetch.max_archive` if that is meant"
    ))
}

/// The first byte of a part: `Content-Range: bytes 100-199/200`.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

async fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    mut body: Incoming,
    options: &DownloadOptions,
) -> DownloadError {
    let mut text = Vec::new();
    while text.len() < MAX_ERROR_BYTES {
        let Ok(Some(Ok(frame))) = timeout(options.stall_timeout, body.frame()).await else { break };
        let Ok(piece) = frame.into_data() else { break };
        text.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BYTES)]);
    }
    let text = said(&String::from_utf8_lossy(&text));
    let status = status.as_u16();
    DownloadError::Call(match status {
        429 | 503 => CallError::Overloaded { status, retry_after: pool::retry_after(headers), text },
        _ => CallError::Status { status, text },
    })
}

/// What an error's body says: the code and message of an object store, else the body itself.
fn said(body: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => plain(&format!("{code}: {message}")),
        (Some(code), None) => plain(code),
        _ => plain(body),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_object_stores_error_is_read() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>not\nhere</Message></Error>";
        assert_eq!(said(body), "NoSuchKey: not here");
        assert_eq!(said("gone"), "gone");
    }

    #[test]
    fn the_start_of_a_part_is_read() {
        let of = |text: &'static str| {
            starts_at(&HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(text))]))
        };
        assert_eq!(of("bytes 100-199/200"), Some(100));
        assert_eq!((of("bytes */200"), of("items 1-2"), of("")), (None, None, None));
    }
}
