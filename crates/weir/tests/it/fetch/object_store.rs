//! Archives in a real object store.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{archive, await_ready, configured, package, sha256};
use crate::server::{PATIENCE, root};

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
    let configuration = table + &list;
    let mut refused = configured(place.path(), &configuration);
    assert_eq!(refused.wait().code(), Some(1), "{}", refused.log());
    let log = refused.log();
    for part in ["403", "SignatureDoesNotMatch", "let the keys of [s3] read it"] {
        assert!(log.contains(part), "{log}");
    }
    fs::write(place.path().join("secret"), "right\n").unwrap();
    let mut server = configured(place.path(), &configuration);
    await_ready(server.address, |status, _| status == 200);
    assert!(!server.log().contains("right") && !server.log().contains("wrong\n"));
    server.stop();
}
