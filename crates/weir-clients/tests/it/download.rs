//! Downloads from servers that fail in every way that one server or another does.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use rustls::{ServerConnection, StreamOwned};
use weir_clients::{
    CallError, DownloadError, DownloadOptions, DownloadProblem, Downloader, Location, RetryPolicy, Sink,
};
use weir_testbed::Certificates;

/// What one connection does with a request for [`file`].
#[derive(Debug, Clone)]
enum Act {
    /// Answers as it should, from the byte that is asked for.
    Serve,
    /// Answers whole, whatever was asked.
    Whole,
    /// Sends so many bytes of what it announces, and closes.
    Cut(usize),
    /// Sends so many bytes, and nothing more for ever.
    Stall(usize),
    /// Sends a byte every few milliseconds, for ever.
    Trickle,
    /// Takes the request and says nothing.
    Silence,
    /// An error with this status line and these headers.
    Refuse(&'static str),
    /// A part that was not asked for.
    WrongPart,
    /// Goes elsewhere.
    Redirect(String),
    /// No length, only the connection's end.
    Unmarked,
    /// No length, and no end.
    Unending,
}

fn file() -> Vec<u8> {
    (0u32..100_000).flat_map(u32::to_le_bytes).collect()
}

/// A server whose n-th connection does the n-th thing, and the last one for ever.
struct Faulty {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = seen.clone();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let act = acts[index.min(acts.len() - 1)].clone();
                let head = read_head(&stream);
                told.lock().unwrap().push(head.clone());
                thread::spawn(move || drop(answer(stream, &act, &head)));
            }
        });
        Self { url, seen }
    }

    fn at(&self, path: &str) -> Location {
        Location::parse(&format!("{}{path}", self.url)).unwrap()
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_head(mut stream: &TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

fn answer(mut stream: TcpStream, act: &Act, head: &str) -> io::Result<()> {
    let file = file();
    let from = head
        .split_once("range: bytes=")
        .map_or(0, |(_, rest)| rest.split('-').next().unwrap().parse().unwrap());
    let rest = &file[from..];
    let ok = match from {
        0 => "200 OK\r\n".to_owned(),
        from => format!("206 Part\r\ncontent-range: bytes {from}-{}/{}\r\n", file.len() - 1, file.len()),
    };
    let head = |line: &str, length: usize| {
        format!("HTTP/1.1 {line}content-length: {length}\r\nconnection: close\r\n\r\n")
    };
    match act {
        Act::Serve => {
            stream.write_all(head(&ok, rest.len()).as_bytes())?;
            stream.write_all(rest)
        }
        Act::Whole => {
            stream.write_all(head("200 OK\r\ncontent-encoding: gzip\r\n", file.len()).as_bytes())?;
            stream.write_all(&file)
        }
        Act::Cut(bytes) => {
            stream.write_all(head(&ok, rest.len()).as_bytes())?;
            stream.write_all(&rest[..*bytes])
        }
        Act::Stall(bytes) => {
            stream.write_all(head(&ok, rest.len()).as_bytes())?;
            stream.write_all(&rest[..*bytes])?;
            stream.read(&mut [0]).map(|_| ())
        }
        Act::Trickle => {
            stream.write_all(head(&ok, rest.len()).as_bytes())?;
            rest.iter().try_for_each(|byte| {
                #[allow(clippy::disallowed_methods)] // a server that is slow waits, on a thread of its own
                thread::sleep(Duration::from_millis(20));
                stream.write_all(&[*byte])
            })
        }
        Act::Silence => stream.read(&mut [0]).map(|_| ()),
        Act::Refuse(line) => stream
            .write_all(head(&format!("{line}\r\n"), 4).as_bytes())
            .and_then(|()| stream.write_all(b"why?")),
        Act::WrongPart => {
            stream.write_all(head("206 Part\r\ncontent-range: bytes 7-9/10\r\n", 3).as_bytes())?;
            stream.write_all(b"abc")
        }
        Act::Redirect(to) => {
            stream.write_all(head(&format!("302 There\r\nlocation: {to}\r\n"), 0).as_bytes())
        }
        Act::Unmarked => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            stream.write_all(&file)
        }
        Act::Unending => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[0; 4096])?;
            }
        }
    }
}

#[derive(Default)]
struct Memory(Vec<u8>);

impl Sink for Memory {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(piece);
        Ok(())
    }
    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }
}

fn downloader(max_bytes: u64, repeats: u32) -> Downloader {
    trusting(None, max_bytes, repeats).unwrap()
}

