//! Two processes on one Redis: what is computed once is known to both, and forgotten by both.

use std::{
    fs,
    thread::park_timeout,
    time::{Duration, Instant},
};

use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_testbed::RedisServer;

use crate::{
    client::{Connection, Response, get, request},
    drain::serve,
    metrics::{await_metric, metric},
    server::{PATIENCE, Server, root},
};

const FILLED: &str = r#"weir_cache_filled_total{model="housing",version="1",tier="redis"}"#;

/// A replica on `redis`.
fn replica(redis: &RedisServer) -> (TempDir, Server) {
    let place = TempDir::new().unwrap();
    let text = format!(
        "[server]\nmodels = [{:?}]\n[cache]\nall = true\npurge_interval = \"100ms\"\n[redis]\nurl = {:?}\n",
        root().join("examples/models/housing"),
        redis.url()
    );
    fs::write(place.path().join("weir.toml"), text).unwrap();
    let arguments = ["--config", "weir.toml", "--admin-listen", "127.0.0.1:0"].map(str::to_owned);
    let server = Server::start(place.path(), &arguments);
    (place, server)
}

/// The answer to a row, under a directive of `Cache-Control`.
fn predict(server: &Server, income: f64, directive: &str) -> Response {
    let row = json!({"MedInc": income, "HouseAge": 41, "AveRooms": 6.9, "AveBedrms": 1, "Population": 322,
        "AveOccup": 2.5, "Latitude": 37.9, "Longitude": -122.2});
    let headers = [("Content-Type", "application/json"), ("Cache-Control", directive)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = row.to_string();
    let bytes = request("POST", "/v1/models/housing:predict", &headers, Some(body.as_bytes()));
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&bytes).unwrap();
    connection.receive(false).unwrap()
}

fn verdict(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.header("x-cache").next().unwrap_or("none").to_owned()
}

/// Computes a row until it is in Redis: what comes before Redis was reached is kept in memory alone.
fn store(server: &Server, income: f64) -> Response {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let computed = predict(server, income, "no-cache");
        assert_eq!(verdict(&computed), "miss");
        if metric(server.address, FILLED) >= 1.0 {
            return computed;
        }
        assert!(Instant::now() < deadline, "Redis is never filled");
        park_timeout(Duration::from_millis(20));
    }
}

