//! One request in flight: sent, answered, judged, counted.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    progress::Progress,
    queue::{Handed, Queue},
};
use crate::{
    outcome::Outcome,
    plan::{Face, Plan, Request, Traffic},
    record::{Finished, Recorder},
    rng::Rng,
    transport::{Reply, Transport},
};

/// A request that is due.
pub(super) struct Job {
    pub(super) due: Instant,
}

/// What the slots of one thread share.
pub(super) struct Worker {
    pub(super) queue: Queue,
    recorder: RefCell<Recorder>,
    progress: Arc<Progress>,
    bodies: Bodies,
    face: Face,
    /// When the measured time begins and ends.
    measured: (Instant, Instant),
    deadline: Option<Duration>,
    timeout: Duration,
    retries: u32,
}

/// Requests in the order in which they are sent.
struct Bodies {
    traffic: Traffic,
    next: Cell<usize>,
    rng: RefCell<Rng>,
}

impl Bodies {
    fn next(&self) -> Option<Arc<Request>> {
        let traffic = &self.traffic;
        if let Some(source) = traffic.fresh.as_ref().filter(|_| traffic.repeat < 1.0) {
            let mut rng = self.rng.borrow_mut();
            if rng.unit() >= traffic.repeat {
                return Some(Arc::new(source.request(&mut rng)));
            }
        }
        let at = self.next.get();
        self.next.set((at + 1) % traffic.pool.len().max(1));
        traffic.pool.get(at).cloned()
    }
}

impl Worker {
    pub(super) fn new(plan: &Plan, at: usize, slots: usize, start: Instant, progress: Arc<Progress>) -> Self {
        let measured = (start + plan.warmup, start + plan.shape.duration());
        // Threads start at different bodies, so that they do not send the same one at once.
        let first = at * plan.traffic.pool.len() / 2;
        Self {
            queue: Queue::new(slots),
            recorder: RefCell::new(Recorder::new(plan.measured(), plan.deadline)),
            progress,
            bodies: Bodies {
                traffic: plan.traffic.clone(),
                next: Cell::new(first),
                rng: RefCell::new(Rng::new(plan.seed, 0xB0D1 + at as u64)),
            },
            face: plan.target.face,
            measured,
            deadline: plan.deadline,
            timeout: plan.timeout,
            retries: plan.retries,
        }
    }

    /// Time since the measured time began, if it has.
    fn counted(&self, moment: Instant) -> Option<Duration> {
        moment.checked_duration_since(self.measured.0)
    }

    /// A request falls due; `now` is when the generator came to it.
    pub(super) fn due(&self, due: Instant, now: Instant) {
        self.progress.due();
        let handed = self.queue.submit(Job { due });
        let waits = handed != Handed::ToSlot;
        self.recorder.borrow_mut().handled(self.counted(due), now.saturating_duration_since(due), waits);
        if handed == Handed::Full {
            self.count(due, now, Outcome::Unsent, &Tries::default(), 0);
        }
    }

    fn count(&self, due: Instant, done: Instant, outcome: Outcome, tries: &Tries, rows: u32) {
        let latency = done.saturating_duration_since(due);
        let mut recorder = self.recorder.borrow_mut();
        self.progress.done(outcome, recorder.is_good(outcome, latency), latency);
        recorder.finished(&Finished {
            due: self.counted(due),
            done: self.counted(done).unwrap_or_default(),
            latency,
            outcome,
            attempts: tries.sent,
            retry_after: tries.retry_after,
            rows,
        });
    }

    pub(super) fn into_recorder(self: Rc<Self>) -> Recorder {
        Rc::try_unwrap(self)
            .map_or_else(|shared| shared.recorder.borrow().clone(), |own| own.recorder.into_inner())
    }
}

/// What was tried for one request.
#[derive(Default)]
struct Tries {
    sent: u32,
    retry_after: bool,
}

/// A place for one request in flight.
pub(super) struct Slot<T> {
    worker: Rc<Worker>,
    transport: T,
}

impl<T: Transport> Slot<T> {
    pub(super) fn new(worker: Rc<Worker>, transport: T) -> Self {
        Self { worker, transport }
    }

    /// Sends what falls due until there is no more.
    pub(super) async fn serve(mut self, number: usize) {
        while let Some(job) = self.worker.queue.next(number).await {
            self.request(job.due).await;
        }
    }

    /// Sends again and again until the time is over.
    pub(super) async fn loop_closed(mut self) {
        loop {
            let now = Instant::now();
            if now >= self.worker.measured.1 {
                return;
            }
            self.worker.progress.due();
            self.request(now).await;
            // A transport that fails at once must not keep the others from their turn.
            tokio::task::consume_budget().await;
        }
    }

    async fn request(&mut self, due: Instant) {
        let worker = self.worker.clone();
        let mut tries = Tries::default();
        let give_up = due + worker.timeout;
        let last = worker.deadline.map_or(give_up, |deadline| give_up.min(due + deadline));
        let now = Instant::now();
        if now >= last {
            return worker.count(due, now, Outcome::Unsent, &tries, 0);
        }
        let Some(request) = worker.bodies.next() else { return };
        loop {
            let (outcome, done) = self.attempt(&request, due, &mut tries).await;
            let again = outcome != Outcome::Ok && tries.sent <= worker.retries && done < give_up;
            if !again {
                return worker.count(due, done, outcome, &tries, request.rows);
            }
        }
    }

    /// Sends once. The server is told how much of the deadline is left; a naive caller that sends
    /// again begins a new one each time.
    async fn attempt(&mut self, request: &Request, due: Instant, tries: &mut Tries) -> (Outcome, Instant) {
        let worker = &self.worker;
        let left = worker.deadline.map(|deadline| match tries.sent {
            0 => (due + deadline).saturating_duration_since(Instant::now()).max(Duration::from_micros(1)),
            _ => deadline,
        });
        let reply = self.transport.call(request, left, due + worker.timeout).await;
        tries.sent += 1;
        tries.retry_after |= reply.retry_after;
        let outcome = self.judge(request, reply);
        (outcome, Instant::now())
    }

    fn judge(&self, request: &Request, reply: Reply) -> Outcome {
        let (body, json) = self.transport.answer();
        let words = match (reply.outcome, &request.expected) {
            (Outcome::Ok, None) => return Outcome::Ok,
            (Outcome::Ok, Some(expected)) => match expected.check(self.worker.face, body, json) {
                Ok(()) => return Outcome::Ok,
                Err(words) => {
                    self.worker.recorder.borrow_mut().failure(&format!("wrong answer: {words}"));
                    return Outcome::Wrong;
                }
            },
            // Refusals are many by design, and say nothing new.
            (Outcome::Refused, _) => return Outcome::Refused,
            (Outcome::Status | Outcome::Deadline, _) => {
                failure_words(reply.status, body, self.transport.reason())
            }
            (outcome, _) => format!("{}: {}", outcome.word(), self.transport.reason()),
        };
        self.worker.recorder.borrow_mut().failure(&words);
        reply.outcome
    }
}

/// The status and the start of what came with it.
pub(crate) fn failure_words(status: u16, body: &[u8], reason: &str) -> String {
    const LONGEST: usize = 200;
    let body = String::from_utf8_lossy(body);
    let text = if reason.is_empty() { body.trim() } else { reason };
    let short: String = text.chars().take(LONGEST).collect();
    format!("status {status}: {short}")
}
