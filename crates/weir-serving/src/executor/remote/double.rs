//! A server of the protocol that says whatever a test wants, byte by byte: real servers do not
//! lie on demand.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::sleep,
};

/// What it does with a request.
pub(super) enum Say {
    /// Writes this and keeps the connection.
    Bytes(Vec<u8>),
    /// Writes this and closes.
    Last(Vec<u8>),
    /// Writes this, one byte in five milliseconds.
    Drip(Vec<u8>),
    /// Writes this once it is allowed, and keeps the connection; a caller who leaves meanwhile
    /// is told of in [`Double::left`].
    Allowed(Arc<Semaphore>, Vec<u8>),
    /// Nothing, until the other side closes.
    Nothing,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The JSON, and the bytes behind it.
    pub(super) fn json(&self) -> (Value, &[u8]) {
        let length = self.header("inference-header-content-length").map(|n| n.parse().unwrap());
        let (json, blobs) = self.body.split_at(length.unwrap_or(self.body.len()));
        (serde_json::from_slice(json).unwrap(), blobs)
    }
}

type Script = dyn Fn(&Asked) -> Say + Send + Sync;

/// The server. It ends with the runtime.
pub(super) struct Double {
    pub(super) url: String,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    /// Told when a connection ended while nothing was said on it.
    pub(super) left: Arc<Notify>,
}

impl Double {
    pub(super) async fn start(script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let double = Self { url, asked: Arc::default(), left: Arc::default() };
        let (asked, left, script) = (double.asked.clone(), double.left.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, script.clone(), asked.clone(), left.clone()));
            }
        });
        double
    }

    /// How often it was asked.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(super) fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn connection(
    mut stream: TcpStream,
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<Notify>,
) {
    while let Some(request) = read(&mut stream).await {
        let say = script(&request);
        asked.lock().unwrap().push(request);
        match say {
            Say::Bytes(bytes) => drop(stream.write_all(&bytes).await),
            Say::Last(bytes) => return drop(stream.write_all(&bytes).await),
            Say::Drip(bytes) => {
                for byte in bytes {
                    sleep(Duration::from_millis(5)).await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
            }
            Say::Allowed(gate, bytes) => {
                let mut byte = [0];
                tokio::select! {
                    permit = gate.acquire() => permit.unwrap().forget(),
                    _ = stream.read(&mut byte) => return left.notify_one(),
                }
                drop(stream.write_all(&bytes).await);
            }
            Say::Nothing => {
                let ended = stream.read(&mut [0]).await;
                assert!(matches!(ended, Ok(0) | Err(_)), "nobody sends before an answer");
                return left.notify_one();
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut request = Asked { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = request.header("content-length").map_or(0, |n| n.parse().unwrap());
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

/// An answer with `headers` (each with its line's end) and a body.
pub(super) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
