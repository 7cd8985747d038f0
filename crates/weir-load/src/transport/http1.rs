//! HTTP/1.1 over one kept connection, as lean as a client can be that is still one.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::{Reply, Transport, patch, patience::Patience};
use crate::{outcome::Outcome, plan::Request};

/// Largest answer, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Most headers of an answer.
const MAX_HEADERS: usize = 64;
/// What is read at once at least.
const READ_BYTES: usize = 16 << 10;

/// One connection at a time; it is opened when it is needed and kept while the server keeps it.
pub(crate) struct Http1 {
    address: SocketAddr,
    stream: Option<TcpStream>,
    patience: Patience,
    out: Vec<u8>,
    wire: Wire,
    reason: String,
}

/// What has come, and where the body in it is.
#[derive(Default)]
struct Wire {
    buffer: Vec<u8>,
    /// The body where it came in chunks.
    joined: Vec<u8>,
    body: std::ops::Range<usize>,
    chunked: bool,
    json: Option<usize>,
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    length: Length,
    keep: bool,
    retry_after: bool,
    json: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    UntilClose,
}

impl Http1 {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let wire = Wire { buffer: Vec::with_capacity(READ_BYTES), ..Wire::default() };
        Self {
            address,
            stream: None,
            patience: Patience::new(),
            out: Vec::new(),
            wire,
            reason: String::new(),
        }
    }

    async fn exchange(
        address: SocketAddr,
        stream: &mut Option<TcpStream>,
        wire: &mut Wire,
        bytes: &[u8],
    ) -> io::Result<Head> {
        let connection = ready(stream, address).await?;
        connection.write_all(bytes).await?;
        wire.buffer.clear();
        let head = wire.read_head(connection).await?;
        wire.read_body(connection, &head).await?;
        if !head.keep {
            *stream = None;
        }
        Ok(head)
    }
}

/// The kept connection, or a new one. A server may close one that is idle at any time; that it
/// did so before we wrote is not an error of this request.
async fn ready(stream: &mut Option<TcpStream>, address: SocketAddr) -> io::Result<&mut TcpStream> {
    let stale = stream.as_ref().is_some_and(|s| match s.try_read(&mut [0]) {
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        Ok(_) => true,
    });
    if stale || stream.is_none() {
        let fresh = TcpStream::connect(address).await?;
        fresh.set_nodelay(true)?;
        *stream = Some(fresh);
    }
    stream.as_mut().ok_or_else(|| io::Error::other("no connection"))
}

impl Transport for Http1 {
    async fn call(&mut self, request: &Request, left: Option<Duration>, give_up: Instant) -> Reply {
        let bytes = match left {
            Some(left) => {
                patch::write(request, left, &mut self.out);
                &self.out[..]
            }
            None => &request.wire[..],
        };
        let work = Self::exchange(self.address, &mut self.stream, &mut self.wire, bytes);
        let failed = match self.patience.within(give_up, work).await {
            Ok(Ok(head)) => {
                let outcome = Outcome::of_status(head.status);
                return Reply { outcome, status: head.status, retry_after: head.retry_after };
            }
            Ok(Err(error)) => {
                self.reason = error.to_string();
                Outcome::Transport
            }
            Err(_) => {
                self.reason = "no answer in time".to_owned();
                Outcome::Timeout
            }
        };
        self.stream = None;
        self.wire = Wire::default();
        Reply { outcome: failed, status: 0, retry_after: false }
    }

    fn answer(&self) -> (&[u8], Option<usize>) {
        let body = match self.wire.chunked {
            true => &self.wire.joined[..],
            false => self.wire.buffer.get(self.wire.body.clone()).unwrap_or_default(),
        };
        (body, self.wire.json)
    }

    fn reason(&self) -> &str {
        &self.reason
    }
}

impl Wire {
    async fn read_head(&mut self, stream: &mut TcpStream) -> io::Result<Head> {
        loop {
            match parse(&self.buffer)? {
                // 100 Continue and its kin come before the answer.
                Some(head) if head.status < 200 => drop(self.buffer.drain(..head.bytes)),
                Some(head) => return Ok(head),
                None => self.more(stream).await?,
            }
        }
    }

    async fn read_body(&mut self, stream: &mut TcpStream, head: &Head) -> io::Result<()> {
        self.json = head.json;
        self.chunked = head.length == Length::Chunked;
        match head.length {
            Length::Known(length) => {
                if length > MAX_ANSWER_BYTES {
                    return Err(io::Error::other("the answer is too large"));
                }
                while self.buffer.len() < head.bytes + length {
                    self.more(stream).await?;
                }
                self.body = head.bytes..head.bytes + length;
            }
            Length::Chunked => self.read_chunks(stream, head.bytes).await?,
            Length::UntilClose => {
                while self.read(stream).await? > 0 {}
                self.body = head.bytes..self.buffer.len();
            }
        }
        Ok(())
    }

    async fn read_chunks(&mut self, stream: &mut TcpStream, mut at: usize) -> io::Result<()> {
        self.joined.clear();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer[at..]) {
                    Ok(httparse::Status::Complete((head, size))) => {
                        at += head;
                        break usize::try_from(size).unwrap_or(usize::MAX);
                    }
                    Ok(httparse::Status::Partial) => self.more(stream).await?,
                    Err(_) => return Err(io::Error::other("a chunk has no size")),
                }
            };
            if size > MAX_ANSWER_BYTES {
                return Err(io::Error::other("the answer is too large"));
            }
            while self.buffer.len() < at + size + 2 {
                self.more(stream).await?;
            }
            self.joined.extend_from_slice(&self.buffer[at..at + size]);
            at += size + 2;
            // Trailers would stand between the last chunk and its line end; nobody we ask
            // sends any, and what is left over ends the connection before the next request.
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn more(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match self.read(stream).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ if self.buffer.len() > MAX_ANSWER_BYTES + (1 << 20) => {
                Err(io::Error::other("the answer is too large"))
            }
            _ => Ok(()),
        }
    }

    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        stream.read_buf(&mut self.buffer).await
    }
}

/// The head at the start of `bytes`, if it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|e| io::Error::other(format!("no HTTP: {e}")))?;
    let httparse::Status::Complete(size) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        bytes: size,
        length: Length::UntilClose,
        keep: response.version == Some(1),
        retry_after: false,
        json: None,
    };
    response.headers.iter().for_each(|header| head.take(header));
    if status < 200 || status == 204 || status == 304 {
        head.length = Length::Known(0);
    }
    head.keep &= head.length != Length::UntilClose;
    Ok(Some(head))
}

impl Head {
    fn take(&mut self, header: &httparse::Header<'_>) {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let number = || std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
        // The lengths of the names pick out the few that matter, without comparing them all.
        match header.name.len() {
            10 if is("connection") => self.keep = !header.value.eq_ignore_ascii_case(b"close"),
            11 if is("retry-after") => self.retry_after = true,
            14 if is("content-length") && self.length != Length::Chunked => {
                self.length = number().map_or(Length::UntilClose, Length::Known);
            }
            17 if is("transfer-encoding") => self.length = Length::Chunked,
            31 if is("inference-header-content-length") => self.json = number(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
