//! Reloads that fetch archives: a newer one takes the place of one that waits, and nobody else waits for it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
};

use weir_artifact::archive::{self, Compression};
use weir_serving::{
    ArchiveConfig, Archives, Change, FetchConfig, FetchParts, Fetcher, Keeper, ModelControl, Reason,
    ServingSnapshot, Watch,
};
use weir_types::{ErrorCode, SystemClock};

use crate::support::{Models, served};

/// A server that sends a part of each answer and never the rest.
pub(crate) struct Endless {
    pub(crate) url: String,
    /// Each request, once a part of its answer is sent.
    pub(crate) asked: Receiver<()>,
    /// Each client that went away.
    left: Receiver<()>,
}

impl Endless {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/stuck.tar", listener.local_addr().unwrap());
        let ((ask, asked), (leave, left)) = (channel(), channel());
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (ask, leave) = (ask.clone(), leave.clone());
                thread::spawn(move || {
                    let mut byte = [0];
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                        head.push(byte[0]);
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\na part").unwrap();
                    let _ = ask.send(());
                    while stream.read(&mut byte).is_ok_and(|read| read == 1) {}
                    let _ = leave.send(());
                });
            }
        });
        Self { url, asked, left }
    }

    fn archive(&self) -> ArchiveConfig {
        ArchiveConfig { url: self.url.clone(), sha256: "a".repeat(64), token_file: None }
    }
}

/// A server whose configuration is a list of archives.
struct Reloads {
    models: Models,
    control: ModelControl,
    list: Arc<Mutex<Vec<ArchiveConfig>>>,
    /// Of each reload that was not replaced.
    outcomes: Receiver<Result<ServingSnapshot, Reason>>,
    thread: JoinHandle<()>,
}

impl Reloads {
    /// Serves the models `a` and `b` of a folder; `watch`: the file in which nothing stands but that it changed.
    fn start(watch: bool) -> Self {
        let models = Models::new();
        models.add("on/a", "1");
        models.add("on/b", "1");
        fs::write(models.path().join("weir.toml"), "").unwrap();
        let parts = FetchParts {
            cache: models.path().join("cache"),
            s3: None,
            s3_keys: None,
            clock: Arc::new(SystemClock),
        };
        let fetcher = Fetcher::new(&FetchConfig::default(), parts).unwrap();
        let loader = models.loader_of("on").with_archives(Some(fetcher.begin(&[]).unwrap()));
        let (list, folder) = (Arc::<Mutex<Vec<_>>>::default(), models.path().join("on"));
        let (wanted, (tell, outcomes)) = (list.clone(), channel());
        let reread = Box::new(move |serving: Option<&Archives>| {
            let bring = fetcher.bring(&wanted.lock().unwrap(), serving.unwrap())?;
            let tell = tell.clone();
            let publish = Box::new(move |loaded: Result<ServingSnapshot, Reason>| {
                tell.send(loaded.clone()).unwrap();
                loaded.map(drop)
            });
            Ok(Change { paths: vec![folder.clone()], archives: Some(bring), publish })
        });
        let first = loader.load(&ServingSnapshot::default(), &Default::default(), &|_| {});
        let (keeper, control) = Keeper::new(loader, Arc::new(first), Box::new(|_| Ok(())));
        let files = watch.then(|| Watch::of_files(&[models.path().join("weir.toml")]));
        let keeper = keeper.rereading(reread, files);
        Self { models, control, list, outcomes, thread: thread::spawn(move || keeper.run(None)) }
    }

    fn wants(&self, list: &[ArchiveConfig]) {
        *self.list.lock().unwrap() = list.to_vec();
    }

    /// Orders a reload; it is under way when this returns.
    fn reload(&self) -> tokio::task::JoinHandle<Result<(), weir_types::Error>> {
        let control = self.control.clone();
        tokio::spawn(async move { control.reload().await })
    }

    /// An archive of a model of this name, and where it is.
    fn pack(&self, name: &str) -> ArchiveConfig {
        let folder = self.models.path().join("packed");
        self.models.add(&format!("packed/{name}"), "1");
        let found = weir_artifact::discover(&folder.join(name)).complete().unwrap();
        let members = archive::members(&folder.join(name), &found).unwrap();
        let mut bytes = Vec::new();
        let packed = archive::pack(&members, Vec::new(), Compression::None, &mut bytes, &|_| {}).unwrap();
        let file = folder.join(format!("{name}.tar"));
        fs::write(&file, bytes).unwrap();
        let url = format!("file:{}", file.display());
        ArchiveConfig { url, sha256: packed.sha256, token_file: None }
    }

    fn kept(&self, archive: &ArchiveConfig) -> PathBuf {
        self.models.path().join(format!("cache/sha256-{}", archive.sha256))
    }

    /// Ends the keeper, which a reload that waits does not hold up.
    fn stop(self) {
        drop(self.control);
        self.thread.join().unwrap();
    }
}

