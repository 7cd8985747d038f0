//! Models that share a memory budget: what was not asked for longest sleeps, and wakes when
//! it is asked.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::{sync::oneshot, time::timeout_at};
use weir_types::{Deadline, Error, ErrorCode};

use super::{Caller, ExecuteFuture, Executor, Job, Stats, past_deadline};

/// Bounds the memory of all models that share it. What cannot be known before a model is
/// loaded is estimated, and replaced by what was measured afterwards.
#[derive(Debug)]
pub struct MemoryBudget {
    max_bytes: u64,
    models: Mutex<Vec<Weak<Core>>>,
    tick: AtomicU64,
    /// One model loads at a time: the growth that is measured is then its own.
    loading: Mutex<()>,
}

impl MemoryBudget {
    /// A budget of `max_bytes` of resident memory.
    pub fn new(max_bytes: u64) -> Self {
        let models = Mutex::default();
        Self { max_bytes, models, tick: AtomicU64::new(0), loading: Mutex::default() }
    }

    fn next_tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Loads one model with `load` and measures it: what it gave, and how many bytes of
    /// memory the process holds more for it, at least `least`.
    pub(crate) fn measure<T>(&self, least: u64, load: impl FnOnce() -> T) -> (T, u64) {
        let _alone = lock(&self.loading);
        let before = resident_bytes();
        let loaded = load();
        let growth = resident_bytes().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
        // An allocator that still had the memory shows no growth; the weights are there all
        // the same.
        (loaded, growth.max(least))
    }

    /// Puts models to sleep, those first that were not asked for longest, until `bytes` more
    /// fit. A model larger than the whole budget is loaded alone.
    fn make_room(&self, bytes: u64, except: &Core) {
        // Freed last, behind the locks: to free gigabytes takes a while.
        let mut asleep = Vec::new();
        let mut models = lock(&self.models);
        models.retain(|model| model.strong_count() > 0);
        let mut awake: Vec<Arc<Core>> = models.iter().filter_map(Weak::upgrade).collect();
        awake.retain(|model| !std::ptr::eq(&**model, except) && model.is_awake());
        awake.sort_unstable_by_key(|model| model.last_used.load(Ordering::Relaxed));
        let mut used: u64 = awake.iter().map(|model| model.bytes()).sum();
        for model in awake {
            if used.saturating_add(bytes) <= self.max_bytes {
                return;
            }
            used = used.saturating_sub(model.bytes());
            asleep.extend(model.sleep());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded stays whole when a holder panics: single values, replaced at once.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory of this process; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    const PAGE_BYTES: u64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE_BYTES)
}

/// Loads a model again, counting into the statistics that it had.
pub(crate) type Wake = Box<dyn Fn(Arc<Stats>) -> Result<Arc<dyn Executor>, String> + Send + Sync>;

/// A model that sleeps when its memory is needed and wakes when it is asked.
pub(crate) struct Resident(Arc<Core>);

struct Core {
    budget: Arc<MemoryBudget>,
    wake: Wake,
    awake: Mutex<Option<Arc<dyn Executor>>>,
    /// Held by whoever wakes the model: the others wait for it instead of loading too.
    waking: Arc<tokio::sync::Mutex<()>>,
    last_used: AtomicU64,
    /// What it holds when awake; the size of the artefact at least.
    bytes: AtomicU64,
    least: u64,
    /// As it was when it was loaded first: the same artefact on the same engine.
    by_row: bool,
    stats: Arc<Stats>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a model of {} bytes, awake: {}", self.bytes(), self.is_awake())
    }
}

impl Resident {
    /// A model that was just loaded into `executor`, where it was measured to hold `bytes`, at
    /// least `least`. Others may go to sleep for it.
    pub(crate) fn new(
        budget: &Arc<MemoryBudget>,
        executor: Arc<dyn Executor>,
        (bytes, least): (u64, u64),
        stats: Arc<Stats>,
        wake: Wake,
    ) -> Self {
        let by_row = executor.by_row();
        let core = Arc::new(Core {
            budget: budget.clone(),
            wake,
            awake: Mutex::new(Some(executor)),
            waking: Arc::default(),
            last_used: AtomicU64::new(budget.next_tick()),
            bytes: AtomicU64::new(bytes),
            least,
            by_row,
            stats,
        });
        lock(&budget.models).push(Arc::downgrade(&core));
        budget.make_room(bytes, &core);
        Self(core)
    }
}

impl Core {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_awake(&self) -> bool {
        lock(&self.awake).is_some()
    }

    /// Gives the memory back, behind the last request in flight, when what is returned is
    /// dropped.
    #[must_use]
    fn sleep(&self) -> Option<Arc<dyn Executor>> {
        lock(&self.awake).take()
    }

    fn if_awake(&self) -> Option<Arc<dyn Executor>> {
        self.last_used.store(self.budget.next_tick(), Ordering::Relaxed);
        lock(&self.awake).clone()
    }

