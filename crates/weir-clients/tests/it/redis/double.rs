//! What listens where a Redis should.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that answers what it likes.
pub(crate) struct Double {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Double {
    /// Of each connection, `answer` is given all bytes that came since it last had something to say, and
    /// says so; nothing, until it has heard enough.
    pub(crate) async fn start(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, answer) = (Arc::<AtomicUsize>::default(), Arc::new(answer));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move { converse(stream, &*answer).await });
            }
        });
        Self { port, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn converse(mut stream: TcpStream, answer: &(impl Fn(&[u8]) -> Vec<u8> + Sync)) {
    let mut heard = Vec::new();
    while stream.read_buf(&mut heard).await.is_ok_and(|read| read > 0) {
        let said = answer(&heard);
        if !said.is_empty() {
            heard.clear();
            if stream.write_all(&said).await.is_err() {
                return;
            }
        }
    }
}

/// How often `word` stands in `heard`.
pub(crate) fn count(heard: &[u8], word: &[u8]) -> usize {
    heard.windows(word.len()).filter(|window| *window == word).count()
}

/// Whether the keeper asks; a Redis says `PONG`.
pub(crate) fn is_ping(heard: &[u8]) -> bool {
    count(heard, b"PING\r\n") > 0
}

pub(crate) const PONG: &[u8] = b"+PONG\r\n";
