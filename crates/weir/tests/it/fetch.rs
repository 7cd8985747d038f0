//! `weir package`, and servers that fetch what it made: over HTTP, and from a real object store.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client,
    scenario::copy_tree,
    server::{PATIENCE, Server, root, weir},
};

/// Packs the housing model in `place`; the archive's SHA-256.
fn package(place: &Path, name: &str, arguments: &[&str]) -> Value {
    if !place.join("housing").exists() {
        copy_tree(&root().join("examples/models/housing"), &place.join("housing"));
    }
    let output = weir(place)
        .args(["package", "housing", "--json", "--output", name])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sha256(made: &Value) -> &str {
    made["sha256"].as_str().unwrap()
}

/// A server of files that counts what it is asked for.
struct Files {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Files {
    fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (folder, counted) = (folder.to_owned(), asked.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                lines.read_line(&mut line).unwrap();
                lines.lines().map_while(Result::ok).find(String::is_empty);
                counted.fetch_add(1, Ordering::SeqCst);
                let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let (status, body) = match fs::read(folder.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", b"no such file".to_vec()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, asked }
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let response = client::get(address, path);
    (response.status, serde_json::from_str(&response.text()).unwrap_or(Value::Null))
}

/// Asks `/readyz` until it answers as `wanted`.
fn await_ready(address: SocketAddr, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get(address, "/readyz");
        if wanted(status, &body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{status} {body}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn configured(place: &Path, more: &str) -> Server {
    let text =
        format!("[fetch]\ncache = \"cache\"\nbackoff = \"10ms\"\nmax_backoff = \"1s\"\nretries = 1\n{more}");
    fs::write(place.join("weir.toml"), text).unwrap();
    Server::start(place, &["--config".into(), "weir.toml".into()])
}

fn archive(url: &str, sha256: &str) -> String {
    format!("[[archive]]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\n")
}

#[test]
fn a_package_is_the_same_each_time_and_says_what_serves_it() {
    let place = TempDir::new().unwrap();
    let first = package(place.path(), "a.tar.gz", &[]);
    let again = package(place.path(), "b.tar.gz", &["--no-check"]);
    assert_eq!((sha256(&first), &first["models"]), (sha256(&again), &again["models"]));
    assert_eq!(
        fs::read(place.path().join("a.tar.gz")).unwrap(),
        fs::read(place.path().join("b.tar.gz")).unwrap()
    );
    let plain = package(place.path(), "a.tar", &["--format", "tar"]);
    assert_ne!(sha256(&plain), sha256(&first));
    let image = package(place.path(), "a.oci.tar", &["--format", "oci"]);
    assert_eq!(image["image"]["layer"], format!("sha256:{}", sha256(&first)));
    let left: Vec<_> = place.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "the folder and four files: {left:?}");
    // The snippet, as it stands.
    let config = format!("[fetch]\ncache = \"cache\"\n{}\n", first["snippet"].as_str().unwrap());
    fs::write(place.path().join("weir.toml"), config).unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    await_ready(server.address, |status, _| status == 200);
    server.stop();
    // A golden row that is wrong refuses it, and a file that differs is not overwritten.
    let samples = place.path().join("housing/samples.jsonl");
    let text = fs::read_to_string(&samples).unwrap();
    let wrong =
        Regex::new(r#""prediction": [0-9.]+"#).unwrap().replace(&text, r#""prediction": 1e9"#).into_owned();
    fs::write(&samples, wrong).unwrap();
    let refused = |arguments: &[&str]| {
        let output = weir(place.path()).args(["package", "housing"]).args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&[]).contains("nothing was written"));
    assert!(refused(&["--no-check", "-o", "a.tar.gz"]).contains("--force"));
}

#[test]
fn a_server_fetches_waits_keeps_and_never_gets_worse() {
    let place = TempDir::new().unwrap();
    let files = place.path().join("files");
    fs::create_dir(&files).unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(&files);
    let url = format!("http://{}/housing-1.tar.gz", http.address);
    let routes = "[[route]]\npath = \"/price\"\nmodel = \"housing\"\nresponse = { price = \"prediction\" }\n";
    // Not there yet: it listens, says why it is not ready, and tries again.
    let mut server = configured(place.path(), &(archive(&url, sha256(&made)) + routes));
    let body = await_ready(server.address, |_, body| body.to_string().contains("404"));
    assert_eq!((body["ready"].as_bool(), &body["failures"][0]["model"]), (Some(false), &"housing-1".into()));
    // Something else is there: refused with both digests.
    fs::write(files.join("housing-1.tar.gz"), "other").unwrap();
    let body = await_ready(server.address, |_, body| body.to_string().contains("was expected"));
    assert!(body.to_string().contains(sha256(&made)), "{body}");
    fs::copy(place.path().join("made.tar.gz"), files.join("housing-1.tar.gz")).unwrap();
    await_ready(server.address, |status, _| status == 200);
    assert_eq!(get(server.address, "/v1/models/housing:predict").0, 405);
    // A reload with an archive that cannot be had changes nothing.
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let broken = before.clone() + &archive(&format!("http://{}/none.tar.gz", http.address), &"a".repeat(64));
    fs::write(place.path().join("weir.toml"), broken).unwrap();
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("reload failed.*404").unwrap());
    assert_eq!(get(server.address, "/readyz").0, 200);
    server.stop();
    // The next start asks nobody.
    fs::write(place.path().join("weir.toml"), before).unwrap();
    let asked = http.asked.load(Ordering::SeqCst);
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    assert_eq!(get(server.address, "/readyz").0, 200);
    assert_eq!(http.asked.load(Ordering::SeqCst), asked);
    server.stop();
    // What was changed on the disk is fetched again.
    let kept = place.path().join(format!("cache/sha256-{}/housing/model.toml", sha256(&made)));
    fs::write(&kept, "name = \"other\"").unwrap();
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    await_ready(server.address, |status, _| status == 200);
    assert!(http.asked.load(Ordering::SeqCst) > asked);
    server.stop();
}

#[test]
fn servers_that_share_a_folder_fetch_at_once() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let servers: Vec<_> = (0..4).map(|_| configured(place.path(), &list)).collect();
    for server in &servers {
        await_ready(server.address, |status, _| status == 200);
    }
    let left: Vec<_> =
        place.path().join("cache").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [format!("sha256-{}", sha256(&made)).as_str()]);
    servers.into_iter().for_each(Server::stop);
}

#[test]
fn an_archive_without_its_digest_is_refused() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("weir.toml"), "[[archive]]\nurl = \"https://models.example/a.tar.gz\"\n")
        .unwrap();
    let output = weir(place.path()).args(["config", "check", "--config", "weir.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("archive[0].sha256") && told.contains("is required"),
        "{told}"
    );
}

#[test]
fn a_check_removes_nothing_and_tells_models_from_archives() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let server = configured(place.path(), &list);
    await_ready(server.address, |status, _| status == 200);
    let check = || {
        let output = weir(place.path()).args(["config", "check", "--config", "weir.toml"]).output().unwrap();
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), told)
    };
    assert_eq!(check(), (true, "ok: 1 model, 0 declared routes\n".to_owned()));
    let folder = place.path().join(format!("cache/sha256-{}", sha256(&made)));
    fs::write(folder.join("stray"), "x").unwrap();
    assert_eq!(check(), (true, "ok: 0 models, 1 archive not fetched, 0 declared routes\n".to_owned()));
    assert!(folder.join("housing/model.toml").exists(), "a running server uses it");
    server.stop();
    check();
    assert!(folder.join("housing/model.toml").exists(), "a check changes nothing");
}

