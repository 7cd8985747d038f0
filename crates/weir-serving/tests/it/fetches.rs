//! Archives that do not come: what passes is tried again, what somebody has to change is told at once.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tempfile::TempDir;
use weir_artifact::archive::{self, Compression};
use weir_config::HumanDuration;
use weir_serving::{ArchiveConfig, Archives, FetchConfig, FetchParts, Fetcher, Loader, ServingSnapshot};
use weir_types::SystemClock;

use crate::support::{Models, options};

/// What one connection gets.
#[derive(Debug, Clone)]
enum Act {
    /// The archive, from the byte that is asked for.
    Serve,
    /// So many bytes of it, and the end.
    Cut(usize),
    /// Other bytes, of the same length, from the byte that is asked for.
    Other,
    /// The end, before any answer.
    Close,
    /// This status line, and these headers.
    Refuse(&'static str),
}

/// A server whose n-th connection does the n-th thing, and the last one for ever.
struct Scripted {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn start(body: Vec<u8>, acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            format!("http://{}/team/housing-1.tar?X-Amz-Signature=secret", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                counted.fetch_add(1, Ordering::SeqCst);
                // Whoever asked may be gone.
                let _ = answer(stream, &body, &acts[index.min(acts.len() - 1)]);
            }
        });
        Self { url, asked }
    }

    fn archive(&self, sha256: &str) -> ArchiveConfig {
        ArchiveConfig { url: self.url.clone(), sha256: sha256.to_owned(), token_file: None }
    }
}

fn answer(mut stream: TcpStream, body: &[u8], act: &Act) -> std::io::Result<()> {
    let head: Vec<_> = BufReader::new(stream.try_clone()?)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let from = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: usize = from.map_or(0, |from| from.parse().unwrap());
    let (rest, other) = (&body[from..], vec![b'x'; body.len() - from]);
    let ok = match from {
        0 => "200 OK".to_owned(),
        from => format!("206 Part\r\ncontent-range: bytes {from}-{}/{}", body.len() - 1, body.len()),
    };
    let (line, length, sent) = match act {
        Act::Serve => (ok.as_str(), rest.len(), rest),
        Act::Cut(bytes) => (ok.as_str(), rest.len(), &rest[..*bytes]),
        Act::Other => (ok.as_str(), rest.len(), &other[..]),
        Act::Refuse(line) => (*line, 4, &b"why?"[..]),
        Act::Close => return Ok(()),
    };
    write!(stream, "HTTP/1.1 {line}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(sent)
}

/// A model in an archive, its SHA-256, and a fetcher with nothing in its folder.
struct Place {
    bytes: Vec<u8>,
    sha256: String,
    fetcher: Fetcher,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let models = Models::new();
        models.add("housing", "1");
        let found = weir_artifact::discover(&models.path().join("housing")).complete().unwrap();
        let members = archive::members(&models.path().join("housing"), &found).unwrap();
        let mut bytes = Vec::new();
        let packed = archive::pack(&members, Vec::new(), Compression::None, &mut bytes, &|_| {}).unwrap();
        let folder = TempDir::new().unwrap();
        let parts = FetchParts {
            cache: folder.path().join("cache"),
            s3: None,
            s3_keys: None,
            clock: Arc::new(SystemClock),
        };
        let wait = HumanDuration::from_millis(1);
        let config = FetchConfig { backoff: wait, max_backoff: wait, retries: 9, ..FetchConfig::default() };
        Self { bytes, sha256: packed.sha256, fetcher: Fetcher::new(&config, parts).unwrap(), folder }
    }

    /// What is told of an archive that somebody has to do something about.
    fn told(&self, archive: ArchiveConfig) -> String {
        let archives = self.fetcher.begin(&[archive]).unwrap();
        loop {
            let missing = archives.missing();
            assert_eq!(missing.len(), 1, "it must not come");
            if missing[0].lasting {
                assert_eq!(missing[0].name, "housing-1");
                assert!(!missing[0].reason.public().contains("127.0.0.1"), "{missing:?}");
                return missing[0].reason.to_string();
            }
            thread::yield_now();
        }
    }
}

fn await_all(archives: &Archives) {
    while !archives.missing().is_empty() {
        assert!(archives.missing().iter().all(|missing| !missing.lasting), "{:?}", archives.missing());
        thread::yield_now();
    }
}

