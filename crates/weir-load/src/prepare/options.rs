//! What a user asks for, and what is wrong with it before anybody is asked.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use crate::plan::Face;

/// Most distinct requests that are kept.
const MOST_BODIES: usize = 1_000_000;
/// Most rows of a request.
const MOST_ROWS: usize = 1_000_000;

/// Where bodies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bodies {
    /// Made up from the model's signature.
    Generated,
    /// Rows of a samples file, `{"input": {…}, "prediction": …}` a line; predictions are checked
    /// on the typed face.
    Samples(PathBuf),
    /// A file of whole bodies, one a line.
    File(PathBuf),
}

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://host:port`.
    pub url: String,
    /// Where metadata and OpenAPI are asked, if elsewhere.
    pub describe: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// A path to ask instead of the model's.
    pub path: Option<String>,
    /// The protocol.
    pub face: Face,
    /// Where bodies come from.
    pub bodies: Bodies,
    /// A file of right answers, one a line, for a file of bodies.
    pub expect: Option<PathBuf>,
    /// How far numbers may be away; samples have their own.
    pub tolerance: Option<f64>,
    /// Rows of a request, each as likely.
    pub rows: Vec<usize>,
    /// Distinct requests in the pool.
    pub pool: usize,
    /// The share of requests from the pool; others are new ones. `None` for all.
    pub repeat: Option<f64>,
    /// Asks every request of the pool alone, and requires the same answer under load.
    pub check: bool,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Whether a deadline is sent along.
    pub deadline: bool,
    /// When a try is given up.
    pub timeout: Duration,
    /// Of bodies.
    pub seed: u64,
}

impl Options {
    /// What is wrong, as far as that can be told without asking the server.
    pub fn problems(&self) -> Vec<String> {
        let generated = !matches!(self.bodies, Bodies::File(_));
        let tensors = self.face != Face::Typed;
        let checks = [
            (self.model.is_none() && self.path.is_none(), "name a model, or a path with --path"),
            (self.model.is_some() && self.path.is_some(), "name a model or a path with --path, not both"),
            (self.path.as_ref().is_some_and(|p| !p.starts_with('/')), "--path begins with /"),
            (
                self.path.as_ref().is_some_and(|p| p.bytes().any(|b| b <= b' ' || b >= 127)),
                "--path has spaces or letters beyond ASCII: percent-encode them",
            ),
            (tensors && self.model.is_none(), "--face v2, v2-binary and grpc need the name of a model"),
            (tensors && !generated, "--body is for typed bodies: give rows with --samples"),
            (
                matches!(self.bodies, Bodies::Samples(_)) && self.path.is_some(),
                "--samples needs a model, not --path",
            ),
            (
                self.expect.is_some() && generated,
                "--expect needs --body: a line of it is the answer to a line there",
            ),
            (self.expect.is_some() && self.check, "--expect and --check both say what is right: choose one"),
            (self.repeat.is_some_and(|r| !(0.0..=1.0).contains(&r)), "--repeat is a share between 0 and 1"),
            (self.repeat.is_some() && !generated, "--repeat needs generated bodies, and --body gives them"),
            (
                self.repeat.is_some() && self.check,
                "--check knows answers to repeated bodies only: leave out --repeat",
            ),
            (self.pool == 0 || self.pool > MOST_BODIES, "--bodies is between 1 and 1,000,000"),
            (
                self.rows.is_empty() || self.rows.iter().any(|r| !(1..=MOST_ROWS).contains(r)),
                "--rows is between 1 and 1,000,000",
            ),
            (
                self.tolerance.is_some_and(|t| !(0.0..f64::INFINITY).contains(&t)),
                "--tolerance is a number from 0 up",
            ),
        ];
        let mut found: Vec<String> = locate(&self.url).err().into_iter().collect();
        found.extend(checks.iter().filter(|(wrong, _)| *wrong).map(|(_, words)| (*words).to_owned()));
        let bad = |(name, value): &&(String, String)| {
            http::HeaderName::from_bytes(name.as_bytes()).is_err()
                || http::HeaderValue::from_str(value).is_err()
        };
        found.extend(
            self.headers.iter().filter(bad).map(|(name, _)| format!("--header {name}: is no header")),
        );
        if self.face == Face::Grpc && !self.headers.is_empty() {
            found.push("--header is for HTTP, not for gRPC".into());
        }
        found
    }
}

/// Host (with port) and address of an `http://` URL.
pub(super) fn locate(url: &str) -> Result<(String, SocketAddr), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        let why = if url.starts_with("https://") { "TLS is not supported" } else { "no URL" };
        format!("{url}: {why}: write http://host:port")
    })?;
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(format!("{url}: write http://host:port, and the path with --path"));
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let whole = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut found = whole.to_socket_addrs().map_err(|e| format!("{url}: {e}"))?;
    found.next().map(|address| (host.to_owned(), address)).ok_or_else(|| format!("{url}: no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_what_is_none_is_told() {
        assert_eq!(
            locate("http://127.0.0.1:8000/").unwrap(),
            ("127.0.0.1:8000".into(), ([127, 0, 0, 1], 8000).into())
        );
        assert_eq!(locate("http://[::1]:80").unwrap().0, "[::1]:80");
        assert_eq!(locate("http://127.0.0.1").unwrap().1.port(), 80);
        for (bad, words) in [
            ("https://h", "TLS"),
            ("127.0.0.1:8000", "http://host:port"),
            ("http://", "http://host:port"),
            ("http://h/path", "--path"),
            ("http://user@h", "--path"),
            ("http://127.0.0.1:99999", "99999"),
        ] {
            let told = locate(bad).unwrap_err();
            assert!(told.contains(words), "{bad}: {told}");
        }
    }
}
