//! Online state of real servers: killed while events come in, and two of them on one Redis.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_testbed::RedisServer;

use crate::{
    client::{Connection, Response, request},
    server::{Server, root},
};

const VIEWS: &str = r#"
[server]
models = ["housing"]
[[view]]
name = "census"
entity = "block_id"
key = "int64"
[[view.feature]]
name = "income"
dtype = "float32"
[[view]]
name = "people"
entity = "block_id"
key = "int64"
stream = "arrivals"
lateness = "1h"
[[view.feature]]
name = "population"
aggregate = "sum"
of = "people"
window = "1d"
slide = "1h"
"#;

/// A folder with a model that looks two of its fields up, and a configuration.
pub(crate) fn folder(state: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("housing");
    fs::create_dir(&model).unwrap();
    let example = root().join("examples/models/housing");
    fs::copy(example.join("model.onnx"), model.join("model.onnx")).unwrap();
    let manifest = fs::read_to_string(example.join("model.toml")).unwrap();
    let from = |field: &str, feature: &str| {
        (format!("name = \"{field}\"\n"), format!("name = \"{field}\"\nfrom = \"{feature}\"\n"))
    };
    let fields = [from("MedInc", "census.income"), from("Population", "people.population")];
    let manifest = fields.iter().fold(manifest, |text, (old, new)| text.replace(old, new));
    fs::write(model.join("model.toml"), manifest.replace("samples = \"samples.jsonl\"", "")).unwrap();
    fs::write(folder.path().join("weir.toml"), format!("{state}\n{VIEWS}")).unwrap();
    folder
}

pub(crate) fn serve(folder: &Path) -> Server {
    Server::start(folder, &["--config".to_owned(), "weir.toml".to_owned()])
}

fn explicit() -> Value {
    json!({"MedInc": 4.375, "HouseAge": 38.0, "AveRooms": 5.4, "AveBedrms": 0.97, "Population": 828,
           "AveOccup": 3.49, "Latitude": 34.18, "Longitude": -118.17})
}

fn keyed() -> Value {
    let mut row = explicit();
    let row_map = row.as_object_mut().unwrap();
    row_map.remove("MedInc");
    row_map.remove("Population");
    row_map.insert("block_id".into(), json!(42));
    row
}

struct Client(Connection);

