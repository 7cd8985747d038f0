//! Triton's trace extension: of every n-th request, when it reached each stage, in a file.
//!
//! Specification: `docs/protocol/extension_trace.md` and `docs/user_guide/trace.md` of
//! triton-inference-server/server. The file is the operator's choice alone, as Triton has it
//! too: a client that names files writes where it likes.

mod file;
mod settings;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;
use weir_types::{Clock, Error};

use file::Files;
pub(crate) use settings::{Change, Shown};
use settings::{Scope, Scopes, Shared};

/// Traces that may wait for the disk; one more is dropped and counted.
const MAX_WAITING: usize = 1024;

/// Which face a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// REST.
    Http,
    /// gRPC.
    Grpc,
}

impl Transport {
    /// Triton's names for when a request began to come, and when it was there.
    pub(super) fn marks(self) -> (&'static str, &'static str) {
        match self {
            Transport::Http => ("HTTP_RECV_START", "HTTP_RECV_END"),
            Transport::Grpc => ("GRPC_WAITREAD_START", "GRPC_WAITREAD_END"),
        }
    }
}

/// What is known of one traced request.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) model: String,
    pub(super) version: String,
    /// The caller's name for the request.
    pub(super) id: Option<String>,
    /// When each stage was reached.
    pub(super) marks: Vec<(&'static str, Instant)>,
}

/// A record on its way to the disk.
struct Numbered {
    number: u64,
    frequency: u64,
    record: Record,
}

/// Leave to trace one request.
pub(crate) struct Sample {
    sink: Arc<Sink>,
    frequency: u64,
}

impl Sample {
    /// Sends the record to the disk, or counts it as dropped.
    pub(super) fn hand_in(self, record: Record) {
        let number = self.sink.next.fetch_add(1, Ordering::Relaxed);
        let numbered = Numbered { number, frequency: self.frequency, record };
        let sender = self.sink.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if sender.is_none_or(|sender| sender.try_send(numbered).is_err()) {
            self.sink.dropped.inc();
        }
    }
}

/// Where records go.
struct Sink {
    /// None once it is closed.
    sender: Mutex<Option<SyncSender<Numbered>>>,
    /// Ends with the writer.
    written: Mutex<Option<oneshot::Receiver<()>>>,
    next: AtomicU64,
    dropped: Counter,
    /// The file's name, without its folder, which is nobody's business.
    name: String,
}

/// The settings in force, ready for the request path.
#[derive(Default)]
struct InForce {
    /// Whether anything is traced at all.
    any: bool,
    /// Traces in one file; 0 for all of them.
    frequency: u64,
    global: Sampler,
    models: BTreeMap<String, Sampler>,
}

/// Decides which requests are traced.
#[derive(Default)]
pub(super) struct Sampler {
    on: bool,
    /// One in so many.
    rate: u64,
    seen: Arc<AtomicU64>,
    /// How many more; below zero without end.
    remaining: Arc<AtomicI64>,
}

impl Sampler {
    fn takes(&self) -> bool {
        let due = || (self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.rate.max(1));
        let one_less = |n: i64| match n {
            0 => None,
            n if n < 0 => Some(n),
            n => Some(n - 1),
        };
        let relaxed = Ordering::Relaxed;
        self.on && due() && self.remaining.fetch_update(relaxed, relaxed, one_less).is_ok()
    }
}

/// Traces requests as the settings say.
pub(crate) struct Tracer {
    scopes: Mutex<Scopes>,
    in_force: ArcSwap<InForce>,
    sink: Option<Arc<Sink>>,
}

/// What is counted of traces.
pub(crate) struct TraceCounters {
    /// Written to the file.
    pub(crate) written: Counter,
    /// Lost: the disk did not follow, or the file is full.
    pub(crate) dropped: Counter,
}

impl Tracer {
    /// Traces into `file`, at most `most` bytes of it; without one nothing can be traced.
    pub(crate) fn new(file: Option<&Path>, most: u64, clock: &dyn Clock, counters: &TraceCounters) -> Self {
        Self {
            scopes: Mutex::new(Scopes::default()),
            in_force: ArcSwap::default(),
            sink: file.and_then(|file| Sink::start(file, most, clock, counters)).map(Arc::new),
        }
    }

