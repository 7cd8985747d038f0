//! Downloads: files of any size over HTTP(S) and from object stores, taken up again where they
//! broke off.
//!
//! What comes is nobody's to believe: the caller knows its SHA-256, so a resumed download needs no `ETag`
//! that both halves must have, and `Content-Encoding` is a remark about bytes that are taken as they are.

mod answer;
mod config;
mod error;
mod location;
mod s3;
mod sign;

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::BuildHasher,
    io::Read,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{sleep, timeout};

use crate::{CallError, RetryPolicy, Trust};
use s3::S3;

pub use config::S3Config;
pub use error::{DownloadError, is_passing};
pub use location::Location;
pub use sign::S3Keys;

/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 5;
/// A download that came so much further begins to count its repeats anew: over a bad line a large
/// file comes in pieces.
const PROGRESS_BYTES: u64 = 1 << 20;

/// How files are downloaded.
#[derive(Clone)]
pub struct DownloadOptions {
    /// Longest that making a connection may take.
    pub connect_timeout: Duration,
    /// Longest pause before an answer begins and between two parts of it.
    pub stall_timeout: Duration,
    /// Fewest bytes a second that come on average, over each `stall_timeout`; 0: any.
    pub min_rate: u64,
    /// Largest file, bytes.
    pub max_bytes: u64,
    /// How often and when a download is taken up again.
    pub retry: RetryPolicy,
    /// PEM file of authorities beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// The object store of `s3://`.
    pub s3: Option<S3Config>,
    /// Keys for it, where it names no files.
    pub s3_keys: Option<S3Keys>,
    /// The calendar's time, for signatures.
    pub now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Where a download goes.
pub trait Sink {
    /// Bytes that are there.
    fn bytes(&self) -> u64;
    /// Adds `piece`.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, piece: &[u8]) -> std::io::Result<()>;
    /// Forgets all that is there: the server begins from the first byte again.
    ///
    /// # Errors
    /// The system's.
    fn restart(&mut self) -> std::io::Result<()>;
}

/// A file that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// It came in one piece, and its end was marked. Else it may be parts of two files, or be cut short unnoticed:
    /// what differs from what was expected is then worth another try from the first byte.
    pub in_one_piece: bool,
}

/// A mistake in what downloads are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadProblem {
    /// The key in weir.toml.
    pub key: &'static str,
    /// What is wrong with it.
    pub text: String,
}

/// Downloads files. Runs on the tokio runtime that awaits it.
#[derive(Clone)]
pub struct Downloader {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    s3: Option<S3>,
    options: DownloadOptions,
}