impl Client {
    fn open(address: SocketAddr) -> Self {
        Self(Connection::open(address).unwrap())
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> std::io::Result<Response> {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(key.map(|key| ("Idempotency-Key".to_owned(), key.to_owned())));
        let body = body.map(Value::to_string);
        self.0.send(&request(method, path, &headers, body.as_deref().map(str::as_bytes)))?;
        self.0.receive(false)
    }

    /// The answer, which must be a success.
    fn ok(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let response = self.send(method, path, None, body).unwrap();
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        response.json()
    }

    fn predict(&mut self, row: &Value) -> Value {
        self.ok("POST", "/v1/models/housing:predict", Some(row))
    }

    fn population(&mut self, block: usize) -> f64 {
        let known = self.ok("GET", &format!("/v1/features/people/{block}"), None);
        known["values"]["population"].as_f64().unwrap()
    }
}

const EVENT_CLIENTS: usize = 8;
const ACKNOWLEDGED: usize = 2_000;

/// Sends events of one entity until the server is gone; returns how many were acknowledged.
fn send_events(address: SocketAddr, entity: usize, all: &AtomicUsize) -> usize {
    let mut client = Client::open(address);
    let event = json!({"entity": entity, "values": {"people": 1}});
    let mut acknowledged = 0;
    while let Ok(response) = client.send("POST", "/v1/events/arrivals", None, Some(&event)) {
        assert_eq!(response.status, 200, "{}", response.text());
        acknowledged += 1;
        all.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn kill_9_while_events_come_in_loses_none_that_was_acknowledged() {
    let folder = folder("[state]\nstore = \"embedded\"\n");
    let mut server = serve(folder.path());
    let (all, address) = (Arc::new(AtomicUsize::new(0)), server.address);
    let clients: Vec<_> = (0..EVENT_CLIENTS)
        .map(|entity| {
            let all = all.clone();
            thread::spawn(move || send_events(address, entity, &all))
        })
        .collect();
    while all.load(Ordering::Relaxed) < ACKNOWLEDGED {
        thread::yield_now();
    }
    server.signal(Signal::KILL);
    server.wait();
    let acknowledged: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(acknowledged.iter().sum::<usize>() >= ACKNOWLEDGED);
    let server = serve(folder.path());
    let mut client = Client::open(server.address);
    for (entity, &acknowledged) in acknowledged.iter().enumerate() {
        let kept = client.population(entity);
        // The one that was under way when the server was killed may be there or not.
        let sent = acknowledged as f64 + 1.0;
        assert!(
            (acknowledged as f64..=sent).contains(&kept),
            "{entity}: {acknowledged} of {sent}, kept {kept}"
        );
    }
    server.stop();
}

#[test]
fn what_was_known_is_known_after_a_restart() {
    let folder = folder("[state]\nstore = \"embedded\"\n");
    let server = serve(folder.path());
    let mut client = Client::open(server.address);
    client.ok("PUT", "/v1/features/census/42", Some(&json!({"values": {"income": 4.375}})));
    client.ok("POST", "/v1/events/arrivals", Some(&json!({"entity": 42, "values": {"people": 828}})));
    let answer = client.predict(&explicit());
    assert_eq!(client.predict(&keyed()), answer);
    server.stop();
    let server = serve(folder.path());
    assert_eq!(Client::open(server.address).predict(&keyed()), answer);
    server.stop();
}

/// Two servers on one Redis.
struct Pair {
    redis: RedisServer,
    servers: [Server; 2],
    _folders: [TempDir; 2],
}

impl Pair {
    fn start() -> Self {
        let redis = RedisServer::start();
        let state =
            format!("[redis]\nurl = \"{}\"\ntimeout = \"1s\"\n[state]\nstore = \"redis\"\n", redis.url());
        let folders = [folder(&state), folder(&state)];
        let servers = [serve(folders[0].path()), serve(folders[1].path())];
        Self { redis, servers, _folders: folders }
    }

    fn clients(&self) -> [Client; 2] {
        [Client::open(self.servers[0].address), Client::open(self.servers[1].address)]
    }

    fn stop(self) {
        self.servers.into_iter().for_each(Server::stop);
    }
}

#[test]
fn two_servers_on_one_redis_know_the_same() {
    let pair = Pair::start();
    let [mut a, mut b] = pair.clients();
    a.ok("PUT", "/v1/features/census/42", Some(&json!({"values": {"income": 4.375}})));
    b.ok("POST", "/v1/events/arrivals", Some(&json!({"entity": 42, "values": {"people": 800}})));
    a.ok("POST", "/v1/events/arrivals", Some(&json!({"entity": 42, "values": {"people": 28}, "id": "x"})));
    let again = json!({"entity": 42, "values": {"people": 28}, "id": "x"});
    assert_eq!(b.ok("POST", "/v1/events/arrivals", Some(&again))["duplicates"], 1);
    let answer = a.predict(&explicit());
    assert_eq!([a.predict(&keyed()), b.predict(&keyed())], [answer.clone(), answer]);
    b.ok("DELETE", "/v1/features/census/42", None);
    let gone = a.send("GET", "/v1/features/census/42", None, None).unwrap();
    assert_eq!(gone.status, 404, "{}", gone.text());
    pair.stop();
}

#[test]
fn a_request_under_a_key_runs_once_whichever_server_is_asked() {
    const KEYS: usize = 20;
    let pair = Pair::start();
    let start = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let (address, start) = (pair.servers[i % 2].address, start.clone());
            thread::spawn(move || {
                let mut client = Client::open(address);
                let event = json!({"entity": 7, "values": {"people": 1}});
                for key in 0..KEYS {
                    start.wait();
                    let key = format!("k-{key}");
                    // 409 while another is at it: the client asks again, as it is told to.
                    loop {
                        let answer =
                            client.send("POST", "/v1/events/arrivals", Some(&key), Some(&event)).unwrap();
                        if answer.status != 409 {
                            assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(1)));
                            break;
                        }
                        assert!(answer.header("retry-after").next().is_some(), "{}", answer.text());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let [mut a, mut b] = pair.clients();
    assert_eq!([a.population(7), b.population(7)], [KEYS as f64; 2], "each counted once");
    let other = json!({"entity": 8, "values": {"people": 1}});
    let refused = b.send("POST", "/v1/events/arrivals", Some("k-0"), Some(&other)).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    pair.stop();
}

#[test]
fn a_full_redis_is_said_to_be_unavailable_and_the_log_says_once_why() {
    let mut pair = Pair::start();
    let [mut a, _] = pair.clients();
    pair.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..10 {
        let body = json!({"values": {"income": 4.375}});
        let told = a.send("PUT", "/v1/features/census/42", None, Some(&body)).unwrap();
        let code = told.json()["code"].clone();
        assert_eq!((told.status, code), (503, json!("unavailable")), "{}", told.text());
        assert!(told.header("retry-after").next().is_some(), "{}", told.text());
    }
    let why = Regex::new("Redis refuses commands: .*OOM").unwrap();
    pair.servers[0].await_line(&why);
    assert_eq!(why.find_iter(&pair.servers[0].log()).count(), 1, "{}", pair.servers[0].log());
    pair.stop();
}

#[test]
fn without_redis_explicit_rows_are_answered_and_keyed_ones_told_so_until_it_is_back() {
    let mut pair = Pair::start();
    let [mut a, _] = pair.clients();
    a.ok("PUT", "/v1/features/census/42", Some(&json!({"values": {"income": 4.375}})));
    a.ok("POST", "/v1/events/arrivals", Some(&json!({"entity": 42, "values": {"people": 828}})));
    let answer = a.predict(&explicit());
    assert_eq!(a.predict(&keyed()), answer);
    pair.redis.kill();
    for _ in 0..50 {
        assert_eq!(a.predict(&explicit()), answer);
        let told = a.send("POST", "/v1/models/housing:predict", None, Some(&keyed())).unwrap();
        assert_eq!(
            (told.status, told.json()["code"].as_str()),
            (503, Some("unavailable")),
            "{}",
            told.text()
        );
        assert!(told.text().contains("cannot be looked up now"), "{}", told.text());
    }
    let kept = a.send("POST", "/v1/models/housing:predict", Some("k"), Some(&explicit())).unwrap();
    assert_eq!(kept.status, 503, "a promise that cannot be kept is not made: {}", kept.text());
    pair.redis.restart();
    // What was in its memory is gone, unless it saved it: it is told as not known, or answered.
    while a
        .send("PUT", "/v1/features/census/42", None, Some(&json!({"values": {"income": 4.375}})))
        .unwrap()
        .status
        != 200
    {
        thread::yield_now();
    }
    a.ok("DELETE", "/v1/features/people/42", None);
    a.ok("POST", "/v1/events/arrivals", Some(&json!({"entity": 42, "values": {"people": 828}})));
    assert_eq!(a.predict(&keyed()), answer);
    pair.stop();
}
