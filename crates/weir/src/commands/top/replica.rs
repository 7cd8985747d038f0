//! One server that is watched: asked again and again by a thread of its own, so that one that is
//! away or slow delays no other.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use http::Uri;
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
    Client::new(&base(url), PATIENCE)
}

/// The address with its scheme, which may be left out.
fn base(url: &str) -> String {
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

/// Whether each of `urls` may be the address of a server.
///
/// # Errors
/// Every one that is none, with what it should be.
pub(super) fn check(urls: &[String]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    let wrong: Vec<_> = urls
        .iter()
        .filter_map(|url| {
            let address = base(url).trim_end_matches('/').to_lowercase();
            let twice =
                (!seen.insert(address)).then(|| "is named twice: it would be counted twice".to_owned());
            let why = address_of(url).err().or(twice)?;
            // What stands before the host may be a password.
            let shown = url.rsplit_once('@').map_or_else(|| url.clone(), |(_, host)| format!("***@{host}"));
            Some(format!("{} {why}", plain(&shown)))
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(anyhow!(wrong.join("\n"))) }
}

fn address_of(url: &str) -> Result<(), String> {
    const LIKE: &str = "such as http://127.0.0.1:8000";
    let uri: Uri = base(url).parse().map_err(|e| format!("is no address ({e}), {LIKE}"))?;
    match (uri.scheme_str(), uri.host(), uri.authority()) {
        (Some("https"), ..) => {
            Err("is asked by http:// alone: /metrics is for the inside of a network".to_owned())
        }
        (Some("http"), Some(host), Some(authority)) if !host.is_empty() => match authority.as_str() {
            text if text.contains('@') => Err("holds a name or a password: /metrics takes none".to_owned()),
            // Behind the host is a port, or what should be one.
            text if text.len() > host.len() && !matches!(uri.port_u16(), Some(1..)) => {
                Err(format!("has no port that could be asked, {LIKE}"))
            }
            _ if uri.query().is_some() => Err(format!("has a query: name the server alone, {LIKE}")),
            _ => Ok(()),
        },
        (Some("http"), ..) => Err(format!("names no host, {LIKE}")),
        _ => Err(format!("does not begin with http://, {LIKE}")),
    }
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
    fn every_address_that_is_none_is_told_before_any_is_asked() {
        let of = |urls: &[&str]| check(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        for good in [
            &["127.0.0.1:8000", "http://[::1]:8000/", "weir", "http://weir.models.svc/prefix", "localhost:9"]
                [..],
            &["a:1", "a:2"],
        ] {
            of(good).unwrap();
        }
        for (bad, why) in [
            ("", "no address"),
            ("http://", "no"),
            ("https://weir:8000", "http:// alone"),
            ("ftp://weir", "begin with http://"),
            ("weir:80000", "port"),
            ("weir:", "port"),
            ("weir:0", "port"),
            ("a b", "no address"),
            ("http://me:secret@weir", "password"),
            ("http://weir/?a=b", "query"),
            ("\u{1b}[2J", "no address"),
        ] {
            let told = of(&[bad]).unwrap_err().to_string();
            assert!(told.contains(why), "{bad:?}: {told}");
            assert!(!told.contains('\u{1b}') && !told.contains("secret"), "{bad:?}: {told}");
        }
        let told = of(&["weir:8000", "ftp://a", "http://WEIR:8000/", "a b"]).unwrap_err().to_string();
        assert_eq!(told.lines().count(), 3, "all at once: {told}");
        assert!(told.contains("http://WEIR:8000/ is named twice"), "{told}");
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
