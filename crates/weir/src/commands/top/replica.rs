//! One server that is watched: asked again and again by a thread of its own, so that one that is
//! away or slow delays no other.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use weir_clients::{Client, plain};

use super::figures::{Figures, Rates};
use crate::exposition;

/// Longest wait for an answer: a server that takes longer counts as away.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What one look found, or why it found nothing, and when it was over.
pub(super) type Look = (Instant, Result<Figures, String>);

/// What is known of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) url: String,
    pub(super) last: Option<(Instant, Figures)>,
    /// Of the last interval; nothing until it was looked at twice in a row.
    pub(super) rates: Option<Rates>,
    /// Why it did not answer the last time.
    pub(super) away: Option<String>,
}

impl Replica {
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// Takes in what a look found.
    pub(super) fn take(&mut self, (at, found): Look) {
        match found {
            Ok(figures) => {
                let earlier = self.last.take();
                self.rates = earlier.map(|(before, earlier)| Rates::between(&earlier, &figures, at - before));
                self.last = Some((at, figures));
                self.away = None;
            }
            Err(why) => {
                (self.last, self.rates) = (None, None);
                // It may repeat what came: nothing of it may steer a terminal.
                self.away = Some(plain(&why));
            }
        }
    }
}

/// Looks at `url` once.
pub(super) fn look(client: &Client) -> Look {
    let found = client.get("/metrics").map_err(|e| e.to_string()).and_then(|reply| match reply.status {
        200 => exposition::parse(&reply.body)
            .map(|exposition| Figures::of(&exposition))
            .map_err(|e| format!("/metrics cannot be read: {e}")),
        status => Err(format!("/metrics answers {status}: see `metrics_listen` of that server")),
    });
    (Instant::now(), found)
}

/// How a server is asked.
pub(super) fn client(url: &str) -> Client {
    let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    Client::new(&base, PATIENCE)
}

/// Looks at each of `urls` every `interval`, each on a thread of its own, until nobody listens.
///
/// # Errors
/// Where the system gives no thread.
pub(super) fn watch<T: Send + 'static>(
    urls: &[String],
    interval: Duration,
    told: &SyncSender<T>,
    tell: fn(usize, Look) -> T,
) -> std::io::Result<()> {
    for (number, url) in urls.iter().enumerate() {
        let (client, told) = (client(url), told.clone());
        // Nobody ever sends: the wait for it is the pause, and ends with the process.
        let (never, pause): (SyncSender<()>, Receiver<()>) = sync_channel(0);
        thread::Builder::new().name("weir-top-look".into()).spawn(move || {
            let _never = never;
            loop {
                let begun = Instant::now();
                if told.send(tell(number, look(&client))).is_err() {
                    return;
                }
                let _ = pause.recv_timeout(interval.saturating_sub(begun.elapsed()));
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    /// A server that answers once.
    fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let _ = stream.write_all(answer);
        });
        url
    }

    fn found(answer: &'static [u8]) -> Result<Figures, String> {
        look(&client(&answering(answer))).1
    }

    #[test]
    fn what_does_not_answer_as_weir_does_is_away_and_says_why() {
        let good = found(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nweir_ready 1\n").unwrap();
        assert_eq!(good.server.ready, Some(true));
        let other = found(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n<html>\n").unwrap_err();
        assert!(other.contains("cannot be read: line 1"), "{other}");
        let elsewhere = found(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n").unwrap_err();
        assert!(elsewhere.contains("404") && elsewhere.contains("metrics_listen"), "{elsewhere}");
        let endless = found(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nweir_ready 1\n");
        assert!(endless.is_err());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(look(&client(&closed)).1.is_err());
    }

    #[test]
    fn rates_need_two_looks_in_a_row() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut replica = Replica::new("x");
        replica.take((start, Ok(Figures::default())));
        assert!(replica.rates.is_none() && replica.away.is_none());
        replica.take((start + second, Ok(Figures::default())));
        assert!(replica.rates.is_some());
        replica.take((start + 2 * second, Err("refused".into())));
        assert!(replica.rates.is_none() && replica.away.is_some());
        replica.take((start + 3 * second, Ok(Figures::default())));
        assert!(replica.rates.is_none(), "nothing is known of the time between");
    }
}
