use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;

/// A server that answers each request (of 4 bytes) on each connection with the next of `answers`,
/// written in pieces of `piece` bytes; after an answer that ends with `!` it closes.
async fn server(answers: &'static [&'static str], piece: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 4];
            while stream.read_exact(&mut request).await.is_ok() {
                let Some(answer) = answers.next() else { return };
                for part in answer.trim_end_matches('!').as_bytes().chunks(piece) {
                    stream.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                if answer.ends_with('!') {
                    break;
                }
            }
        }
    });
    address
}

fn request() -> Arc<Request> {
    Arc::new(Request { wire: Bytes::from_static(b"ask\n"), slots: Vec::new(), rows: 1, expected: None })
}

async fn ask(client: &mut Http1) -> (Reply, String) {
    let reply = client.call(&request(), None, Instant::now() + Duration::from_secs(20)).await;
    (reply, String::from_utf8_lossy(client.answer().0).into_owned())
}

#[tokio::test]
async fn answers_of_every_framing_are_read_in_pieces_of_any_size() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 204 Nothing\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlast!",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end!",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain",
    ];
    for piece in [1, 7, 4096] {
        let mut client = Http1::new(server(ANSWERS, piece).await);
        let mut got = Vec::new();
        for _ in ANSWERS {
            let (reply, body) = ask(&mut client).await;
            got.push((reply.status, reply.retry_after, body));
        }
        let want = [
            (200, false, "first"),
            (503, true, "no"),
            (200, false, "abcde"),
            (204, false, ""),
            (200, false, "last"),
            (200, false, "until the end"),
            (200, false, "again"),
        ];
        assert_eq!(got, want.map(|(status, later, body)| (status, later, body.to_owned())));
    }
}

#[tokio::test]
async fn what_breaks_is_told_and_the_next_request_has_a_new_connection() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort!",
        "SSH-2.0\r\n\r\n!",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n!",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ];
    let mut client = Http1::new(server(ANSWERS, 4096).await);
    for part in ["closed", "no HTTP", "chunk"] {
        assert_eq!(ask(&mut client).await.0.outcome, Outcome::Transport);
        assert!(client.reason().contains(part), "{}", client.reason());
    }
    assert_eq!(ask(&mut client).await.1, "ok");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_opened_again() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none!",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo",
    ];
    let mut client = Http1::new(server(ANSWERS, 4096).await);
    assert_eq!(ask(&mut client).await.1, "one");
    // The end of the stream has come when reading tells so.
    client.stream.as_ref().unwrap().readable().await.unwrap();
    assert_eq!(ask(&mut client).await.1, "two");
}

#[tokio::test]
async fn waiting_ends_when_it_has_to() {
    let mut client = Http1::new(server(&["HTTP/1.1 200 OK\r\n"], 4096).await);
    let reply = client.call(&request(), None, Instant::now() + Duration::from_millis(20)).await;
    assert_eq!(reply.outcome, Outcome::Timeout);
}
