//! A connection's byte stream with the deadlines that hyper has none for.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{frames::Cursor, turn::Turn, watch::Watch};

/// How long a closed connection is read on, so that a client that is still sending sees
/// the answer (a 413, say) rather than a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are thrown away while lingering.
const LINGER_BYTES: usize = 16 << 20;
/// The same for HTTP/2, where a body is stopped by its stream and only what breaks the rules
/// ends a connection that is still sending.
const LINGER_BYTES_H2: usize = 1 << 20;
pin_project! {
    /// Wraps a connection and ends it when the client stalls, in what hyper has no deadline
    /// for (see [`Watch::is_unfinished`]) and while it takes no byte of an answer, or when it
    /// sends a flood of HTTP/2 frames. A stall in an HTTP/1 head or in a body is hyper's and
    /// the body reader's business.
    pub(crate) struct Guarded<S> {
        #[pin]
        inner: S,
        watch: Watch,
        sent: Cursor,
        turn: Turn,
        floods: Counter,
        flooded: bool,
        owed_timeout: Duration,
        owed: Option<Pin<Box<Sleep>>>,
        write_timeout: Duration,
        stalled: Option<Pin<Box<Sleep>>>,
        linger: Option<(Pin<Box<Sleep>>, usize)>,
    }
}

impl<S> Guarded<S> {
    /// Guards `inner`: `owed` for what the client must finish, `write` for each byte written.
    /// `watch` reads along; floods are counted in `floods`.
    pub(crate) fn new(inner: S, owed: Duration, write: Duration, watch: Watch, floods: Counter) -> Self {
        Self {
            inner,
            watch,
            sent: Cursor::default(),
            turn: Turn::default(),
            floods,
            flooded: false,
            owed_timeout: owed,
            owed: None,
            write_timeout: write,
            stalled: None,
            linger: None,
        }
    }
}

