//! Who may do what, over a socket.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use weir_config::HumanDuration;
use weir_features::{Features, Idempotency, IdempotencyConfig, Memory, ViewConfig, Views};
use weir_serving::ServingSnapshot;
use weir_types::{Access, Authorizer, Credentials, Error, ErrorCode, Grant, Principal, SystemClock};

use super::State;
use crate::{Server, config::ServerConfig};

/// Lets in whoever says a name, and notes what was asked for.
#[derive(Default)]
struct ByName(Mutex<Vec<String>>);

impl Authorizer for ByName {
    fn authorize(&self, credentials: Credentials<'_>, access: Access<'_>) -> Result<Grant, Error> {
        self.0.lock().unwrap().push(format!("{access:?}"));
        let nobody = || Error::new(ErrorCode::Unauthenticated, "who are you?");
        let name = credentials.authorization.ok_or_else(nobody)?;
        Ok(Grant::mint(self, Principal::new(name)))
    }
}

struct Running {
    address: SocketAddr,
    asked: Arc<ByName>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<usize>,
}

impl Running {
    async fn start() -> Self {
        let views = r#"[{"name": "user", "entity": "id", "feature": [{"name": "age", "dtype": "int32"}]},
            {"name": "sums", "entity": "id", "stream": "s",
             "feature": [{"name": "n", "aggregate": "count", "window": "1d", "slide": "1h"}]}]"#;
        let views: Vec<ViewConfig> = serde_json::from_str(views).unwrap();
        let clock = Arc::new(SystemClock);
        let store = Arc::new(Memory::new(1 << 20, clock.clone()));
        let ahead = Duration::from_secs(60);
        let features = Features::new(Views::new(&views).unwrap(), store.clone(), clock.clone(), ahead);
        let idempotency = Idempotency::new(&IdempotencyConfig::default(), store.clone(), clock.clone());
        let state = State { features: Some(features), store: Some(store), idempotency: Some(idempotency) };
        let config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            drain_delay: HumanDuration::from_secs(0),
            ..ServerConfig::default()
        };
        let asked = Arc::new(ByName::default());
        let snapshot = ServingSnapshot::default();
        let server = Server::with_state(config, Vec::new(), snapshot, state, (asked.clone(), clock));
        let bound = server.unwrap().bind().await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let address = bound.address().unwrap();
        let ended = tokio::spawn(bound.run(async { drop(stopped.await) }));
        Self { address, asked, stop, ended }
    }

    /// The answer to a request whose body may never come.
    async fn ask(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn event(&self, name: &str) -> String {
        let body = r#"{"entity": "a"}"#;
        let head = format!(
            "POST /v1/events/s HTTP/1.1\r\nAuthorization: {name}\r\nIdempotency-Key: k\r\nContent-Length: {}",
            body.len()
        );
        self.ask(&head, body).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap();
    }
}

#[tokio::test]
async fn access_is_decided_before_a_body_is_read() {
    let running = Running::start().await;
    for (route, access) in [
        ("GET /v1/features/user/a", "ReadFeatures(\"user\")"),
        ("PUT /v1/features/user/a", "WriteFeatures(\"user\")"),
        ("DELETE /v1/features/user/a", "WriteFeatures(\"user\")"),
        ("POST /v1/features/user", "WriteFeatures(\"user\")"),
        ("POST /v1/events/s", "SendEvents(\"s\")"),
    ] {
        let answer = running.ask(&format!("{route} HTTP/1.1\r\nContent-Length: 100"), "").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{route}: {answer}");
        assert_eq!(running.asked.0.lock().unwrap().pop().as_deref(), Some(access), "{route}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_caller() {
    let running = Running::start().await;
    for name in ["ann", "bob"] {
        let first = running.event(name).await;
        assert!(first.starts_with("HTTP/1.1 200") && !first.contains("idempotency-replayed"), "{first}");
        assert!(running.event(name).await.contains("idempotency-replayed: true"), "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_view_or_stream_that_there_is_not_is_told_with_those_there_are() {
    let running = Running::start().await;
    for (path, told) in [
        ("/v1/features/usr/a", "there is no feature view `usr`: did you mean `user`?"),
        ("/v1/features/usr", "there is no feature view `usr`: did you mean `user`?"),
        ("/v1/events/arrivals", "no feature view is fed by a stream `arrivals`, only `s`"),
        ("/v1/features/", "Not Found"),
        ("/v1/features/user/a/b", "Not Found"),
        ("/v1/feature/usr", "Not Found"),
    ] {
        let answer = running.ask(&format!("POST {path} HTTP/1.1\r\nAuthorization: ann"), "").await;
        let body = format!(r#"{{"detail":"{told}"}}"#);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with(&body), "{path}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn an_entity_of_the_path_is_bounded_in_bytes_and_told_to_be_in_the_path() {
    let running = Running::start().await;
    let entity = "%C3%A9".repeat(129);
    for method in ["GET", "PUT", "DELETE"] {
        let head = format!("{method} /v1/features/user/{entity} HTTP/1.1\r\nAuthorization: ann");
        let answer = running.ask(&head, "").await;
        let loc = r#""loc":["path","entity"],"msg":"An entity's name takes at most 256 bytes"#;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains(loc), "{method}: {answer}");
    }
    running.stop().await;
}