    async fn awake(self: &Arc<Self>, deadline: Deadline) -> Result<Arc<dyn Executor>, Error> {
        let until = deadline.instant().into();
        let turn = self.waking.clone().lock_owned();
        let turn = timeout_at(until, turn).await.map_err(|_| past_deadline())?;
        if let Some(executor) = self.if_awake() {
            return Ok(executor);
        }
        let (reply, woken) = oneshot::channel();
        let core = self.clone();
        let thread = thread::Builder::new().name("weir-wake".into());
        // A caller who gives up leaves the model awake for the next one, who does not start
        // while this load goes on.
        let started = thread.spawn(move || {
            let _ = reply.send(core.load());
            drop(turn);
        });
        started.map_err(|error| cannot_wake(&error.to_string()))?;
        match timeout_at(until, woken).await {
            Ok(Ok(result)) => result.map_err(|reason| cannot_wake(&reason)),
            Ok(Err(_)) => Err(cannot_wake("its load was cut off")),
            Err(_) => Err(past_deadline()),
        }
    }

    fn load(&self) -> Result<Arc<dyn Executor>, String> {
        self.budget.make_room(self.bytes(), self);
        let (loaded, bytes) = self.budget.measure(self.least, || (self.wake)(self.stats.clone()));
        let executor = loaded?;
        self.bytes.store(bytes, Ordering::Relaxed);
        self.budget.make_room(bytes, self);
        *lock(&self.awake) = Some(executor.clone());
        Ok(executor)
    }
}

fn cannot_wake(reason: &str) -> Error {
    tracing::error!("a sleeping model could not be loaded again: {reason}");
    Error::new(ErrorCode::Unavailable, "the model could not be loaded again; the server's log says why")
}

impl Executor for Resident {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let core = &self.0;
        Box::pin(async move {
            let executor = match core.if_awake() {
                Some(executor) => executor,
                None => core.awake(job.deadline).await?,
            };
            executor.execute(job).await
        })
    }

    fn stats(&self) -> &Stats {
        &self.0.stats
    }

    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        let awake = lock(&self.0.awake).clone();
        awake.map_or(Ok(()), |executor| executor.ready(caller, deadline))
    }

    fn by_row(&self) -> bool {
        self.0.by_row
    }

    fn waiting(&self) -> usize {
        let awake = lock(&self.0.awake).clone();
        awake.map_or(0, |executor| executor.waiting())
    }

    fn resident_bytes(&self) -> Option<u64> {
        Some(if self.0.is_awake() { self.0.bytes() } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use weir_types::SystemClock;

    use super::*;
    use crate::executor::tests::{Double, executor, job};

    const LONG: Duration = Duration::from_secs(60);

    struct Model {
        resident: Resident,
        loads: Arc<AtomicUsize>,
    }

    /// A model that holds 100 bytes by its own word: nothing is measured below that.
    fn model(budget: &Arc<MemoryBudget>) -> Model {
        let loads = Arc::new(AtomicUsize::new(1));
        let counted = loads.clone();
        let stats = Arc::new(Stats::default());
        let light = |stats: Arc<Stats>| -> Arc<dyn Executor> { Arc::new(executor(&Double::light(), stats)) };
        let wake = Box::new(move |stats| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(light(stats))
        });
        let awake = light(stats.clone());
        Model { resident: Resident::new(budget, awake, (100, 100), stats, wake), loads }
    }

    async fn ask(model: &Model) {
        let done = model.resident.execute(job(&SystemClock, &[1.0], LONG)).await.unwrap();
        assert_eq!(done.outputs.tensors[0].as_f32(), Some(&[2.0][..]));
    }

    fn awake(models: &[&Model]) -> Vec<bool> {
        models.iter().map(|m| m.resident.0.is_awake()).collect()
    }

    #[tokio::test]
    async fn what_was_not_asked_for_longest_sleeps_and_wakes_when_asked() {
        let budget = Arc::new(MemoryBudget::new(250));
        let (a, b) = (model(&budget), model(&budget));
        ask(&a).await;
        let c = model(&budget);
        assert_eq!(awake(&[&a, &b, &c]), [true, false, true], "b was asked for least recently");
        ask(&b).await;
        assert_eq!(b.loads.load(Ordering::Relaxed), 2);
        // Loading again may be measured at more than 100 bytes: then both others made room.
        assert_eq!(awake(&[&a, &b]), [false, true]);
        ask(&b).await;
        assert_eq!(b.loads.load(Ordering::Relaxed), 2, "awake models are not loaded again");
        assert_eq!(b.resident.stats().executed.load(Ordering::Relaxed), 2, "counts go on");
    }

    #[tokio::test]
    async fn many_callers_wake_a_model_once() {
        let budget = Arc::new(MemoryBudget::new(100));
        let (a, _b) = (model(&budget), model(&budget));
        assert_eq!(awake(&[&a]), [false]);
        let a = Arc::new(a);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let a = a.clone();
            all.spawn(async move { ask(&a).await });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        assert_eq!(a.loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_model_that_cannot_wake_is_unavailable_and_tried_again() {
        let budget = Arc::new(MemoryBudget::new(100));
        let stats = Arc::new(Stats::default());
        let inline = executor(&Double::light(), stats.clone());
        let wake = Box::new(|_| Err("the disk is gone".to_owned()));
        let broken = Resident::new(&budget, Arc::new(inline), (100, 100), stats, wake);
        let _other = model(&budget);
        for _ in 0..2 {
            let error = broken.execute(job(&SystemClock, &[1.0], LONG)).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::Unavailable);
            assert!(!error.message.contains("disk"), "internals leak: {error}");
        }
    }
}