impl<S: AsyncWrite> Guarded<S> {
    /// Takes note of what was sent.
    fn note_sent<'b>(
        watch: &mut Watch,
        sent: &mut Cursor,
        mut bytes: usize,
        bufs: impl Iterator<Item = &'b [u8]>,
    ) {
        let Some(frames) = watch.frames() else { return };
        frames.sent(bytes);
        for buf in bufs {
            let here = bytes.min(buf.len());
            sent.pass(&buf[..here], |_| ());
            bytes -= here;
        }
    }

    /// Ends a flood: from now on there is nothing more to read. The client is told why if the
    /// last frame to it is complete and there is room for one more.
    fn end_flood(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        (*this.flooded, _) = (true, this.floods.inc());
        tracing::debug!("a client sends more control frames than its requests need");
        if let Some(frames) = this.watch.frames().filter(|_| this.sent.is_between()) {
            let _ = this.inner.poll_write(cx, &frames.farewell());
        }
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.as_mut().project();
        let (before, steps) = (buf.filled().len(), this.watch.steps());
        if *this.flooded {
            return Poll::Ready(Ok(()));
        }
        if this.turn.is_over(steps) {
            this.turn.restart(steps);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(result) = this.turn.read(this.inner, cx, buf) else {
            this.turn.restart(steps);
            if !this.watch.is_unfinished() {
                *this.owed = None;
                return Poll::Pending;
            }
            let timer = this.owed.get_or_insert_with(|| Box::pin(sleep(*this.owed_timeout)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(timed_out("the client does not finish what it began")));
        };
        let read = &buf.filled()[before..];
        this.watch.see(read);
        this.turn.read_some(read.len());
        if this.watch.steps() > steps {
            *this.owed = None;
        }
        if this.watch.frames().is_some_and(|frames| frames.is_flood()) {
            buf.set_filled(before);
            self.end_flood(cx);
        }
        Poll::Ready(result)
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
        let result = this.inner.poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = result {
            Self::note_sent(this.watch, this.sent, bytes, std::iter::once(buf));
        }
        watch(result, this.stalled, *this.write_timeout, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let result = this.inner.poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(bytes)) = result {
            Self::note_sent(this.watch, this.sent, bytes, bufs.iter().map(|buf| &**buf));
        }
        watch(result, this.stalled, *this.write_timeout, cx)
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
        let bytes = if this.watch.frames().is_some() { LINGER_BYTES_H2 } else { LINGER_BYTES };
        let (timer, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER)), bytes));
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::listener::{heads::TwoFramings, turn::TURN_FRAMES};

    const SECOND: Duration = Duration::from_secs(1);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    fn guarded(buffer: usize) -> (DuplexStream, Guarded<DuplexStream>, Counter) {
        let ((client, server), floods) = (duplex(buffer), Counter::default());
        let watch = Watch::new(TwoFramings::default());
        (client, Guarded::new(server, 10 * SECOND, 30 * SECOND, watch, floods.clone()), floods)
    }

    /// Whether a client that sent `bytes` and nothing more is given up.
    async fn is_given_up(bytes: &[u8]) -> bool {
        let (mut client, mut guarded, _) = guarded(1 << 10);
        client.write_all(bytes).await.unwrap();
        guarded.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
        let late = tokio::time::timeout(11 * SECOND, guarded.read_u8()).await;
        late.is_ok_and(|result| result.unwrap_err().kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_is_given_up() {
        let begun = [PREFACE, SETTINGS].concat();
        let with = |more: &[u8]| [&begun, more].concat();
        let unfinished = [
            b"".to_vec(),
            b"PRI * HTTP".to_vec(),
            PREFACE.to_vec(),
            with(&PING[..5]),
            with(&PING[..12]),
            // A header block that another frame shall end.
            with(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]),
            with(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82, 0, 0, 1, 9, 0, 0, 0, 0, 1, 0x86]),
        ];
        for bytes in unfinished {
            assert!(is_given_up(&bytes).await, "{bytes:?}");
        }
        // Hyper's own timers, and those of the body, take over.
        let finished = [
            b"GET / HTTP/1.1\r\nHo".to_vec(),
            begun.clone(),
            with(PING),
            with(&[0, 0, 5, 0, 0, 0, 0, 0, 1, b'h']),
        ];
        for bytes in finished {
            assert!(!is_given_up(&bytes).await, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trickling_is_no_progress() {
        let (mut client, mut guarded, _) = guarded(1 << 10);
        let trickle = tokio::spawn(async move {
            for byte in PREFACE {
                client.write_u8(*byte).await?;
                sleep(SECOND).await;
            }
            io::Result::Ok(())
        });
        let error = guarded.read_exact(&mut [0; 24]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        trickle.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_to_calm_down_and_ends() {
        let (mut client, mut guarded, floods) = guarded(1 << 20);
        client.write_all(&[PREFACE, SETTINGS, &PING.repeat(1_000)].concat()).await.unwrap();
        let mut read = Vec::new();
        guarded.read_to_end(&mut read).await.unwrap();
        assert!(read.len() < PREFACE.len() + SETTINGS.len() + 1_000 * PING.len());
        assert_eq!(floods.get(), 1);
        guarded.shutdown().await.unwrap();
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        assert_eq!((told[3], &told[told.len() - 14..]), (7, &b"too_many_pings"[..]), "GOAWAY");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_within_an_answer_just_ends() {
        let (mut client, mut guarded, floods) = guarded(1 << 20);
        client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        guarded.read_exact(&mut [0; 33]).await.unwrap();
        // Half of a DATA frame is on its way.
        guarded.write_all(&[0, 0, 9, 0, 0, 0, 0, 0, 1, b'h']).await.unwrap();
        client.write_all(&PING.repeat(1_000)).await.unwrap();
        guarded.read_to_end(&mut Vec::new()).await.unwrap();
        guarded.shutdown().await.unwrap();
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        assert_eq!((told.len(), floods.get()), (10, 1));
    }

    #[tokio::test]
    async fn others_have_their_turn_while_frames_keep_coming() {
        let (mut client, mut guarded, _) = guarded(1 << 20);
        // A byte of a body in each frame: no flood, and more frames than one turn takes.
        let head = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x82];
        let data = [0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'].repeat(16 * TURN_FRAMES as usize);
        client.write_all(&[PREFACE, SETTINGS, &head, &data].concat()).await.unwrap();
        let (mut turns, mut read) = (0, 0);
        std::future::poll_fn(|cx| {
            while read < PREFACE.len() + SETTINGS.len() + head.len() + data.len() {
                let mut bytes = [0; 512];
                let mut buf = ReadBuf::new(&mut bytes);
                if Pin::new(&mut guarded).poll_read(cx, &mut buf).is_pending() {
                    turns += 1;
                    return Poll::Pending;
                }
                read += buf.filled().len();
            }
            Poll::Ready(())
        })
        .await;
        assert!(turns >= 8, "{turns}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_given_up() {
        let (_client, mut guarded, _) = guarded(4);
        let error = guarded.write_all(b"too much for the buffer").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_reads_on_for_a_while() {
        let (mut client, mut guarded, _) = guarded(64);
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
