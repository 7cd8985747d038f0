//! What the log is told: once when it begins and once when it is over.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::subscriber::{DefaultGuard, set_default};
use weir_clients::{
    BreakerState,
    redis::{Redis, RedisConfig},
};
use weir_testbed::RedisServer;

use super::{config, plain, redis, until};

/// What this thread logs, on which all tasks of a test run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (log, set_default(subscriber.finish()))
    }

    /// The lines since the last call.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

async fn ask_often(redis: &Redis) {
    for _ in 0..100 {
        let _ = redis.get_many(&["a"]).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn going_away_and_coming_back_are_a_line_each() {
    let (log, _guard) = Log::start();
    let mut server = RedisServer::start();
    let redis = redis(server.url());
    redis.set_many(&[plain(b"a", b"1")]).await.unwrap();
    assert_eq!(log.lines(), [""; 0], "all is well");
    for _ in 0..2 {
        server.kill();
        until(
            async || redis.get_many(&["a"]).await.is_err() && redis.stats().breaker() == BreakerState::Open,
            |away| *away,
        )
        .await;
        ask_often(&redis).await;
        let told = log.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        let address = server.url().replace("redis://", "");
        let reason = ["WARN", "Redis is away: ", &address, "refused"];
        assert!(reason.iter().all(|part| told[0].contains(part)), "{told:?}");
        server.restart();
        until(async || redis.get_many(&["a"]).await.is_ok(), |back| *back).await;
        ask_often(&redis).await;
        let told = log.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("INFO") && told[0].ends_with(&format!("Redis is back: {address}")),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_with_the_reason_and_without_the_password() {
    let (log, _guard) = Log::start();
    let server = RedisServer::start();
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "geheim"]);
    let password_file = Some(server.file("wrong", "falsch"));
    let redis = Redis::new(&RedisConfig { password_file, ..config(server.url()) }).unwrap();
    ask_often(&redis).await;
    let told = log.lines();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("uthentication") && !told[0].contains("falsch"), "{told:?}");
}

#[tokio::test]
async fn what_it_refuses_is_told_once_a_kind_and_is_no_outage() {
    let (log, _guard) = Log::start();
    let server = RedisServer::start();
    let redis = redis(server.url());
    server.ask::<i64>(&["LPUSH", "weir:a", "x"]);
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..20 {
        assert!(redis.set_many(&[plain(b"b", b"1")]).await.is_err());
        assert!(redis.get_many(&["a"]).await.is_err());
    }
    let told = log.lines();
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, code) in told.iter().zip(["OOM", "WRONGTYPE"]) {
        assert!(
            line.contains("WARN") && line.contains("Redis refuses commands") && line.contains(code),
            "{line}"
        );
    }
}
