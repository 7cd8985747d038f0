//! The Open Inference Protocol V2 over REST, from the asking side.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;
use weir_artifact::{EncodingWord, RemoteDraft, RemoteFacts, RemoteTable};
use weir_clients::{Answer, CallError, HttpPool, PoolOptions};
use weir_codec::v2::{
    ServerDescription, read_max_batch, read_metadata, read_response, read_server, write_request,
};
use weir_types::{Batch, Outputs, Signature};

use super::Headers;

const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");
/// Largest description of a server or a model.
pub(super) const MAX_METADATA_BYTES: usize = 1 << 20;

/// One model on one server.
#[derive(Debug)]
pub(super) struct Rest {
    pool: HttpPool,
    infer: String,
    signature: Signature,
    binary: bool,
    asked: AtomicU64,
}

impl Rest {
    /// The model of `draft`, whose signature is known; `binary` is whether tensors go as bytes.
    pub(super) fn new(draft: &RemoteDraft, signature: Signature, binary: bool) -> Result<Self, String> {
        let table = draft.table();
        let pool = HttpPool::new(&table.url, &options(table, table.max_answer.as_usize()))?;
        let infer = format!("{}/infer", path(draft));
        Ok(Self { pool, infer, signature, binary, asked: AtomicU64::new(0) })
    }

    /// Asks once. The server is told how much time is left; dropping the future closes the
    /// connection, by which it may notice that nobody waits any more.
    pub(super) async fn infer(
        &self,
        batch: &Batch,
        until: Instant,
        trace: &Headers,
    ) -> Result<Outputs, CallError> {
        let left = until.saturating_duration_since(Instant::now());
        let id = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        let refused = |error: weir_types::Error| CallError::Unsendable(error.message.into_owned());
        let request = write_request(&self.signature, batch, &id, left, self.binary).map_err(refused)?;
        let kind = if request.json.is_some() { "application/octet-stream" } else { "application/json" };
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        headers.extend(request.json.map(|length| (JSON_LENGTH, HeaderValue::from(length))));
        let seconds = HeaderValue::try_from(format!("{:.6}", left.as_secs_f64()));
        headers.extend(trace.iter().cloned());
        headers.extend(seconds.ok().map(|seconds| (REQUEST_TIMEOUT, seconds)));
        let answer = self.pool.send(&self.infer, &headers, Some(request.body.into())).await?;
        let json = json_length(&answer.headers).map_err(CallError::Broken)?;
        read_response(&self.signature, batch.rows, &id, json, &answer.body).map_err(CallError::Broken)
    }
}

/// `Inference-Header-Content-Length`: decimal digits only.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, String> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| format!("its {JSON_LENGTH} is no number"))
}

/// What the server of `draft` says of itself and the model, and whether tensors go as bytes.
pub(super) async fn facts(draft: &RemoteDraft) -> Result<(RemoteFacts, bool), CallError> {
    let table = draft.table();
    let pool = HttpPool::new(&table.url, &options(table, MAX_METADATA_BYTES)).map_err(CallError::Broken)?;
    let path = path(draft);
    let server = match pool.send("/v2", &[], None).await {
        Ok(Answer { body, .. }) => read_server(&body).map_err(CallError::Broken)?,
        // Some runtimes have the models' endpoints only.
        Err(CallError::Status { status: 404 | 405, .. }) => ServerDescription::default(),
        Err(error) => return Err(error),
    };
    let metadata = read_metadata(&pool.send(&path, &[], None).await?.body).map_err(CallError::Broken)?;
    // An extension of Triton's that others need not have.
    let config = pool.send(&format!("{path}/config"), &[], None).await.ok();
    let max_rows = config.and_then(|answer| read_max_batch(&answer.body));
    let binary = match table.encoding {
        EncodingWord::Auto => server.binary,
        EncodingWord::Binary => true,
        EncodingWord::Json => false,
    };
    let facts = RemoteFacts {
        server: named(&server),
        platform: metadata.platform,
        signature: metadata.signature,
        max_rows,
    };
    Ok((facts, binary))
}

/// Name and version.
pub(super) fn named(server: &ServerDescription) -> String {
    let name = if server.name.is_empty() { "an unnamed server" } else { &server.name };
    format!("{name} {}", server.version).trim_end().to_owned()
}

pub(super) fn options(table: &RemoteTable, max_answer_bytes: usize) -> PoolOptions {
    PoolOptions {
        connect_timeout: table.connect_timeout.get(),
        max_idle: table.limit.max as usize,
        max_answer_bytes,
        http2: false,
    }
}

fn path(draft: &RemoteDraft) -> String {
    let model = segment(draft.model());
    match &draft.table().version {
        Some(version) => format!("/v2/models/{model}/versions/{}", segment(version)),
        None => format!("/v2/models/{model}"),
    }
}

/// One segment of a path (RFC 3986, section 2.3: what is not unreserved is escaped).
fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a `String` does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("a-1_b.c"), "a-1_b.c");
        assert_eq!(segment("../ä?"), "..%2F%C3%A4%3F");
    }

    #[test]
    fn the_json_length_is_digits() {
        let of = |text: &'static str| {
            json_length(&HeaderMap::from_iter([(JSON_LENGTH, HeaderValue::from_static(text))]))
        };
        assert_eq!(of("12"), Ok(Some(12)));
        assert!(of("+12").is_err() && of("").is_err() && of("99999999999999999999999").is_err());
    }
}