#[test]
fn a_reload_brings_several_archives_at_once() {
    let place = TempDir::new().unwrap();
    let first = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let url = |name: &str| format!("http://{}/{name}", http.address);
    let list = archive(&url("made.tar.gz"), sha256(&first));
    let mut server = configured(place.path(), &list);
    await_ready(server.address, |status, _| status == 200);
    let mut text = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    for name in ["north", "south"] {
        let named = toml.replace("name = \"housing\"", &format!("name = \"{name}\""));
        fs::write(place.path().join("housing/model.toml"), named).unwrap();
        let file = format!("{name}.tar.gz");
        text += &archive(&url(&file), sha256(&package(place.path(), &file, &[])));
    }
    fs::write(place.path().join("weir.toml"), text).unwrap();
    server.signal(Signal::HUP);
    // The first line of a change is that of the start.
    let came = Regex::new("fetched.*(north|south)").unwrap();
    for line in [&came, &came, &Regex::new("models changed").unwrap()] {
        server.await_line(line);
    }
    for name in ["housing", "north", "south"] {
        assert_eq!(get(server.address, &format!("/v2/models/{name}/ready")).0, 200, "{name}");
    }
    server.stop();
}

#[test]
fn a_reload_that_waits_for_a_silent_server_ends() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let mut server = configured(place.path(), &format!("reload_timeout = \"1s\"\n{list}"));
    await_ready(server.address, |status, _| status == 200);
    // It accepts, by its backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let url = format!("http://{}/silent.tar", silent.local_addr().unwrap());
    fs::write(place.path().join("weir.toml"), before.clone() + &archive(&url, &"b".repeat(64))).unwrap();
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("reload failed.*fetch.reload_timeout.*silent.tar").unwrap());
    fs::write(place.path().join("weir.toml"), before).unwrap();
    server.signal(Signal::HUP);
    server.await_line(&Regex::new("models changed|configuration changed|nothing changed|reloaded").unwrap());
    server.stop();
}

/// A server that sends a part of an answer and never the rest. It tells when it was asked, and when that client
/// went away.
fn endless() -> (SocketAddr, Receiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), channel());
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let lines = BufReader::new(stream.try_clone().unwrap());
        lines.lines().map_while(Result::ok).find(String::is_empty);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\na part").unwrap();
        tell.send("asked").unwrap();
        while stream.read(&mut [0]).is_ok_and(|read| read == 1) {}
        let _ = tell.send("left");
    });
    (address, told)
}

