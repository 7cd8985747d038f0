//! `weir package`, and servers that fetch what it made: over HTTP, and from a real object store.

mod object_store;
mod reloads;
mod sharing;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client, metrics,
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

/// A server of files that counts what it is asked for, and is away while it is told so.
struct Files {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

impl Files {
    fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (folder, counted, away) = (folder.to_owned(), asked.clone(), Arc::<AtomicBool>::default());
        let told = away.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                lines.read_line(&mut line).unwrap();
                lines.lines().map_while(Result::ok).find(String::is_empty);
                counted.fetch_add(1, Ordering::SeqCst);
                let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let (status, body) = match fs::read(folder.join(path)) {
                    _ if told.load(Ordering::SeqCst) => ("503 Service Unavailable", b"away".to_vec()),
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
        Self { address, asked, away }
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
    // Its server is away: it listens, says why it is not ready, and tries again.
    fs::copy(place.path().join("made.tar.gz"), files.join("housing-1.tar.gz")).unwrap();
    http.away.store(true, Ordering::SeqCst);
    let mut server = configured(place.path(), &(archive(&url, sha256(&made)) + routes));
    let body = await_ready(server.address, |_, body| body.to_string().contains("503"));
    assert_eq!((body["ready"].as_bool(), &body["failures"][0]["model"]), (Some(false), &"housing-1".into()));
    http.away.store(false, Ordering::SeqCst);
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
    // The next start asks nobody, and does not mind a folder that nothing was mounted into.
    fs::create_dir(place.path().join("models")).unwrap();
    fs::write(place.path().join("weir.toml"), before + "[server]\nmodels = [\"models\"]\n").unwrap();
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
fn a_start_that_comes_to_nothing_ends_and_says_what_to_do() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("other.tar.gz"), "other").unwrap();
    let http = Files::serve(place.path());
    let digest = "a".repeat(64);
    for (file, parts) in [
        (
            "none.tar.gz",
            ["archive none", "it answered 404", "put the archive there, or correct `archive.url`"],
        ),
        ("other.tar.gz", ["archive other", "it has SHA-256 d9298a10d1b073", digest.as_str()]),
    ] {
        let url = format!("http://{}/{file}", http.address);
        let mut server = configured(place.path(), &archive(&url, &digest));
        let status = server.wait();
        assert_eq!(status.code(), Some(1), "{}", server.log());
        let log = server.log();
        let (_, told) = log.split_once("no model could be loaded").unwrap_or_else(|| panic!("{log}"));
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    // A folder of models may be empty beside archives, and nowhere else.
    fs::create_dir(place.path().join("models")).unwrap();
    let ended = weir(place.path()).args(["serve", "models", "--listen", "127.0.0.1:0"]).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && told.contains("models: no artefact here"), "{told}");
}

/// The archive is fine, and a route does not fit what is in it: no waiting makes that right, and the next start, which
/// finds the archive in its place, would end with the same words.
#[test]
fn a_first_start_with_a_wrong_route_ends_as_the_second_does() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    http.away.store(true, Ordering::SeqCst);
    let text = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made))
        + "[server]\ndrain_delay = \"5s\"\n[[route]]\npath = \"/x\"\nmodel = \"huosing\"\nresponse = { p = \"prediction\" }\n";
    let mut server = configured(place.path(), &text);
    let body = await_ready(server.address, |_, body| body.to_string().contains("503"));
    assert!(body.get("reload").is_none(), "it may still come: {body}");
    http.away.store(false, Ordering::SeqCst);
    let body = await_ready(server.address, |_, body| body.get("reload").is_some());
    assert!(body["reload"].as_str().unwrap().contains("[[route]] 1: there is no model `huosing`"), "{body}");
    assert!(!body.to_string().contains("fetch"), "it is here: {body}");
    assert_eq!(metrics::metric(server.address, "weir_config_last_reload_successful"), 0.0);
    assert_eq!(server.wait().code(), Some(1));
    let line = Regex::new(r"weir\.toml:\d+:\d+: \[\[route\]\] 1: there is no model `huosing`.*").unwrap();
    let log = server.log();
    let first = log.lines().last().and_then(|last| line.find(last)).unwrap_or_else(|| panic!("{log}"));
    let second = weir(place.path()).args(["serve", "--config", "weir.toml"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(told.contains(first.as_str()), "{told}\nand first\n{log}");
}

/// Two archives hold versions of one model, and a route asks for that in the later one.
#[test]
fn a_route_that_fits_once_all_archives_are_here_is_waited_for() {
    let place = TempDir::new().unwrap();
    let one = package(place.path(), "one.tar.gz", &[]);
    let later = place.path().join("later");
    copy_tree(&root().join("examples/models/housing"), &later.join("housing/2"));
    let two = package(&later, "two.tar.gz", &[]);
    let (prompt, late) = (Files::serve(place.path()), Files::serve(&later));
    late.away.store(true, Ordering::SeqCst);
    let text = archive(&format!("http://{}/one.tar.gz", prompt.address), sha256(&one))
        + &archive(&format!("http://{}/two.tar.gz", late.address), sha256(&two))
        + "[[route]]\npath = \"/x\"\nmodel = \"housing\"\nversion = \"2\"\nresponse = { p = \"prediction\" }\n";
    let server = configured(place.path(), &text);
    let served = |path: &str| get(server.address, path).0;
    await_ready(server.address, |_, _| served("/v2/models/housing/versions/1/ready") == 200);
    assert_eq!(client::ask(server.address, "POST", "/x", Some(b"{}")).status, 503);
    late.away.store(false, Ordering::SeqCst);
    await_ready(server.address, |status, _| status == 200);
    assert_eq!(client::ask(server.address, "POST", "/x", Some(b"{}")).status, 422);
    server.stop();
}

#[test]
fn what_serves_beside_an_archive_that_is_wrong_goes_on_and_a_reload_looks_again() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    fs::write(place.path().join("housing/model.toml"), toml.replace("\"housing\"", "\"north\"")).unwrap();
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/later.tar.gz", http.address), sha256(&made));
    let mut server = configured(place.path(), &(list + "[server]\nmodels = [\"housing\"]\n"));
    let told = await_ready(server.address, |status, body| status == 503 && body.to_string().contains("404"));
    let told = told.to_string();
    assert!(
        !told.contains("no such file") && !told.contains(&http.address.to_string()),
        "for the log: {told}"
    );
    assert!(server.log().contains("it answered 404: no such file"), "{}", server.log());
    assert_eq!(get(server.address, "/v2/models/north/ready").0, 200);
    fs::rename(place.path().join("made.tar.gz"), place.path().join("later.tar.gz")).unwrap();
    server.signal(Signal::HUP);
    await_ready(server.address, |status, _| status == 200);
    assert_eq!(get(server.address, "/v2/models/housing/ready").0, 200);
    server.stop();
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
fn an_object_store_that_nobody_named_is_told_with_its_place() {
    let place = TempDir::new().unwrap();
    let list = archive("s3://models/a.tar", &"a".repeat(64));
    fs::write(place.path().join("weir.toml"), list).unwrap();
    let output = weir(place.path()).args(["config", "check", "--config", "weir.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("weir.toml:2:") && told.contains("no [s3]"), "{told}");
}
