//! Sending what is due: an open loop that never waits for answers, and a closed one.
//!
//! Each thread has a runtime of its own. Requests in flight are *slots*, each a task with its
//! connection; one dispatcher hands what falls due to a free slot, or queues it. Nothing here
//! takes a lock, and no request has a timer or a task of its own.

mod pace;
mod progress;
mod queue;
pub(crate) use slot::failure_words;
mod slot;
#[cfg(test)]
mod tests;

use std::{io, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Builder,
    task::{JoinSet, LocalSet, yield_now},
    time::Instant,
};

use pace::Pace;
pub use progress::{Glance, Progress};
use slot::{Slot, Worker};

use crate::{
    plan::{Face, Plan, Shape},
    record::Recorder,
    schedule::Arrivals,
    transport::{Channels, Grpc, Http1, Transport},
};

/// Requests handed out before the slots have a turn: the first ones are on the wire while the
/// later ones are still handed out.
const BURST: usize = 32;

/// What one thread brings home.
pub(crate) struct Share {
    pub(crate) recorder: Recorder,
    /// CPU time of the thread.
    pub(crate) cpu: Duration,
    /// From its first to its last moment.
    pub(crate) took: Duration,
}

/// Runs `plan` on its threads, calling `watch` about twice a second from the caller's.
///
/// # Errors
/// When a thread or its runtime cannot be made.
pub(crate) fn run(
    plan: &Plan,
    progress: &Arc<Progress>,
    mut watch: impl FnMut(&Progress),
) -> io::Result<Vec<Share>> {
    let (sender, done) = std::sync::mpsc::channel::<()>();
    let threads = plan.threads.clamp(1, plan.connections.max(1));
    let mut handles = Vec::new();
    for at in 0..threads {
        let (plan, progress, sender) = (plan.clone(), progress.clone(), sender.clone());
        let work = move || {
            let share = worker(&plan, at, threads, progress);
            drop(sender);
            share
        };
        handles.push(thread::Builder::new().name(format!("load-{at}")).spawn(work)?);
    }
    drop(sender);
    while done.recv_timeout(Duration::from_millis(500)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        watch(progress);
    }
    let gone = |_| io::Error::other("a thread of the generator ended early");
    handles.into_iter().map(|handle| handle.join().map_err(gone).flatten()).collect()
}

/// One thread's part: every `threads`-th arrival, and its share of the connections.
fn worker(plan: &Plan, at: usize, threads: usize, progress: Arc<Progress>) -> io::Result<Share> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let slots = plan.connections / threads + usize::from(at < plan.connections % threads);
    let work = async {
        match plan.target.face {
            Face::Grpc => {
                let target = &plan.target;
                let channels = Channels::new(target.address, &target.host, &target.path, slots)
                    .map_err(io::Error::other)?;
                let connect = |number| Grpc::new(channels.clone(), number);
                Ok(drive(plan, at, threads, progress, slots, connect, Pace::finest()).await)
            }
            _ => {
                let connect = |_| Http1::new(plan.target.address);
                Ok(drive(plan, at, threads, progress, slots, connect, Pace::finest()).await)
            }
        }
    };
    let (recorder, took) = runtime.block_on(LocalSet::new().run_until(work)).map_err(|e: io::Error| e)?;
    Ok(Share { recorder, cpu: thread_cpu(), took })
}

/// Drives slots made by `connect` through the plan; inside a [`LocalSet`].
async fn drive<T: Transport + 'static>(
    plan: &Plan,
    at: usize,
    threads: usize,
    progress: Arc<Progress>,
    slots: usize,
    connect: impl Fn(usize) -> T,
    mut pace: Pace,
) -> (Recorder, Duration) {
    let start = Instant::now();
    let worker = Rc::new(Worker::new(plan, at, slots, start, progress));
    let mut tasks = JoinSet::new();
    for number in 0..slots {
        let slot = Slot::new(worker.clone(), connect(number));
        match plan.shape {
            Shape::Open { .. } => tasks.spawn_local(slot.serve(number)),
            Shape::Closed { .. } => tasks.spawn_local(slot.loop_closed()),
        };
    }
    if let Shape::Open { stages, spread } = &plan.shape {
        let arrivals = Arrivals::new(stages, *spread, plan.seed).skip(at).step_by(threads);
        dispatch(&worker, arrivals, start, &mut pace).await;
        worker.queue.close();
    }
    while tasks.join_next().await.is_some() {}
    (worker.into_recorder(), start.elapsed())
}

/// Hands out requests as they fall due.
async fn dispatch(
    worker: &Worker,
    arrivals: impl Iterator<Item = Duration>,
    start: Instant,
    pace: &mut Pace,
) {
    let mut now = Instant::now();
    let mut burst = 0;
    for moment in arrivals {
        let due = start + moment;
        if now < due {
            now = Instant::now();
        }
        while now < due {
            pace.until(due).await;
            (now, burst) = (Instant::now(), 0);
        }
        worker.due(due, now);
        burst += 1;
        if burst == BURST {
            yield_now().await;
            (now, burst) = (Instant::now(), 0);
        }
    }
}

/// CPU time that this thread has used; zero where it cannot be told.
fn thread_cpu() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}
