//! Brings archives: at start in the background for as long as it takes, on reload all or none.

mod reload;

pub use reload::Bring;
pub(crate) use reload::Bringing;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use weir_artifact::archive::ArchiveLimits;
use weir_clients::{DownloadOptions, Downloader, RetryPolicy, S3Config, S3Keys};
use weir_types::Clock;

use crate::Reason;

use super::{
    ArchiveConfig, FetchConfig,
    list::{FetchProblem, Wanted, check},
    store::{Found, Kept, Store},
};

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

/// The archives of one configuration, those that are here and those that are still to come. Cheap to
/// clone; once the last is dropped, nothing more is fetched for it.
#[derive(Clone)]
pub struct Archives(Arc<Shared>);

struct Shared {
    wanted: Vec<Wanted>,
    slots: Mutex<Vec<Slot>>,
    /// How many came, or failed in another way, since it was last asked.
    news: AtomicU64,
}

enum Slot {
    Here(Arc<Kept>),
    Missing { reason: String, due: Option<Instant>, tries: u32 },
}

impl fmt::Debug for Archives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} archives", self.0.wanted.len())
    }
}

/// An archive that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its file's name, without what says how it is packed.
    pub name: String,
    /// Why it is not here yet.
    pub reason: Reason,
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
        let slots = Mutex::new(wanted.iter().map(|wanted| self.0.found(wanted)).collect());
        Ok(Archives(Arc::new(Shared { wanted, slots, news: AtomicU64::new(0) })))
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
    /// Every problem of `list`, one a line.
    pub fn bring(&self, list: &[ArchiveConfig], current: &Archives) -> Result<Bring, String> {
        let wanted = check(list, self.0.has_s3).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(|p| format!("`{}` {}", p.key, p.text)).collect();
            lines.join("\n")
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
            Found::Absent => format!("is being fetched from {}", wanted.from),
            Found::Changed(why) => format!("is being fetched again from {}: {why}", wanted.from),
            Found::Unreadable(why) => format!("is being tried again: {why}"),
        };
        Slot::Missing { reason, due: Some(self.clock.now()), tries: 0 }
    }

    /// The archive, whether it is here by now or has to come.
    async fn fetch(&self, wanted: &Wanted) -> Result<Kept, String> {
        match self.store.find(&wanted.sha256) {
            Found::Here(kept) => return Ok(kept),
            // It may be whole: fetched again, it would only find its place taken.
            Found::Unreadable(why) => return Err(why),
            Found::Changed(why) => {
                tracing::warn!("fetched again: {why}");
                self.store.clear(&wanted.sha256)?;
            }
            Found::Absent => {}
        }
        let mut coming = self.store.receive()?;
        let fetched = self.downloader.fetch(&wanted.from, wanted.token_file.as_deref(), &mut coming);
        fetched.await.map_err(|error| error.to_string())?;
        let kept = self.store.put(coming, &wanted.sha256)?;
        tracing::info!(from = %wanted.from, sha256 = wanted.sha256, "fetched");
        Ok(kept)
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

enum Due {
    /// All are here or with another thread.
    Nothing,
    Later,
    Now(usize),
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The missing archive that waited longest, taken; whoever has it settles it.
    fn take_due(&self, now: Instant) -> Due {
        let mut slots = self.slots();
        let missing = slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Missing { due, .. } => Some((*due, index)),
            Slot::Here(_) => None,
        });
        let missing: Vec<_> = missing.collect();
        let next = missing.iter().filter_map(|(due, index)| due.map(|due| (due, *index))).min();
        match next {
            // One that another thread has may fail and be due again.
            None if missing.is_empty() => Due::Nothing,
            Some((due, index)) if due <= now => {
                if let Slot::Missing { due, .. } = &mut slots[index] {
                    *due = None;
                }
                Due::Now(index)
            }
            _ => Due::Later,
        }
    }

    /// Notes how it went; true if everything is here now.
    fn settle(&self, index: usize, wanted: &Wanted, result: Result<Kept, String>, inner: &Inner) -> bool {
        let mut slots = self.slots();
        let Slot::Missing { reason, due, tries } = &mut slots[index] else { return false };
        match result {
            Ok(kept) => {
                slots[index] = Slot::Here(Arc::new(kept));
                self.news.fetch_add(1, Ordering::Release);
            }
            Err(why) => {
                let wait = inner.wait(*tries);
                tracing::error!(from = %wanted.from, "not fetched, again in {wait:.0?}: {why}");
                let why = format!("cannot be fetched from {}: {why}", wanted.from);
                if *reason != why {
                    // What is told of it changes.
                    *reason = why;
                    self.news.fetch_add(1, Ordering::Release);
                }
                (*due, *tries) = (Some(inner.clock.now() + wait), tries.saturating_add(1));
            }
        }
        slots.iter().all(|slot| matches!(slot, Slot::Here(_)))
    }
}

impl Archives {
    /// Those of `wanted`, all of them here.
    fn all_here(wanted: Vec<Wanted>, kept: impl IntoIterator<Item = Arc<Kept>>) -> Self {
        let slots = Mutex::new(kept.into_iter().map(Slot::Here).collect());
        Self(Arc::new(Shared { wanted, slots, news: AtomicU64::new(0) }))
    }

    /// The folders of those that are here.
    pub fn folders(&self) -> Vec<PathBuf> {
        let here = |slot: &Slot| match slot {
            Slot::Here(kept) => Some(kept.folder.clone()),
            Slot::Missing { .. } => None,
        };
        self.0.slots().iter().filter_map(here).collect()
    }

    /// Those that are not.
    pub fn missing(&self) -> Vec<Missing> {
        let missing = |(wanted, slot): (&Wanted, &Slot)| match slot {
            Slot::Here(_) => None,
            Slot::Missing { reason, .. } => Some(Missing {
                name: wanted.from.stem().to_owned(),
                reason: Reason::new("is not fetched yet; the log says why", reason.clone()),
            }),
        };
        self.0.wanted.iter().zip(self.0.slots().iter()).filter_map(missing).collect()
    }

    /// Whether there is something to load or to tell since it was last asked.
    pub(crate) fn has_news(&self) -> bool {
        self.0.news.swap(0, Ordering::AcqRel) > 0
    }

    fn here(&self, sha256: &str) -> Option<Arc<Kept>> {
        let index = self.0.wanted.iter().position(|wanted| wanted.sha256 == sha256)?;
        match &self.0.slots()[index] {
            Slot::Here(kept) => Some(kept.clone()),
            Slot::Missing { .. } => None,
        }
    }
}