#[test]
fn what_somebody_has_to_change_is_told_at_once_and_asked_once() {
    for (line, fix) in [
        ("400 Bad", "correct `archive.url`"),
        ("401 Who", "`archive.token_file`"),
        ("403 No", "`archive.token_file`"),
        ("404 Not Found", "put the archive there, or correct `archive.url`"),
        ("410 Gone", "put the archive there, or correct `archive.url`"),
    ] {
        let place = Place::new();
        let server = Scripted::start(place.bytes.clone(), vec![Act::Refuse(line)]);
        let told = place.told(server.archive(&place.sha256));
        for part in ["archive housing-1 ", "/team/housing-1.tar", &line[..3], "why?", fix] {
            assert!(told.contains(part), "{line}: no {part} in {told}");
        }
        assert!(!told.contains("secret"), "{told}");
        assert_eq!(server.asked.load(Ordering::SeqCst), 1, "{line}");
    }
}

#[test]
fn another_file_and_one_that_is_no_archive_are_told_at_once() {
    let place = Place::new();
    let server = Scripted::start(place.bytes.clone(), vec![Act::Other]);
    let told = place.told(server.archive(&place.sha256));
    assert!(told.contains("it has SHA-256 ") && told.contains(&place.sha256), "{told}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let bytes = b"this is no tar".repeat(100);
    let sha256 = sha256(&bytes);
    let server = Scripted::start(bytes, vec![Act::Serve]);
    let told = place.told(server.archive(&sha256));
    assert!(told.contains("no archive that can be unpacked") && told.contains("weir package"), "{told}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let nowhere = ArchiveConfig { url: "file:/nowhere/housing-1.tar".into(), sha256, token_file: None };
    assert!(place.told(nowhere).contains("put the file there"));
    let left = place.folder.path().join("cache").read_dir().unwrap().count();
    assert_eq!(left, 0, "nothing half-written is left");
}

#[test]
fn what_passes_is_tried_until_it_did() {
    let place = Place::new();
    let refusals =
        ["503 Busy\r\nretry-after: 0", "429 Slow", "500 No", "502 No", "504 No", "408 Slow", "425 Early"];
    let mut acts: Vec<_> = refusals.into_iter().map(Act::Refuse).collect();
    acts.extend([Act::Close, Act::Cut(0), Act::Cut(100), Act::Serve]);
    let calls = acts.len();
    let server = Scripted::start(place.bytes.clone(), acts);
    // More than `fetch.retries`: a start begins again where one download gave up.
    let archives = place.fetcher.begin(&[server.archive(&place.sha256)]).unwrap();
    await_all(&archives);
    assert_eq!(server.asked.load(Ordering::SeqCst), calls);
    assert!(archives.folders()[0].join("housing/1/model.onnx").exists());
}

#[test]
fn parts_of_two_files_are_fetched_again_from_the_first_byte() {
    let place = Place::new();
    let server = Scripted::start(place.bytes.clone(), vec![Act::Cut(100), Act::Other, Act::Serve]);
    await_all(&place.fetcher.begin(&[server.archive(&place.sha256)]).unwrap());
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_folder_that_cannot_be_is_told_with_its_key() {
    let place = Place::new();
    fs::write(place.folder.path().join("cache"), "a file").unwrap();
    let server = Scripted::start(place.bytes.clone(), vec![Act::Serve]);
    let archives = place.fetcher.begin(&[server.archive(&place.sha256)]).unwrap();
    while !archives.missing()[0].reason.to_string().contains("`fetch.cache`") {
        thread::yield_now();
    }
}

/// Loads again and again while an archive comes: it is here or missed at each moment, or a server would be ready
/// without its models.
#[test]
fn an_archive_is_here_or_missed_at_each_moment() {
    for _ in 0..16 {
        let place = Place::new();
        let server = Scripted::start(place.bytes.clone(), vec![Act::Serve]);
        let archives = place.fetcher.begin(&[server.archive(&place.sha256)]).unwrap();
        let loader = Loader::new(Vec::new(), options(None)).with_archives(Some(archives));
        loop {
            let next = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
            let (here, missed) = (next.models().next().is_some(), next.awaited().next().is_some());
            assert!(here || missed, "{:?}", next.failures());
            if !missed {
                break;
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