/// The body of an answer of the admin API.
fn admin(server: &mut Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let headers = [("Host", "localhost"), ("Content-Type", "application/json")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = body.map(|body| body.to_string());
    let bytes = request(method, path, &headers, body.as_deref().map(str::as_bytes));
    let mut connection = Connection::open(server.admin()).unwrap();
    connection.send(&bytes).unwrap();
    let response = connection.receive(false).unwrap();
    (response.status, response.json())
}

#[test]
fn replicas_know_what_one_computed_and_forget_what_one_was_told_to() {
    let redis = RedisServer::start();
    let ((_place, mut first), (_other, mut second)) = (replica(&redis), replica(&redis));
    let miss = store(&first, 8.3);
    let hit = predict(&second, 8.3, "only-if-cached");
    assert_eq!((verdict(&hit), hit.text()), ("hit".into(), miss.text()), "the very same answer");

    let (status, purged) =
        admin(&mut second, "POST", "/admin/v1/cache:purge", Some(json!({"model": "housing"})));
    assert_eq!((status, &purged), (200, &json!({"memory": {"entries": 1}, "redis": {"entries": 1}})));
    assert_eq!(predict(&second, 8.3, "only-if-cached").status, 504);
    // Nothing announces to a client that the other replica has heard of it.
    let deadline = Instant::now() + PATIENCE;
    while predict(&first, 8.3, "only-if-cached").status != 504 {
        assert!(Instant::now() < deadline, "the other replica never forgot");
        park_timeout(Duration::from_millis(20));
    }
    let (_, stats) = admin(&mut first, "GET", "/admin/v1/cache", None);
    assert_eq!(stats["redis"]["nodes"][0]["breaker"], "closed", "{stats}");
    first.stop();
    second.stop();
}

#[test]
fn a_cache_that_is_off_leaves_no_trace_and_says_so() {
    let (_place, mut server) = serve(
        &["examples/models/housing"],
        "admin_listen = \"127.0.0.1:0\"\n[cache]\nenabled = false\nall = true",
    );
    for _ in 0..2 {
        let answer = predict(&server, 8.3, "no-transform");
        assert_eq!((answer.header("x-cache").count(), answer.header("age").count()), (0, 0));
    }
    assert_eq!(predict(&server, 8.3, "only-if-cached").status, 504);
    let (status, body) =
        admin(&mut server, "POST", "/admin/v1/cache:purge", Some(json!({"model": "housing"})));
    assert_eq!((status, &body["code"]), (501, &json!("unsupported")), "{body}");
    let (status, body) = admin(&mut server, "GET", "/admin/v1/cache", None);
    assert_eq!((status, body), (200, json!({"models": [], "redis": null})));
    assert!(!get(server.address, "/metrics").text().contains("weir_cache"));
    assert!(!get(server.address, "/openapi.json").text().contains("Cache-Control"));
    server.stop();
}

/// A client that sends a large body slowly leaves no room for that of a prediction, and room for an order.
#[test]
fn overload_keeps_nobody_from_purging() {
    let (_place, mut server) = serve(
        &["examples/models/housing"],
        "admin_listen = \"127.0.0.1:0\"\nmax_body = \"400B\"\nmax_body_in_flight = \"400B\"\n[cache]\nall = true",
    );
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    let slow = request("POST", "/v1/models/housing:predict", &headers, Some(&[b' '; 400]));
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&slow[..slow.len() - 1]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while predict(&server, 8.3, "no-store").status != 503 {
        assert!(Instant::now() < deadline, "the body is never held");
        park_timeout(Duration::from_millis(20));
    }
    let (status, purged) =
        admin(&mut server, "POST", "/admin/v1/cache:purge", Some(json!({"model": "housing"})));
    assert_eq!((status, purged), (200, json!({"memory": {"entries": 0}, "redis": null})));
    let large = json!({"model": "housing", "version": "1".repeat(20_000)});
    assert_eq!(admin(&mut server, "POST", "/admin/v1/cache:purge", Some(large)).0, 413);
    drop(connection);
    server.stop();
}

#[test]
fn without_its_redis_a_replica_answers_on_and_says_what_is_wrong() {
    let mut redis = RedisServer::start();
    let (_place, mut server) = replica(&redis);
    store(&server, 8.3);
    redis.kill();
    assert_eq!(verdict(&predict(&server, 8.3, "no-transform")), "hit", "from memory");
    for step in 0..20 {
        assert_eq!(verdict(&predict(&server, 1.0 + f64::from(step), "no-transform")), "miss");
    }
    await_metric(server.address, r#"weir_redis_failures_total{reason="unavailable"}"#, |n| n >= 1.0);
    let (status, purged) =
        admin(&mut server, "POST", "/admin/v1/cache:purge", Some(json!({"model": "housing"})));
    assert_eq!(status, 503, "{purged}");
    assert!(purged["redis"]["error"].is_string() && purged["memory"]["entries"] == 21, "{purged}");
    let (_, stats) = admin(&mut server, "GET", "/admin/v1/cache", None);
    let node = &stats["redis"]["nodes"][0];
    assert!(node["breaker"] != "closed" && node["trouble"].is_string(), "{stats}");
    redis.restart();
    let node = format!("weir_redis_node_breaker{{node=\"127.0.0.1:{}\"}}", redis.port());
    let deadline = Instant::now() + PATIENCE;
    while predict(&server, 99.0, "no-cache").status != 200 || metric(server.address, &node) != 0.0 {
        assert!(Instant::now() < deadline, "the breaker stays open");
        park_timeout(Duration::from_millis(20));
    }
    assert!(!Regex::new("panick").unwrap().is_match(&server.log()));
    server.stop();
}

/// Wall time is not asserted here: how long each look-up may take is the timeout's business, so this
/// counts those that waited for it. `make bench-outage` measures the time.
#[test]
fn a_redis_that_hangs_is_waited_for_a_few_times_and_then_not() {
    let redis = RedisServer::start();
    let (_place, server) = replica(&redis);
    store(&server, 8.3);
    let failures =
        |reason: &str| metric(server.address, &format!("weir_redis_failures_total{{reason={reason:?}}}"));
    let timeouts = || failures("timeout");
    let node = |name: &str| {
        metric(server.address, &format!("weir_redis_node_{name}{{node=\"127.0.0.1:{}\"}}", redis.port()))
    };
    let before = timeouts();
    redis.stop();
    let mut asked = 0.0;
    while node("breaker") == 0.0 {
        assert_eq!(verdict(&predict(&server, 100.0 + asked, "no-transform")), "miss");
        asked += 1.0;
        assert!(asked < 200.0, "the breaker never opens");
    }
    // Five failures in a row open it; the fills and the keeper that fail at the same time wait for themselves.
    assert!(asked <= 20.0, "{asked} predictions waited, and {} calls in all", timeouts() - before);
    let (waited, refused) = (timeouts(), failures("unavailable"));
    for income in 0..100 {
        assert_eq!(verdict(&predict(&server, 300.0 + f64::from(income), "no-transform")), "miss");
    }
    assert!(failures("unavailable") - refused >= 100.0, "each look-up came back at once");
    // Those of the keeper, which asks four times a second whether it is back.
    assert!(timeouts() - waited < 20.0, "{} look-ups waited", timeouts() - waited);
    redis.cont();
    await_metric(
        server.address,
        &format!("weir_redis_node_breaker{{node=\"127.0.0.1:{}\"}}", redis.port()),
        |n| n == 0.0,
    );
    assert_eq!(verdict(&predict(&server, 8.3, "max-age=60")), "hit");
    server.stop();
}