/// Waits until nothing lies in the cache that is not whole.
fn await_whole(cache: &Path) {
    let parts = || {
        let entries = cache.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| !name.to_string_lossy().starts_with("sha256-")).count()
    };
    while parts() > 0 {
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_reload_replaces_one_that_still_fetches() {
    let (reloads, endless) = (Reloads::start(false), Endless::start());
    let (north, south) = (reloads.pack("north"), reloads.pack("south"));
    reloads.wants(&[north.clone(), endless.archive()]);
    let older = reloads.reload();
    endless.asked.recv().unwrap();
    // The one that is there already came whole, by a time that nobody but the disk knows.
    while !reloads.kept(&north).exists() {
        thread::yield_now();
    }
    fs::remove_file(north.url.strip_prefix("file:").unwrap()).unwrap();
    reloads.wants(&[north.clone(), south]);
    reloads.reload().await.unwrap().unwrap();
    let told = older.await.unwrap().unwrap_err();
    assert_eq!(told.code, ErrorCode::Conflict);
    assert!(told.message.contains("replaced by a newer one"), "{told}");
    endless.left.recv().unwrap();
    let snapshot = reloads.outcomes.recv().unwrap().unwrap();
    assert_eq!(served(&snapshot), ["a/1", "b/1", "north/1", "south/1"]);
    assert!(reloads.outcomes.try_recv().is_err(), "the older one was neither put in force nor failed");
    await_whole(&reloads.models.path().join("cache"));
    reloads.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_reload_that_is_wrong_ends_the_older_one_too() {
    let (reloads, endless) = (Reloads::start(false), Endless::start());
    reloads.wants(&[endless.archive()]);
    let older = reloads.reload();
    endless.asked.recv().unwrap();
    reloads.wants(&[ArchiveConfig { sha256: String::new(), ..endless.archive() }]);
    let newer = reloads.reload().await.unwrap().unwrap_err();
    assert!(newer.message.contains("archive[0].sha256"), "{newer}");
    assert!(older.await.unwrap().unwrap_err().message.contains("replaced"));
    endless.left.recv().unwrap();
    reloads.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_pass_is_not_tried_again() {
    let reloads = Reloads::start(true);
    let missing = "file:/nowhere/north-2.tar";
    reloads.wants(&[ArchiveConfig { url: missing.into(), sha256: "a".repeat(64), token_file: None }]);
    let told = reloads.reload().await.unwrap().unwrap_err().message;
    assert!(told.contains("archive north-2 ") && told.contains(missing), "{told}");
    assert_eq!(reloads.outcomes.recv().unwrap().unwrap_err().to_string(), told);
    // Nobody changes anything: one look at the files passes, and another order is obeyed behind it.
    reloads.wants(&[reloads.pack("north")]);
    reloads.control.load("a".parse().unwrap()).await.unwrap();
    assert!(reloads.outcomes.try_recv().is_err());
    reloads.reload().await.unwrap().unwrap();
    reloads.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_reload_again_goes_on_with_what_comes() {
    let (reloads, endless) = (Reloads::start(false), Endless::start());
    reloads.wants(&[endless.archive()]);
    let older = reloads.reload();
    endless.asked.recv().unwrap();
    let newer = reloads.reload();
    assert!(older.await.unwrap().unwrap_err().message.contains("replaced"));
    assert!(endless.asked.try_recv().is_err() && endless.left.try_recv().is_err());
    // Without archives there is nothing to wait for.
    reloads.wants(&[]);
    reloads.reload().await.unwrap().unwrap();
    assert!(newer.await.unwrap().unwrap_err().message.contains("replaced"));
    endless.left.recv().unwrap();
    reloads.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_orders_do_not_wait_for_a_reload_that_fetches() {
    let (reloads, endless) = (Reloads::start(false), Endless::start());
    reloads.wants(&[endless.archive()]);
    let waiting = reloads.reload();
    endless.asked.recv().unwrap();
    reloads.control.unload("a".parse().unwrap()).await.unwrap();
    reloads.control.load("b".parse().unwrap()).await.unwrap();
    assert!(!waiting.is_finished());
    reloads.wants(&[reloads.pack("north")]);
    reloads.reload().await.unwrap().unwrap();
    let snapshot = reloads.outcomes.recv().unwrap().unwrap();
    assert_eq!(served(&snapshot), ["b/1", "north/1"], "what was unloaded meanwhile stays so");
    waiting.await.unwrap().unwrap_err();
    // A reload that waits does not keep the keeper.
    reloads.wants(&[endless.archive()]);
    let waiting = reloads.reload();
    endless.asked.recv().unwrap();
    waiting.abort();
    let _ = waiting.await;
    reloads.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_replaces_a_reload_that_still_fetches() {
    let (reloads, endless) = (Reloads::start(true), Endless::start());
    reloads.wants(&[endless.archive()]);
    let older = reloads.reload();
    endless.asked.recv().unwrap();
    reloads.wants(&[reloads.pack("north")]);
    fs::write(reloads.models.path().join("weir.toml"), "changed").unwrap();
    assert!(older.await.unwrap().unwrap_err().message.contains("replaced"));
    let snapshot = reloads.outcomes.recv().unwrap().unwrap();
    assert_eq!(served(&snapshot), ["a/1", "b/1", "north/1"]);
    reloads.stop();
}
