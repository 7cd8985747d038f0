//! One connection and the requests on it.

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::net::TcpStream;

use crate::arguments::Arguments;

/// What a stream and a connection may have unread, as gRPC's own clients allow.
const WINDOW_BYTES: u32 = 4 << 20;

/// An answer: its body, and which model and version it names.
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) model: Option<String>,
}

/// Connects without TLS and without an upgrade.
///
/// # Errors
/// What the network says.
pub(crate) async fn connect(arguments: &Arguments) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(arguments.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .enable_push(false)
        .handshake(stream)
        .await?;
    // Its end shows in the requests.
    tokio::spawn(connection);
    Ok(sender)
}

/// The head of every request.
///
/// # Errors
/// A path that is none.
pub(crate) fn head(arguments: &Arguments) -> Result<Request<()>> {
    let uri = format!("http://{}{}", arguments.address, arguments.path);
    let mut request = Request::builder().method(Method::POST).uri(uri).version(Version::HTTP_2).body(())?;
    request.headers_mut().extend(arguments.headers.iter().cloned());
    Ok(request)
}

/// Sends one request and reads its answer.
///
/// # Errors
/// An answer that is not 200, or whose `grpc-status` is not 0, and what the network says.
pub(crate) async fn ask(sender: &SendRequest<Bytes>, head: &Request<()>, body: Bytes) -> Result<Answer> {
    let mut sender = sender.clone().ready().await?;
    let (response, mut stream) = sender.send_request(head.clone(), false)?;
    stream.send_data(body, true)?;
    let (parts, mut body) = response.await?.into_parts();
    let mut pieces = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        pieces.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?;
    if parts.status != StatusCode::OK {
        bail!("status {}: {}", parts.status, String::from_utf8_lossy(&pieces));
    }
    check_grpc(&parts.headers)?;
    trailers.as_ref().map_or(Ok(()), check_grpc)?;
    let model = parts.headers.get("x-weir-model").map(|v| v.to_str().map(str::to_owned));
    Ok(Answer { body: pieces.freeze(), model: model.transpose().context("x-weir-model")? })
}

fn check_grpc(headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => bail!("grpc-status {status:?}: {:?}", headers.get("grpc-message")),
        _ => Ok(()),
    }
}
