//! Brings archives: at start in the background for as long as it takes, on reload all or none.

mod archives;
mod reload;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use weir_artifact::archive::ArchiveLimits;
use weir_clients::{Came, DownloadOptions, Downloader, RetryPolicy, S3Config, S3Keys};
use weir_types::Clock;

use crate::Reason;

use super::{
    ArchiveConfig, FetchConfig, NotFetched,
    list::{FetchProblem, Wanted, check},
    not_fetched::UNREADABLE,
    store::{Found, Incoming, Kept, Store},
};

use archives::{Due, Shared, Slot};

pub use archives::{Archives, Missing};
pub use reload::Bring;
pub(crate) use reload::Bringing;

/// Archives that come at once.
const THREADS: usize = 4;
/// How often a thread looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(200);
/// Shortest wait before a download that failed begins again.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What a [`Fetcher`] is made of beside its configuration.
pub struct FetchParts {
    /// The folder that keeps archives.
    pub cache: PathBuf,
    /// The object store of `s3://`.
    pub s3: Option<S3Config>,
    /// Keys for it from the environment.
    pub s3_keys: Option<S3Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Brings archives. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    store: Store,
    downloader: Downloader,
    retry: RetryPolicy,
    /// Longest that a reload waits for its archives.
    reload_timeout: Duration,
    /// Whether there is an object store that `s3://` could mean.
    has_s3: bool,
    clock: Arc<dyn Clock>,
}

impl Fetcher {
    /// Fetches by `config`.
    ///
    /// # Errors
    /// Every problem.
    pub fn new(config: &FetchConfig, parts: FetchParts) -> Result<Self, Vec<FetchProblem>> {
        let FetchParts { cache, s3, s3_keys, clock } = parts;
        let retry = RetryPolicy {
            most: config.retries,
            base: config.backoff.get(),
            max: config.max_backoff.get(),
            ..RetryPolicy::default()
        };
        let mut problems = Vec::new();
        for (key, zero) in [
            ("connect_timeout", config.connect_timeout),
            ("stall_timeout", config.stall_timeout),
            ("reload_timeout", config.reload_timeout),
        ] {
            if zero.get().is_zero() {
                let text = "must be longer than nothing".to_owned();
                problems.push(FetchProblem { key: format!("fetch.{key}"), text });
            }
        }
        let (now, has_s3) = (clock.clone(), s3.is_some());
        let downloader = Downloader::new(DownloadOptions {
            connect_timeout: config.connect_timeout.get(),
            stall_timeout: config.stall_timeout.get(),
            min_rate: config.min_rate.get(),
            max_bytes: config.max_archive.get(),
            retry: retry.clone(),
            ca_file: config.ca_file.clone(),
            s3,
            s3_keys,
            now: Arc::new(move || now.wall()),
        });
        let downloader = downloader.map_err(|found| {
            problems.extend(found.into_iter().map(|p| FetchProblem { key: p.key.to_owned(), text: p.text }));
        });
        let Ok(downloader) = downloader else { return Err(problems) };
        if !problems.is_empty() {
            return Err(problems);
        }
        let limits = ArchiveLimits { bytes: config.max_unpacked.get(), ..ArchiveLimits::default() };
        let store = Store { folder: cache, limits, keep: config.keep.get(), clock: clock.clone() };
        let reload_timeout = config.reload_timeout.get();
        Ok(Self(Arc::new(Inner { store, downloader, retry, reload_timeout, has_s3, clock })))
    }

    /// What of `list` is here already; nothing is fetched, and nothing in the folder is changed.
    ///
    /// # Errors
    /// Every problem of `list`.
    pub fn look(&self, list: &[ArchiveConfig]) -> Result<Archives, Vec<FetchProblem>> {
        let wanted = check(list, self.0.has_s3)?;
        let slots = wanted.iter().map(|wanted| self.0.found(wanted)).collect();
        Ok(Archives::new(wanted, slots))
    }

    /// What of `list` is here already is there at once; the rest comes in the background, again and
    /// again until it does.
    ///
    /// # Errors
    /// Every problem of `list`.
    pub fn begin(&self, list: &[ArchiveConfig]) -> Result<Archives, Vec<FetchProblem>> {
        let archives = self.look(list)?;
        let missing = archives.missing().len();
        if missing > 0 {
            // Each start that was killed left a part; what others may want goes once all is here.
            self.0.store.sweep_leftovers();
        }
        for _ in 0..missing.min(THREADS) {
            let (inner, of) = (self.0.clone(), Arc::downgrade(&archives.0));
            let thread = thread::Builder::new().name("weir-fetch".into());
            if let Err(error) = thread.spawn(move || inner.work(&of)) {
                tracing::error!("archives are not fetched: the system gives no thread: {error}");
            }
        }
        if missing == 0 && !list.is_empty() {
            self.0.store.sweep();
        }
        Ok(archives)
    }

