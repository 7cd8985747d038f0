//! What goes over the wire, and what ends a call.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;
use weir_clients::{CallError, GrpcPool, PoolOptions, Trust};
use weir_testbed::Certificates;

use crate::server::{Asked, Said, serve, serve_securely};

const TIMEOUT: Duration = Duration::from_secs(30);

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
}

/// Echoes the message; other paths fail, before or behind one.
fn echo(asked: Asked) -> Said {
    assert_eq!(asked.headers["content-type"], "application/grpc");
    assert_eq!(asked.headers["te"], "trailers");
    assert_eq!(asked.headers["grpc-timeout"], "30000000u");
    match asked.path.as_str() {
        "/s/Echo" => Some((HeaderMap::new(), asked.body, status("0"))),
        "/s/Refuse" => Some((status("3"), Bytes::new(), HeaderMap::new())),
        "/s/Late" => Some((HeaderMap::new(), asked.body, status("14"))),
        _ => None,
    }
}

async fn pool(left: &Arc<Notify>) -> GrpcPool {
    let address = serve(echo, left.clone()).await;
    GrpcPool::new(&format!("grpc://{address}"), &PoolOptions::default()).unwrap()
}

#[tokio::test]
async fn messages_go_and_come_and_statuses_are_found_in_both_places() {
    let pool = pool(&Arc::default()).await;
    for message in [&b""[..], b"abc", &[7; 300_000]] {
        assert_eq!(pool.unary("/s/Echo", message, TIMEOUT).await.unwrap(), message);
    }
    let refused = pool.unary("/s/Refuse", b"x", TIMEOUT).await;
    assert_eq!(refused, Err(CallError::Status { status: 400, text: String::new() }));
    let late = pool.unary("/s/Late", b"x", TIMEOUT).await.unwrap_err();
    assert!(matches!(late, CallError::Overloaded { status: 503, .. }), "a status behind a message counts");
}

#[tokio::test]
async fn a_dropped_call_resets_its_stream_and_no_other() {
    let left = Arc::new(Notify::new());
    let pool = pool(&left).await;
    let mut stays = Box::pin(pool.unary("/s/Wait", b"stays", TIMEOUT));
    let goes = Box::pin(pool.unary("/s/Wait", b"goes", TIMEOUT));
    tokio::select! {
        biased;
        _ = &mut stays => panic!("nobody answers"),
        _ = goes => panic!("nobody answers"),
        answer = pool.unary("/s/Echo", b"x", TIMEOUT) => assert_eq!(answer.unwrap(), "x"),
    }
    // The select has dropped one of the two that wait.
    left.notified().await;
    let still = tokio::time::timeout(Duration::from_millis(20), left.notified());
    tokio::select! {
        _ = &mut stays => panic!("nobody answers"),
        ended = still => assert!(ended.is_err(), "the other call is still under way"),
    }
}

#[tokio::test]
async fn answers_are_bounded_over_http2_too() {
    let address = serve(echo, Arc::default()).await;
    let options = PoolOptions { max_answer_bytes: 1_000, ..PoolOptions::default() };
    let pool = GrpcPool::new(&format!("grpc://{address}"), &options).unwrap();
    assert_eq!(pool.unary("/s/Echo", &[0; 995], TIMEOUT).await.unwrap().len(), 995);
    let error = pool.unary("/s/Echo", &[0; 996], TIMEOUT).await.unwrap_err();
    assert!(matches!(error, CallError::Broken(_)), "{error}");
}

#[tokio::test]
async fn over_tls_a_server_is_asked_whom_the_named_authority_vouches_for_and_no_other() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificates = Certificates::new(folder.path());
    let stranger = Certificates::new(other.path());
    let address = serve_securely(echo, certificates.acceptor("h2")).await;
    let ask = async |ca: Option<&Path>| {
        let trust = Trust::new(ca).unwrap();
        let pool = GrpcPool::secure(&format!("grpcs://{address}"), &PoolOptions::default(), &trust).unwrap();
        pool.unary("/s/Echo", b"abc", TIMEOUT).await
    };
    assert_eq!(ask(Some(&certificates.ca)).await.unwrap(), "abc");
    for untrusted in [None, Some(&*stranger.ca)] {
        let error = ask(untrusted).await.unwrap_err();
        assert!(matches!(error, CallError::Untrusted(_)), "{error:?}");
    }
    let plainly = GrpcPool::new(&format!("grpc://{address}"), &PoolOptions::default()).unwrap();
    let error = plainly.unary("/s/Echo", b"abc", TIMEOUT).await.unwrap_err();
    assert!(matches!(error, CallError::Connection(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_none() {
    let address = serve(echo, Arc::default()).await;
    let trust = Trust::new(None).unwrap();
    let pool = GrpcPool::secure(&format!("grpcs://{address}"), &PoolOptions::default(), &trust).unwrap();
    let error = pool.unary("/s/Echo", b"abc", TIMEOUT).await.unwrap_err();
    assert!(matches!(error, CallError::Connection(_)), "{error:?}");
}
