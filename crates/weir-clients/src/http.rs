//! A blocking HTTP/1.1 client with a deadline on every call.

use std::time::Duration;

/// Largest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Why a call got no answer. A status such as 422 is an answer.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct ClientError {
    url: String,
    reason: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: ureq::http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Calls one server. Connections are kept between calls.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    /// Calls the server at `base` (for example `http://127.0.0.1:8000`), each call within
    /// `timeout`.
    pub fn new(base: &str, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            // A 422 is an answer that the caller wants to read.
            .http_status_as_error(false)
            // What is measured or checked is this server, not one it sends us to.
            .max_redirects(0)
            .build();
        Self { agent: config.into(), base: base.trim_end_matches('/').to_owned() }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn get(&self, path: &str) -> Result<Reply, ClientError> {
        let url = self.url(path);
        read(&url, self.agent.get(&url).call())
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn post_json(&self, path: &str, body: &[u8]) -> Result<Reply, ClientError> {
        self.post_json_with(path, &[], body)
    }

    /// The same with more header fields.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn post_json_with(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, ClientError> {
        let url = self.url(path);
        let request = self.agent.post(&url).content_type("application/json");
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        read(&url, request.send(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn read(
    url: &str,
    result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Reply, ClientError> {
    let failed = |error: ureq::Error| ClientError { url: url.to_owned(), reason: error.to_string() };
    let mut response = result.map_err(failed)?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(failed)?;
    Ok(Reply { status, headers, body })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn a_status_is_an_answer_and_a_closed_port_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", server.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"POST /x HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 422 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").unwrap();
        });
        let client = Client::new(&base, Duration::from_secs(10));
        let reply = client.post_json("/x", b"[]").unwrap();
        assert_eq!((reply.status, reply.body), (422, b"{}".to_vec()));
        assert_eq!(reply.headers["connection"], "close");
        answering.join().unwrap();
        let error = client.get("/x").unwrap_err().to_string();
        assert!(error.starts_with(&base), "{error}");
    }
}
