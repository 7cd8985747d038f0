use tokio::{net::TcpListener, task::LocalSet};

use super::*;

#[test]
fn a_timeout_has_at_most_eight_digits() {
    for (left, want) in [
        (Duration::ZERO, "1u"),
        (Duration::from_micros(50_000), "50000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(1_000_000), "99999999m"),
    ] {
        assert_eq!(timeout(left), want);
    }
}

#[test]
fn a_message_is_as_long_as_its_prefix_says() {
    assert_eq!(prefix(&[0, 0, 0, 1, 2, 9]), Some(258));
    assert_eq!(prefix(&[1, 0, 0, 0, 1, 9]), None);
    assert_eq!(prefix(&[0, 0]), None);
}

fn response(status: u16, headers: &[(&str, &str)]) -> http::Response<()> {
    let builder = http::Response::builder().status(status);
    headers.iter().fold(builder, |b, (name, value)| b.header(*name, *value)).body(()).unwrap()
}

/// Answers calls in the order in which they come, and says what each asked for as its message.
async fn serve(listener: TcpListener) {
    let mut count = 0;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            count += 1;
            match count {
                1 | 7 => {
                    let timeout =
                        request.headers().get("grpc-timeout").map_or("none", |t| t.to_str().unwrap());
                    let words = format!("{} {timeout}", request.uri().path());
                    let mut send = respond.send_response(response(200, &[]), false).unwrap();
                    let message = [&[0, 0, 0, 0, words.len() as u8], words.as_bytes()].concat();
                    send.send_data(message.into(), false).unwrap();
                    let trailers = response(200, &[("grpc-status", "0")]).headers().clone();
                    send.send_trailers(trailers).unwrap();
                }
                2 => {
                    let refused = [("grpc-status", "14"), ("grpc-message", "busy"), ("retry-after", "1")];
                    respond.send_response(response(200, &refused), true).unwrap();
                }
                3 => drop(respond.send_response(response(503, &[]), true).unwrap()),
                4 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                5 => drop(respond.send_response(response(200, &[("grpc-status", "0")]), true).unwrap()),
                // The connection ends with the answer outstanding; the next call opens another.
                _ => break,
            }
        }
    }
}

#[tokio::test]
async fn whatever_comes_back_has_its_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener));
    let request = Request { wire: Bytes::from_static(&[0; 5]), slots: Vec::new(), rows: 1, expected: None };
    let work = async {
        let channels = Channels::new(address, "host:1", "/package.Service/Method", 2).unwrap();
        let mut client = Grpc::new(channels, 1);
        let mut told = Vec::new();
        for n in 0..7 {
            let left = (n == 0).then_some(Duration::from_millis(250));
            let reply = client.call(&request, left, Instant::now() + Duration::from_secs(20)).await;
            let message = String::from_utf8_lossy(client.answer().0).into_owned();
            told.push((reply.outcome, reply.status, reply.retry_after, message));
        }
        told
    };
    let told = LocalSet::new().run_until(work).await;
    let want = [
        (Outcome::Ok, 0, false, "/package.Service/Method 250000u"),
        (Outcome::Refused, 14, true, ""),
        (Outcome::Refused, 14, false, ""),
        (Outcome::Refused, 0, false, ""),
        (Outcome::Transport, 0, false, ""),
        (Outcome::Transport, 0, false, ""),
        (Outcome::Ok, 0, false, "/package.Service/Method none"),
    ];
    assert_eq!(told, want.map(|(outcome, status, later, words)| (outcome, status, later, words.to_owned())));
}

#[tokio::test]
async fn a_call_without_an_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let request = Request { wire: Bytes::from_static(&[0; 5]), slots: Vec::new(), rows: 1, expected: None };
    let work = async {
        // Nobody accepts: the connection is open, and stays silent.
        let mut client = Grpc::new(Channels::new(address, "h", "/m", 1).unwrap(), 0);
        client.call(&request, None, Instant::now() + Duration::from_millis(20)).await.outcome
    };
    assert_eq!(LocalSet::new().run_until(work).await, Outcome::Timeout);
    drop(listener);
}