fn trusting(
    ca_file: Option<PathBuf>,
    max_bytes: u64,
    repeats: u32,
) -> Result<Downloader, Vec<DownloadProblem>> {
    let wait = Duration::from_millis(1);
    let retry = RetryPolicy { most: repeats, base: wait, max: wait, ..RetryPolicy::default() };
    let options = DownloadOptions {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(300),
        min_rate: 1 << 10,
        max_bytes,
        retry,
        ca_file,
        s3: None,
        s3_keys: None,
        now: Arc::new(|| SystemTime::UNIX_EPOCH),
    };
    Downloader::new(options)
}

/// A server that gives [`file`] over TLS to everyone who trusts its certificate, on all of `127.0.0.0/8`.
fn https(certificates: &Certificates) -> SocketAddr {
    let config = certificates.acceptor("http/1.1").config().clone();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let file = file();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
            // Who does not trust the certificate has gone.
            let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&file));
            let _ = stream.flush();
        }
    });
    address
}

async fn fetch(from: &Location) -> Result<Vec<u8>, DownloadError> {
    let mut memory = Memory::default();
    downloader(1 << 20, 3).fetch(from, None, &mut memory).await.map(|_| memory.0)
}

#[tokio::test]
async fn what_breaks_off_is_taken_up_where_it_broke_off() {
    for (act, resumed) in [
        (Act::Cut(100_000), Some(100_000)),
        (Act::Stall(70_000), Some(70_000)),
        (Act::Silence, None),
        (Act::Refuse("500 No"), None),
        (Act::Refuse("503 Busy\r\nretry-after: 0"), None),
        (Act::Refuse("429 Slow"), None),
        (Act::WrongPart, None),
    ] {
        let server = Faulty::start(vec![act.clone(), Act::Serve]);
        let got = fetch(&server.at("/a.tar")).await.unwrap_or_else(|e| panic!("{act:?}: {e}"));
        assert!(got == file(), "{act:?}");
        let heads = server.heads();
        assert_eq!(heads.len(), 2, "{act:?}");
        let range = resumed.map(|bytes| format!("range: bytes={bytes}-"));
        assert!(range.is_none_or(|range| heads[1].contains(&range)), "{act:?}: {heads:?}");
    }
}

#[tokio::test]
async fn what_comes_too_slowly_breaks_off_though_it_never_pauses() {
    let server = Faulty::start(vec![Act::Trickle, Act::Serve]);
    assert!(fetch(&server.at("/a")).await.unwrap() == file());
    assert_eq!(server.heads().len(), 2);
    let error = Faulty::start(vec![Act::Trickle]);
    let error = fetch(&error.at("/a")).await.unwrap_err().to_string();
    assert!(error.contains("fetch.min_rate"), "{error}");
}

#[tokio::test]
async fn a_server_of_tls_is_trusted_by_the_authority_that_is_named_alone() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificates = Certificates::new(folder.path());
    let stranger = Certificates::new(other.path());
    let from = Location::parse(&format!("https://{}/a", https(&certificates))).unwrap();
    let get = async |ca: Option<PathBuf>| {
        let mut memory = Memory::default();
        let got = trusting(ca, 1 << 20, 0).unwrap().fetch(&from, None, &mut memory).await;
        got.map(|_| memory.0)
    };
    assert!(get(Some(certificates.ca.clone())).await.unwrap() == file());
    for untrusted in [None, Some(stranger.ca)] {
        let error = get(untrusted).await.unwrap_err();
        assert!(
            matches!(error, DownloadError::Call(CallError::Untrusted(_))) && !error.is_passing(),
            "{error:?}"
        );
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    }
    // A port that speaks no TLS, and a certificate for another name.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let from = Location::parse(&format!("https://{}/a", plain.local_addr().unwrap())).unwrap();
    thread::spawn(move || {
        let mut stream = plain.accept().unwrap().0;
        stream.read_exact(&mut [0; 16]).and_then(|()| stream.write_all(b"HTTP/1.1 400 No TLS\r\n\r\n"))
    });
    let error = trusting(None, 1 << 20, 3).unwrap().fetch(&from, None, &mut Memory::default()).await;
    assert!(matches!(error, Err(DownloadError::Refused(text)) if text.contains("speaks no TLS")));
    let named = https(&certificates).port();
    let from = Location::parse(&format!("https://127.0.0.2:{named}/a")).unwrap();
    let downloader = trusting(Some(certificates.ca), 1 << 20, 3).unwrap();
    let error = downloader.fetch(&from, None, &mut Memory::default()).await.unwrap_err();
    assert!(!error.is_passing(), "{error:?}");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for bad in [empty, folder.path().join("nowhere.pem")] {
        let problems = trusting(Some(bad), 1 << 20, 0).err().unwrap();
        assert_eq!(problems[0].key, "fetch.ca_file");
    }
}