impl Downloader {
    /// Downloads by `options`. Nothing is connected to yet.
    ///
    /// # Errors
    /// Every problem of its files and addresses.
    pub fn new(options: DownloadOptions) -> Result<Self, Vec<DownloadProblem>> {
        let s3 = options.s3.as_ref().map(|config| S3::new(config, options.s3_keys.clone())).transpose();
        let s3 = s3.map_err(|(key, text)| DownloadProblem { key: s3_key(key), text });
        let trusted = Trust::new(options.ca_file.as_deref()).and_then(|trust| trust.config());
        let trusted = trusted.map_err(|text| DownloadProblem { key: "fetch.ca_file", text });
        let (s3, tls) = match (s3, trusted) {
            (Ok(s3), Ok(tls)) => (s3, tls),
            (s3, trusted) => return Err([s3.err(), trusted.err()].into_iter().flatten().collect()),
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        // No connection is kept: a download is one request, and the next one is days away.
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_max_idle_per_host(0).build(connector.wrap_connector(tcp(&options)));
        Ok(Self { client, s3, options })
    }

    /// Brings the file at `from` into `sink`, beginning behind what is there, and takes it up again where
    /// it breaks off. `token_file` holds a token for the server that `from` names, and for no other.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn fetch(
        &self,
        from: &Location,
        token_file: Option<&std::path::Path>,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Came, DownloadError> {
        let (mut repeats, mut reached) = (0, sink.bytes());
        loop {
            let error = match self.attempt(from, token_file, sink).await {
                Ok(came) => return Ok(came),
                Err(error) => error,
            };
            if sink.bytes() >= reached + PROGRESS_BYTES {
                (repeats, reached) = (0, sink.bytes());
            }
            if !error.resumes() || repeats >= self.options.retry.most {
                return Err(error);
            }
            let wait = error.wait(&self.options.retry, repeats, RandomState::new().hash_one(repeats));
            let again = soon(wait);
            tracing::warn!(from = %from, bytes = sink.bytes(), "download broke off, again {again}: {error}");
            sleep(wait).await;
            repeats += 1;
        }
    }

    async fn attempt(
        &self,
        from: &Location,
        token_file: Option<&std::path::Path>,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Came, DownloadError> {
        match from {
            Location::File(path) => self.copy(path, sink),
            Location::S3 { bucket, key } => {
                let Some(s3) = &self.s3 else {
                    let text = "there is no [s3] in the configuration to say where the bucket is";
                    return Err(DownloadError::Refused(text.to_owned()));
                };
                let request = s3.request(bucket, key, sink.bytes(), (self.options.now)());
                let response = self.send(request.map_err(DownloadError::Refused)?).await?;
                answer::receive(response, sink, &self.options).await
            }
            Location::Http(uri) => self.follow(uri, token_file, sink).await,
        }
    }

    async fn follow(
        &self,
        uri: &Uri,
        token_file: Option<&std::path::Path>,
        sink: &mut (dyn Sink + Send),
    ) -> Result<Came, DownloadError> {
        let token = token_file.map(weir_config::files::secret).transpose().map_err(DownloadError::Refused)?;
        let mut at = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(());
            *request.uri_mut() = at.clone();
            if sink.bytes() > 0 {
                let range = HeaderValue::try_from(format!("bytes={}-", sink.bytes()));
                request.headers_mut().extend(range.ok().map(|range| (header::RANGE, range)));
            }
            let own = (at.scheme(), at.authority()) == (uri.scheme(), uri.authority());
            if let Some(token) = token.as_ref().filter(|_| own) {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value =
                    value.map_err(|_| DownloadError::Refused("the token is no text of a header".into()))?;
                value.set_sensitive(true);
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            let response = self.send(request).await?;
            match answer::redirect(&at, &response)? {
                Some(next) => at = next,
                None => return answer::receive(response, sink, &self.options).await,
            }
        }
        Err(DownloadError::Refused(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    async fn send(&self, request: Request<()>) -> Result<answer::Response, DownloadError> {
        let mut request = request.map(|()| Empty::new());
        let agent = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let most = self.options.connect_timeout + self.options.stall_timeout;
        let response = timeout(most, self.client.request(request)).await;
        let response = response.map_err(|_| CallError::TimedOut)?;
        response.map_err(|error| error::unanswered(&error))
    }

    /// A file of this machine comes as one from elsewhere does: copied, then checked, so that nobody
    /// changes it between.
    fn copy(&self, path: &std::path::Path, sink: &mut (dyn Sink + Send)) -> Result<Came, DownloadError> {
        let refuse = |source: std::io::Error| DownloadError::Read { path: path.to_owned(), source };
        sink.restart().map_err(DownloadError::Write)?;
        // Asked before it is opened: opening a FIFO waits for somebody to write to it.
        if !path.metadata().map_err(refuse)?.is_file() {
            return Err(DownloadError::Refused(format!("{} is no regular file", path.display())));
        }
        let mut file = File::open(path).map_err(refuse)?;
        let mut piece = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut piece).map_err(refuse)?;
            if read == 0 {
                return Ok(Came { in_one_piece: true });
            }
            answer::take(&piece[..read], sink, self.options.max_bytes)?;
        }
    }
}

fn tcp(options: &DownloadOptions) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(options.connect_timeout));
    connector
}

/// `[s3]`'s key as it stands in the file.
fn s3_key(key: &str) -> &'static str {
    match key {
        "endpoint" => "s3.endpoint",
        _ => "s3.access_key_file",
    }
}

/// A wait as the log tells it: tenths of a second are as much as anybody acts on.
fn soon(wait: Duration) -> String {
    if wait < Duration::from_millis(50) {
        "at once".to_owned()
    } else {
        format!("in {:.1} s", wait.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_tenths_of_a_second() {
        for (wait, told) in [
            (Duration::from_nanos(65_537), "at once"),
            (Duration::from_millis(50), "in 0.1 s"),
            (Duration::from_micros(1_234_567), "in 1.2 s"),
            (Duration::from_secs(30), "in 30.0 s"),
        ] {
            assert_eq!(soon(wait), told);
        }
    }
}
