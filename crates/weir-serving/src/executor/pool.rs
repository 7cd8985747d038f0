//! Heavy work runs on threads of its own behind a bounded queue.

use std::{io, sync::Arc, thread, time::Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use weir_engine::{CancelFlag, Engine};
use weir_types::{Clock, Error, ErrorCode};

use super::{Answered, Done, ExecuteFuture, Executor, Job, Stats, inline::past_deadline, run};

/// A few threads that take jobs in order. Tokio's `spawn_blocking` was rejected: its pool
/// grows to hundreds of threads, which is the opposite of a bound.
pub struct Pool {
    queue: Sender<Queued>,
    shared: Arc<Shared>,
}

/// What the threads and the handle both need.
struct Shared {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

struct Queued {
    job: Job,
    since: Instant,
    cancel: CancelFlag,
    reply: oneshot::Sender<Result<Done, Error>>,
}

/// Tells running work that its caller is gone, when the future that waits is dropped.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Pool {
    /// Starts `threads` threads behind a queue of `queue` jobs. They end when the pool is
    /// dropped and the queue is empty.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        threads: usize,
        queue: usize,
    ) -> io::Result<Self> {
        Self::with_stats(engine, clock, threads, queue, Arc::default())
    }

    /// The same, counting into `stats`.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn with_stats(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        threads: usize,
        queue: usize,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(queue);
        let shared = Arc::new(Shared { engine, clock, stats });
        for index in 0..threads {
            let (shared, receiver) = (shared.clone(), receiver.clone());
            thread::Builder::new()
                .name(format!("weir-model-{index}"))
                .spawn(move || shared.work(&receiver))?;
        }
        Ok(Self { queue: sender, shared })
    }

    fn enqueue(&self, job: Job, cancel: CancelFlag) -> Result<oneshot::Receiver<Result<Done, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        let queued = Queued { job, since: self.shared.clock.now(), cancel, reply };
        match self.queue.try_send(queued) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => {
                Stats::count(&self.shared.stats.refused);
                Err(Error::new(
                    ErrorCode::Overloaded,
                    "too many requests wait for this model; try again shortly",
                ))
            }
            Err(TrySendError::Disconnected(_)) => Err(Error::internal("the model's threads have ended")),
        }
    }
}

impl Shared {
    fn work(&self, jobs: &Receiver<Queued>) {
        for Queued { job, since, cancel, reply } in jobs {
            let start = self.clock.now();
            if reply.is_closed() || job.deadline.is_past(start) {
                Stats::count(&self.stats.abandoned);
                // The caller sees the deadline pass on its own side.
                let _ = reply.send(Err(past_deadline()));
                continue;
            }
            let result = run(&*self.engine, job.batch, cancel, &self.stats);
            let (queued, ran) = (start - since, self.clock.now() - start);
            self.stats.finished(&result, (queued, ran), self.clock.wall());
            let done = result.map(|Answered { outputs, tokens }| Done { outputs, tokens, queued, ran });
            // Nobody left to tell is no error: the caller went away while it ran.
            let _ = reply.send(done);
        }
    }
}

impl Executor for Pool {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        Box::pin(async move {
            let deadline = job.deadline.instant().into();
            let guard = CancelOnDrop(CancelFlag::default());
            let answer = self.enqueue(job, guard.0.clone())?;
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(Error::internal("the model's threads have ended")),
                Err(_) => Err(past_deadline()),
            }
        })
    }

    fn stats(&self) -> &Stats {
        &self.shared.stats
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, atomic::Ordering},
        time::Duration,
    };

    use weir_types::SystemClock;

    use super::*;
    use crate::executor::tests::{AddOne, job};

    const LONG: Duration = Duration::from_secs(60);

    /// A pool of one thread which is busy until `gate` is passed once more.
    async fn busy() -> (Arc<Pool>, Arc<Barrier>, tokio::task::JoinHandle<Result<Done, Error>>) {
        let gate = Arc::new(Barrier::new(2));
        let pool = Arc::new(Pool::new(AddOne::new(Some(gate.clone())), Arc::new(SystemClock), 1, 1).unwrap());
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.execute(job(&[1.0], LONG)).await }
        });
        while pool.stats().executed.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        (pool, gate, first)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (pool, gate, first) = busy().await;
        let waiting = pool.enqueue(job(&[2.0], LONG), CancelFlag::default()).unwrap();
        let refused = pool.execute(job(&[3.0], LONG)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert_eq!(pool.stats().refused.load(Ordering::Relaxed), 1);
        gate.wait();
        first.await.unwrap().unwrap();
        gate.wait();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_costs_no_execution() {
        let (pool, gate, first) = busy().await;
        drop(pool.enqueue(job(&[2.0], LONG), CancelFlag::default()).unwrap());
        gate.wait();
        first.await.unwrap().unwrap();
        while pool.stats().abandoned.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.stats().executed.load(Ordering::Relaxed), 1);
    }
}