    /// All of `list`, for a server that serves `current`: nothing is looked for or fetched yet.
    ///
    /// # Errors
    /// Every problem of `list`, for operators one a line.
    pub fn bring(&self, list: &[ArchiveConfig], current: &Archives) -> Result<Bring, Reason> {
        let wanted = check(list, self.0.has_s3).map_err(|problems| {
            let keys: Vec<_> = problems.iter().map(|p| format!("`{}`", p.key)).collect();
            let lines: Vec<_> = problems.iter().map(|p| format!("`{}` {}", p.key, p.text)).collect();
            Reason::new(format!("wrong at {}; the log says what", keys.join(", ")), lines.join("\n"))
        })?;
        Ok(Bring { inner: self.0.clone(), wanted, current: current.clone() })
    }
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|e| format!("no runtime to fetch on: {e}"))
}

impl Inner {
    fn found(&self, wanted: &Wanted) -> Slot {
        let reason = match self.store.find(&wanted.sha256) {
            Found::Here(kept) => return Slot::Here(Arc::new(kept)),
            Found::Absent => {
                Reason::new("is being fetched", format!("is being fetched from {}", wanted.from))
            }
            Found::Changed(why) => {
                let full = format!("is being fetched again from {}: {why}", wanted.from);
                Reason::new("is being fetched again: what was kept of it was changed", full)
            }
            Found::Unreadable(why) => {
                Reason::new("is being tried again: it cannot be read", format!("is being tried again: {why}"))
            }
        };
        Slot::Missing { reason, lasting: false, due: Some(self.clock.now()), tries: 0 }
    }

    /// The archive, whether it is here by now or has to come.
    async fn fetch(&self, wanted: &Wanted) -> Result<Kept, NotFetched> {
        match self.store.find(&wanted.sha256) {
            Found::Here(kept) => return Ok(kept),
            // It may be whole: fetched again, it would only find its place taken.
            Found::Unreadable(why) => return Err(NotFetched::passing(UNREADABLE, why)),
            Found::Changed(why) => {
                tracing::warn!("fetched again: {why}");
                self.store.clear(&wanted.sha256)?;
            }
            Found::Absent => {}
        }
        let (mut coming, Came { mut in_one_piece }) = self.download(wanted).await?;
        if coming.sha256() != wanted.sha256 && !in_one_piece {
            // It may be parts of two files, of which one replaced the other meanwhile.
            tracing::warn!(from = %wanted.from, "came in pieces and is another one: again from the first byte");
            (coming, Came { in_one_piece }) = self.download(wanted).await?;
        }
        let found = coming.sha256();
        if found != wanted.sha256 {
            return Err(NotFetched { passing: !in_one_piece, ..another(&found, wanted) });
        }
        let kept = self.store.put(coming, &wanted.sha256)?;
        tracing::info!(from = %wanted.from, sha256 = wanted.sha256, "fetched");
        Ok(kept)
    }

    async fn download(&self, wanted: &Wanted) -> Result<(Incoming, Came), NotFetched> {
        let mut coming = self.store.receive()?;
        let fetched = self.downloader.fetch(&wanted.from, wanted.token_file.as_deref(), &mut coming);
        let came = fetched.await.map_err(|error| NotFetched::of_download(&error, wanted))?;
        Ok((coming, came))
    }

    /// Fetches what is missing, until nothing is or nobody wants it.
    fn work(&self, of: &Weak<Shared>) {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("{error}"),
        };
        while let Some(shared) = of.upgrade() {
            match shared.take_due(self.clock.now()) {
                Due::Nothing => return,
                Due::Later => {
                    drop(shared);
                    thread::park_timeout(LOOK);
                }
                Due::Now(index) => {
                    let wanted = shared.wanted[index].clone();
                    drop(shared);
                    let result = runtime.block_on(self.fetch(&wanted));
                    let Some(shared) = of.upgrade() else { return };
                    if shared.settle(index, &wanted, result, self) {
                        self.store.sweep();
                    }
                }
            }
        }
    }

    fn wait(&self, tries: u32) -> Duration {
        let random = RandomState::new().hash_one(tries);
        self.retry.wait(tries.saturating_add(2), random).max(SHORTEST_WAIT)
    }
}

/// What came is not what was asked for.
fn another(found: &str, wanted: &Wanted) -> NotFetched {
    let full = format!(
        "it has SHA-256 {found}, and {} was expected: another file lies there, or `archive.sha256` is that of \
         another version; nothing was unpacked",
        wanted.sha256
    );
    NotFetched::lasting("what came has another SHA-256 than was expected", full)
}
