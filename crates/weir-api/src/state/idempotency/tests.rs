//! What makes a request the same, and that it runs once.

use std::{collections::HashSet, sync::Arc};

use http::Request;
use weir_features::{IdempotencyConfig, Memory};
use weir_types::{Clock, SystemClock};

use super::*;
use crate::respond;

fn print(headers: &[(&str, &str)]) -> [u8; 32] {
    let mut request = Request::post("/v1/models/m:predict?outputs=a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fingerprint(&request.body(()).unwrap().into_parts().0, &Bytes::from_static(b"[1]"))
}

#[test]
fn another_step_or_sequence_is_another_request() {
    let steps = [
        &[][..],
        &[("sequence-id", "a")],
        &[("sequence-id", "b")],
        &[("sequence-id", "a"), ("sequence-start", "true")],
        &[("sequence-id", "a"), ("sequence-end", "true")],
        &[("sequence-id", "a"), ("sequence-start", "true"), ("sequence-end", "true")],
        &[("sequence-id", "atrue")],
    ];
    let prints: HashSet<_> = steps.iter().map(|headers| print(headers)).collect();
    assert_eq!(prints.len(), steps.len());
    assert_eq!(print(&[("sequence-id", "a"), ("x", "1")]), print(&[("x", "2"), ("sequence-id", "a")]));
    // What was kept before sequences were is still the answer to what names none.
    let mut before = Sha256::new();
    for part in [&b"outputs=a"[..], b"", b"[1]"] {
        before.update((part.len() as u64).to_le_bytes());
        before.update(part);
    }
    assert_eq!(print(&[]), <[u8; 32]>::from(before.finalize()));
}

#[test]
fn another_framing_is_another_request() {
    let framings = [
        &[][..],
        &[("inference-header-content-length", "3")],
        &[("inference-header-content-length", "0")],
        &[("content-encoding", "gzip")],
        &[("content-encoding", "gzip"), ("inference-header-content-length", "3")],
        &[("sequence-id", "3")],
    ];
    let prints: HashSet<_> = framings.iter().map(|headers| print(headers)).collect();
    assert_eq!(prints.len(), framings.len());
}

fn once(service: &Idempotency) -> Once {
    let deadline = Deadline::after(SystemClock.now(), Duration::from_secs(60));
    let (service, keys) = (service.clone(), KeyMetrics::default());
    Once {
        service,
        scope: String::new(),
        key: "k".into(),
        fingerprint: [1; 32],
        deadline,
        keys,
        binding: false,
    }
}

fn service() -> Idempotency {
    let clock = Arc::new(SystemClock);
    let config = IdempotencyConfig { max_answer: weir_config::ByteSize::kib(1), ..Default::default() };
    Idempotency::new(&config, Arc::new(Memory::new(1 << 20, clock.clone())), clock)
}

fn answer(bytes: usize) -> Result<Response<Body>, Error> {
    Ok(respond::json(StatusCode::OK, vec![b'7'; bytes]))
}

#[tokio::test]
async fn what_changes_something_is_done_to_the_end_and_once() {
    let service = service();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go, gate) = tokio::sync::oneshot::channel();
    let (over, is_over) = tokio::sync::oneshot::channel();
    let work = async move {
        begun.send(()).unwrap();
        gate.await.unwrap();
        over.send(()).unwrap();
        answer(1)
    };
    let mut call = Box::pin(once(&service).binding(work));
    tokio::select! {
        biased;
        began = has_begun => began.unwrap(),
        _ = &mut call => panic!("nobody said go"),
    }
    drop(call); // the client goes away
    go.send(()).unwrap();
    is_over.await.unwrap();
    let again = loop {
        match once(&service).run::<Error>(async { unreachable!("it has been done") }).await {
            Ok(response) => break response,
            Err(error) if error.code == ErrorCode::Conflict => tokio::task::yield_now().await,
            Err(_) => panic!("neither running nor done"),
        }
    };
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.headers()[REPLAYED], "true");
}

#[tokio::test]
async fn what_runs_is_not_begun_twice_and_the_other_is_told_when_to_ask() {
    let service = service();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go, gate) = tokio::sync::oneshot::channel();
    let first = once(&service).run(async move {
        begun.send(()).unwrap();
        gate.await.unwrap();
        answer(1)
    });
    let second = async {
        has_begun.await.unwrap();
        let told = once(&service).run::<Error>(async { unreachable!("it is being done") }).await;
        go.send(()).unwrap();
        told.unwrap_err()
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok_and(|response| response.status() == StatusCode::OK));
    assert_eq!((second.code, second.retry_after), (ErrorCode::Conflict, Some(AGAIN)));
}

#[tokio::test]
async fn what_was_done_and_answered_at_length_is_not_done_again() {
    let service = service();
    let first = once(&service).binding(async { answer(5000) }).await;
    assert!(first.is_ok_and(|response| response.status() == StatusCode::OK));
    let again = once(&service).binding::<Error>(async { unreachable!("it has been done") }).await;
    let error = again.unwrap_err();
    assert!(error.code == ErrorCode::Conflict && error.message.contains("was done"), "{error}");
    // What changes nothing may run again.
    let service = self::service();
    for _ in 0..2 {
        let same = once(&service).run(async { answer(5000) });
        assert!(same.await.is_ok_and(|response| response.status() == StatusCode::OK));
        tokio::task::yield_now().await; // the key is freed in the background
    }
}

fn of(values: &[&str]) -> Result<Option<String>, Error> {
    let mut headers = HeaderMap::new();
    values.iter().for_each(|value| {
        headers.append(KEY, value.parse().unwrap());
    });
    key(&headers)
}

#[test]
fn a_key_is_bare_or_a_structured_string() {
    assert_eq!(of(&[]), Ok(None));
    for written in ["abc-1", "\"abc-1\"", " abc-1 "] {
        assert_eq!(of(&[written]), Ok(Some("abc-1".into())), "{written}");
    }
    assert!(of(&["a", "a"]).is_err());
    for none in ["\"\"", "", "\"", "\"half"] {
        assert!(of(&[none]).is_err(), "{none}");
    }
    let half = of(&["\"zz"]).unwrap_err();
    assert!(half.message.contains("quote"), "{half}");
}
