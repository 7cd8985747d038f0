//! An HTTP/1.1 client that sends what it is told, also what no proper client would.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::server;

/// Longest wait for a byte: a server that hangs fails the test instead of stopping it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest response: more means that the server does not stop.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// The status; 100 and the like are not responses and counted in `interim`.
    pub(crate) status: u16,
    /// Headers in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub(crate) body: Vec<u8>,
    /// Interim (1xx) statuses that came before.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The values of a header, in order.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Closes the sending side alone.
    pub(crate) fn end_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Waits for a byte as long as for a server to start.
    pub(crate) fn wait_longer(&self) {
        self.stream.set_read_timeout(Some(server::PATIENCE)).unwrap();
    }

    /// Reads one response; `head` for the answer to a HEAD, which has no body.
    ///
    /// # Errors
    /// `UnexpectedEof` where the server closed instead.
    pub(crate) fn receive(&mut self, head: bool) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.receive_head()?;
            if (100..200).contains(&status) {
                interim.push(status);
                continue;
            }
            let bodiless = head || status == 204 || status == 304;
            let body = if bodiless { Vec::new() } else { self.receive_body(&headers)? };
            return Ok(Response { status, headers, body, interim });
        }
    }

    /// Reads until the server closes, and returns what still came; `None` where it resets
    /// the connection.
    pub(crate) fn drain(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.unread);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Some(rest),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the server keeps the connection open: {error}"),
        }
    }

    fn receive_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            self.more()?;
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {text}")))?;
        let header =
            |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        Ok((status, lines.filter_map(header).collect()))
    }

    fn receive_body(&mut self, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.receive_chunks();
        }
        match header("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => self.take(length),
            None => {
                let mut body = std::mem::take(&mut self.unread);
                self.stream.read_to_end(&mut body)?;
                Ok(body)
            }
        }
    }

    fn receive_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
            let size = size.ok_or_else(|| io::Error::other(format!("no chunk size: {line:?}")))?;
            body.extend(self.take(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.more()?;
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.more()?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        self.unread.extend_from_slice(&buffer[..read]);
        if self.unread.len() > MAX_RESPONSE_BYTES {
            return Err(io::Error::other("the response does not end"));
        }
        Ok(())
    }
}

/// The bytes of a request. `Host` and `Content-Length` are added unless `headers` has them
/// (or a `Transfer-Encoding`).
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<&[u8]>,
) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !has("host") {
        head.push_str("Host: weir.test\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body.filter(|_| !has("content-length") && !has("transfer-encoding")) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body.unwrap_or_default()].concat()
}

/// One request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, body: Option<&[u8]>) -> Response {
    let json = [("Content-Type".to_owned(), "application/json".to_owned())];
    let headers = if body.is_some() { &json[..] } else { &[] };
    let exchange = || {
        let mut connection = Connection::open(address)?;
        connection.send(&request(method, path, headers, body))?;
        connection.receive(method == "HEAD")
    };
    exchange().unwrap_or_else(|e| panic!("{method} {path}: {e}"))
}

/// GET on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    ask(address, "GET", path, None)
}