#[test]
fn a_corrected_address_does_not_wait_for_the_wrong_one() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let mut server = configured(place.path(), &list);
    await_ready(server.address, |status, _| status == 200);
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    fs::write(place.path().join("housing/model.toml"), toml.replace("\"housing\"", "\"north\"")).unwrap();
    let north = package(place.path(), "north.tar.gz", &[]);
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    let (stuck, told) = endless();
    for address in [stuck, http.address] {
        let more = archive(&format!("http://{address}/north.tar.gz"), sha256(&north));
        fs::write(place.path().join("weir.toml"), before.clone() + &more).unwrap();
        server.signal(Signal::HUP);
        if address == stuck {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
        }
    }
    // Each on a thread of its own: the log has them in any order.
    assert_eq!(told.recv_timeout(PATIENCE), Ok("left"));
    let ready = "/v2/models/north/ready";
    let deadline = Instant::now() + PATIENCE;
    while get(server.address, ready).0 != 200 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(server.log().contains("reload failed: replaced by a newer one"), "{}", server.log());
    assert_eq!(get(server.address, "/readyz").1["reload"], Value::Null);
    server.stop();
    let mut left = place.path().join("cache").read_dir().unwrap().map(|e| e.unwrap().file_name());
    assert!(left.all(|name| name.to_string_lossy().starts_with("sha256-")));
}

#[test]
fn an_object_store_that_nobody_named_is_told_with_its_place() {
    let place = TempDir::new().unwrap();
    let list = archive("s3://models/a.tar", &"a".repeat(64));
    fs::write(place.path().join("weir.toml"), list).unwrap();
    let output = weir(place.path()).args(["config", "check", "--config", "weir.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("weir.toml:2:") && told.contains("no [s3]"), "{told}");
}

/// SeaweedFS: a real object store, which checks signatures.
struct ObjectStore {
    child: Child,
    s3: u16,
    filer: u16,
}

impl ObjectStore {
    fn start(place: &Path) -> Self {
        let program = root().join(".cache/venvs/objectstore/bin/weed");
        assert!(program.exists(), "{} is not there: run `make venvs`", program.display());
        let identities = r#"{"identities":[{"name":"weir","credentials":[{"accessKey":"weir","secretKey":"right"}],
            "actions":["Read"]}]}"#;
        fs::write(place.join("identities.json"), identities).unwrap();
        fs::create_dir(place.join("data")).unwrap();
        // Each port takes the one 10,000 above it for gRPC.
        let free = || loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if (20_000..50_000).contains(&port) && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
                return port;
            }
        };
        let [master, volume, filer, s3] = [free(), free(), free(), free()];
        let child = Command::new(program)
            .current_dir(place)
            .args(["server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .args([format!("-master.port={master}"), format!("-volume.port={volume}")])
            .args([format!("-filer.port={filer}"), format!("-s3.port={s3}")])
            .args(["-s3.config=identities.json", "-master.volumeSizeLimitMB=64"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.join("weed.log")).unwrap())
            .spawn()
            .unwrap();
        let store = Self { child, s3, filer };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", s3)).is_err() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(place.join("weed.log")).unwrap());
            thread::sleep(Duration::from_millis(50));
        }
        store
    }

    /// Puts an object there through the store's own file interface.
    fn put(&self, key: &str, contents: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut stream = TcpStream::connect(("127.0.0.1", self.filer)).unwrap();
            write!(
                stream,
                "PUT /buckets/{key} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                contents.len()
            )
            .unwrap();
            // Until its volumes are there, it answers an error and closes.
            let _ = stream.write_all(contents);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            if answer.starts_with("HTTP/1.1 201") {
                return;
            }
            assert!(Instant::now() < deadline, "{answer}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn models_come_from_a_real_object_store_with_the_right_keys_only() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let store = ObjectStore::start(place.path());
    store.put("models/team%20a/housing+1.tar.gz", &fs::read(place.path().join("made.tar.gz")).unwrap());
    fs::write(place.path().join("id"), "weir\n").unwrap();
    fs::write(place.path().join("secret"), "wrong\n").unwrap();
    let table = format!(
        "[s3]\nendpoint = \"http://127.0.0.1:{}\"\naccess_key_file = \"id\"\nsecret_key_file = \"secret\"\n",
        store.s3
    );
    let list = archive("s3://models/team a/housing+1.tar.gz", sha256(&made));
    let mut server = configured(place.path(), &(table + &list));
    let body = await_ready(server.address, |_, body| body.to_string().contains("403"));
    assert!(body.to_string().contains("SignatureDoesNotMatch"), "{body}");
    // The keys are exchanged while it waits.
    fs::write(place.path().join("secret"), "right\n").unwrap();
    await_ready(server.address, |status, _| status == 200);
    assert!(!server.log().contains("right") && !server.log().contains("wrong\n"));
    server.stop();
}
