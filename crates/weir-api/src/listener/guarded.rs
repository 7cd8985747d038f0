//! A connection's byte stream with the deadlines that hyper has none for.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::framing::Watch;

/// Bytes after which the protocol is known: the length of HTTP/2's preface (RFC 9113
/// section 3.4), and less than any HTTP/1.1 request has.
const SNIFF_BYTES: usize = 24;
/// How long a closed connection is read on, so that a client that is still sending sees
/// the answer (a 413, say) rather than a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are thrown away while lingering.
const LINGER_BYTES: usize = 16 << 20;

pin_project! {
    /// Wraps a connection and ends it when the client stalls: in its first bytes (hyper-util
    /// has no timer while it sniffs the protocol) and while it takes no byte of an answer.
    /// A stall in the head or the body is hyper's and the body reader's business.
    pub(crate) struct Guarded<S> {
        #[pin]
        inner: S,
        seen: usize,
        framing: Watch,
        first: Option<Pin<Box<Sleep>>>,
        write_timeout: Duration,
        stalled: Option<Pin<Box<Sleep>>>,
        linger: Option<(Pin<Box<Sleep>>, usize)>,
    }
}

impl<S> Guarded<S> {
    /// Guards `inner`: `first` for the first bytes, `write` for each byte written.
    /// `framing` reads along.
    pub(crate) fn new(inner: S, first: Duration, write: Duration, framing: Watch) -> Self {
        let first = Some(Box::pin(sleep(first)));
        Self { inner, seen: 0, framing, first, write_timeout: write, stalled: None, linger: None }
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        match this.inner.poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.framing.see(&buf.filled()[before..]);
                *this.seen = this.seen.saturating_add(buf.filled().len() - before);
                if *this.seen >= SNIFF_BYTES {
                    *this.first = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending => match this.first {
                Some(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    Poll::Ready(Err(timed_out("no request came")))
                }
                None => Poll::Pending,
            },
        }
    }
}

/// Passes a write's result on; while it is pending, `stalled` runs.
fn watch<T>(
    result: Poll<io::Result<T>>,
    stalled: &mut Option<Pin<Box<Sleep>>>,
    timeout: Duration,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if result.is_ready() {
        *stalled = None;
        return result;
    }
    let timer = stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
    ready!(timer.as_mut().poll(cx));
    Poll::Ready(Err(timed_out("the client takes no answer")))
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        *this.first = None;
        watch(this.inner.poll_write(cx, buf), this.stalled, *this.write_timeout, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        *this.first = None;
        watch(this.inner.poll_write_vectored(cx, bufs), this.stalled, *this.write_timeout, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        watch(this.inner.poll_flush(cx), this.stalled, *this.write_timeout, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.linger.is_none() {
            ready!(this.inner.as_mut().poll_shutdown(cx))?;
        }
        let (timer, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        let mut scratch = [0; 8192];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match this.inner.as_mut().poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                // The client reset the connection: there is nobody left to be polite to.
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => match left.checked_sub(buf.filled().len()) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(Ok(())),
                },
                Poll::Pending => {
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up() {
        let (_client, server) = duplex(64);
        let mut guarded = Guarded::new(server, 10 * SECOND, 30 * SECOND, Watch::default());
        let error = guarded.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickling_preface_is_given_up_but_a_started_request_is_not() {
        let (mut client, server) = duplex(64);
        let mut guarded = Guarded::new(server, 10 * SECOND, 30 * SECOND, Watch::default());
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut buf = [0; 64];
        assert_eq!(guarded.read(&mut buf).await.unwrap(), 10);
        assert!(guarded.read(&mut buf).await.is_err(), "24 bytes never came");

        let (mut client, server) = duplex(64);
        let mut guarded = Guarded::new(server, 10 * SECOND, 30 * SECOND, Watch::default());
        client.write_all(&[b'x'; SNIFF_BYTES]).await.unwrap();
        guarded.read_exact(&mut [0; SNIFF_BYTES]).await.unwrap();
        let late = tokio::time::timeout(100 * SECOND, guarded.read_u8()).await;
        assert!(late.is_err(), "hyper's own timers take over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_given_up() {
        let (_client, server) = duplex(4);
        let mut guarded = Guarded::new(server, 10 * SECOND, 30 * SECOND, Watch::default());
        let error = guarded.write_all(b"too much for the buffer").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_reads_on_for_a_while() {
        let (mut client, server) = duplex(64);
        let mut guarded = Guarded::new(server, 10 * SECOND, 30 * SECOND, Watch::default());
        let sender = tokio::spawn(async move {
            for _ in 0..100 {
                client.write_all(&[0; 64]).await?;
            }
            io::Result::Ok(client)
        });
        guarded.shutdown().await.unwrap();
        sender.await.unwrap().expect("the sender was not reset while it sent");
    }
}