#[tokio::test]
async fn a_server_that_knows_no_parts_begins_again() {
    let server = Faulty::start(vec![Act::Cut(5), Act::WrongPart, Act::Cut(9), Act::Whole]);
    assert!(fetch(&server.at("/a")).await.unwrap() == file());
}

#[tokio::test]
async fn it_gives_up_after_so_many_repeats_and_at_once_where_asking_again_is_no_use() {
    let passing = ["408 No", "425 No", "429 No", "500 No", "502 No", "503 No", "504 No"];
    let lasting = ["400 No", "401 No", "403 No", "404 No", "410 No", "304 No"];
    let acts = passing.map(|line| (Act::Refuse(line), 4)).into_iter();
    let acts = acts.chain(lasting.map(|line| (Act::Refuse(line), 1)));
    for (act, calls) in acts.chain([(Act::Cut(0), 4), (Act::Stall(0), 4)]) {
        let server = Faulty::start(vec![act.clone()]);
        let error = fetch(&server.at("/a")).await.unwrap_err();
        assert_eq!(server.heads().len(), calls, "{act:?}: {error}");
        assert_eq!(error.is_passing(), calls > 1, "{act:?}: {error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = fetch(&Location::parse(&format!("http://{nobody}/a")).unwrap()).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
}

#[tokio::test]
async fn what_came_in_pieces_or_without_a_marked_end_is_told_from_what_did_not() {
    for (acts, in_one_piece) in [
        (vec![Act::Serve], true),
        (vec![Act::Refuse("500 No"), Act::Serve], true),
        (vec![Act::Cut(5), Act::Whole], true),
        (vec![Act::Cut(5), Act::Serve], false),
        (vec![Act::Unmarked], false),
    ] {
        let server = Faulty::start(acts.clone());
        let came = downloader(1 << 20, 1).fetch(&server.at("/a"), None, &mut Memory::default()).await;
        assert_eq!(came.unwrap().in_one_piece, in_one_piece, "{acts:?}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_announced_or_not() {
    for act in [Act::Serve, Act::Unending] {
        let server = Faulty::start(vec![act]);
        let mut memory = Memory::default();
        let error = downloader(300_000, 3).fetch(&server.at("/a"), None, &mut memory).await.unwrap_err();
        assert!(error.to_string().contains("fetch.max_archive"), "{error}");
        assert!(memory.0.len() <= 300_000);
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn redirects_are_followed_without_the_token_and_not_for_ever() {
    let place = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(place.path(), "secret-token\n").unwrap();
    let other = Faulty::start(vec![Act::Serve]);
    let first =
        Faulty::start(vec![Act::Redirect("/here".into()), Act::Redirect(format!("{}/b?sig=1", other.url))]);
    let mut memory = Memory::default();
    downloader(1 << 20, 0).fetch(&first.at("/a"), Some(place.path()), &mut memory).await.unwrap();
    assert!(memory.0 == file());
    assert!(first.heads().iter().all(|head| head.contains("authorization: bearer secret-token")));
    assert!(first.heads()[1].starts_with("get /here "));
    assert!(other.heads()[0].starts_with("get /b?sig=1 ") && !other.heads()[0].contains("authorization"));
    let circle = Faulty::start(vec![Act::Redirect("/a".into())]);
    let error = fetch(&circle.at("/a")).await.unwrap_err().to_string();
    assert!(error.contains("more than 5 times"), "{error}");
    for to in ["ftp://a/b", "b", "//a/b", ""] {
        let lost = Faulty::start(vec![Act::Redirect(to.into())]);
        assert!(matches!(fetch(&lost.at("/a")).await, Err(DownloadError::Refused(_))), "{to:?}");
    }
}

#[tokio::test]
async fn files_are_copied_and_devices_are_not() {
    let place = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(place.path(), file()).unwrap();
    let at = |path: &std::path::Path| Location::File(path.to_owned());
    assert!(fetch(&at(place.path())).await.unwrap() == file());
    for bad in ["/dev/zero", "/nowhere", "/tmp"] {
        let error = fetch(&at(bad.as_ref())).await.unwrap_err();
        assert!(!error.is_passing() && error.to_string().contains(bad), "{error}");
    }
}