    /// Whether there is a file to trace into.
    pub(crate) fn can_trace(&self) -> bool {
        self.sink.is_some()
    }

    /// Leave to trace a request to `model`, if it is one of those that are.
    pub(crate) fn sample(&self, model: &str) -> Option<Sample> {
        let in_force = self.in_force.load();
        let sink = self.sink.as_ref().filter(|_| in_force.any)?;
        let sampler = in_force.models.get(model).unwrap_or(&in_force.global);
        sampler.takes().then(|| Sample { sink: sink.clone(), frequency: in_force.frequency })
    }

    /// The settings that hold for `model`, or for all that have none of their own.
    pub(crate) fn shown(&self, model: Option<&str>) -> Shown {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.shown(model, self.file_name())
    }

    /// Changes settings of `model`, or the global ones: all of `changes`, or none. The answer
    /// is what holds then.
    ///
    /// # Errors
    /// `InvalidArgument` for a setting that does not exist or cannot be that, `Unsupported` for
    /// what Weir does not do.
    pub(crate) fn change(&self, model: Option<&str>, changes: &[Change]) -> Result<Shown, Error> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scope: Scope = scopes.of(model);
        let shared = Shared {
            of_model: model.is_some(),
            file: self.sink.as_ref().map(|sink| sink.name.as_str()),
            frequency: scopes.global.frequency(),
        };
        for change in changes {
            scope.apply(change, shared)?;
        }
        scopes.replace(model, scope);
        self.in_force.store(Arc::new(scopes.in_force()));
        Ok(scopes.shown(model, self.file_name()))
    }

    fn file_name(&self) -> &str {
        self.sink.as_ref().map_or("", |sink| &sink.name)
    }

    /// Lets what waits be written, and nothing more.
    pub(crate) async fn close(&self) {
        let Some(sink) = &self.sink else { return };
        drop(sink.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let written = sink.written.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(written) = written {
            // Nothing is ever sent: the writer lets go of its end.
            let _ = written.await;
        }
    }
}

impl Sink {
    fn start(file: &Path, most: u64, clock: &dyn Clock, counters: &TraceCounters) -> Option<Self> {
        let (wall, now) = (clock.wall(), clock.now());
        let (sender, receiver) = sync_channel::<Numbered>(MAX_WAITING);
        let mut files = Files::new(file.to_owned(), most, Epoch { wall, now });
        let (written, dropped) = (counters.written.clone(), counters.dropped.clone());
        let (end, written_all) = oneshot::channel::<()>();
        let write = move || {
            for numbered in receiver {
                match files.write(&numbered) {
                    true => written.inc(),
                    false => dropped.inc(),
                };
            }
            drop(end);
        };
        let writer = thread::Builder::new().name("weir-trace".into()).spawn(write);
        writer.map_err(|e| tracing::error!("nothing can be traced: {e}")).ok()?;
        Some(Self {
            sender: Mutex::new(Some(sender)),
            written: Mutex::new(Some(written_all)),
            next: AtomicU64::new(first_number(wall)),
            dropped: counters.dropped.clone(),
            name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        })
    }
}

/// Traces of several runs may be in one file: a run's numbers begin with the time of its
/// start, in microseconds, which JSON's numbers hold.
fn first_number(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(0)
}

/// One moment on both clocks: what makes an [`Instant`] a time that files can hold.
#[derive(Clone, Copy)]
struct Epoch {
    wall: SystemTime,
    now: Instant,
}

impl Epoch {
    /// Nanoseconds since 1970.
    fn nanoseconds(self, at: Instant) -> u128 {
        let begin = self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let after = at.saturating_duration_since(self.now).as_nanos();
        let before = self.now.saturating_duration_since(at).as_nanos();
        (begin + after).saturating_sub(before)
    }
}

#[cfg(test)]
mod tests;
