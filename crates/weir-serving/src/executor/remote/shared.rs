//! Rows of several callers in one call.
//!
//! Jobs wait in a lane as those of a model in this process do, in the same fair order. What takes
//! from it is not a thread but a call: as long as the server takes one more, the next call takes
//! all that waits, up to the most rows of one. On a server with room a job is its own call, at once.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll},
    time::Instant,
};

use tokio::{runtime::Handle, sync::Notify};
use weir_artifact::{BatchingTable, ModelSpec};
use weir_engine::Cost;
use weir_types::{Deadline, Error};

use super::{flight::Flight, link::Link};
use crate::executor::{
    Caller, Done, Job, Stats,
    call::{Call, Piece},
    cut::Cut,
    expect::{Asked, Expected},
    lane::Lane,
    past_deadline,
    queue::Limits,
    rate::Rate,
    size::Size,
    waiting::{Desk, Waiting},
};

/// Most rows of a shared call where neither `[batching]` nor the server says.
const OPEN_ROWS: usize = 64;

/// How callers share calls.
pub(super) struct Sharing {
    batching: BatchingTable,
    /// Most rows of one call, where there is a bound: larger requests are cut.
    max_rows: Option<usize>,
    /// Jobs that may wait.
    queue: usize,
    /// Whether all rows have the same number of elements.
    uniform: bool,
}

impl Sharing {
    /// For the model `spec`, whose server takes `max_rows` in a call.
    pub(super) fn new(spec: &ModelSpec, max_rows: Option<usize>, queue: usize) -> Self {
        let batching = spec.batching.clone();
        let max_rows = [batching.max_rows, max_rows].into_iter().flatten().min();
        let uniform = spec.signature.inputs.iter().all(|i| i.row_width().is_some());
        Self { max_rows, queue: batching.queue.unwrap_or(queue), uniform, batching }
    }
}

/// Jobs that share calls.
pub(super) struct Shared(Arc<Core>);

/// What callers and calls share.
pub(super) struct Core {
    pub(super) link: Arc<Link>,
    sharing: Sharing,
    pub(super) lane: Lane<Piece>,
    pub(super) rate: Rate,
    slots: Mutex<Slots>,
    /// A job came.
    came: Notify,
}

#[derive(Default)]
struct Slots {
    /// Calls under way, those that wait for their batch to fill included.
    running: usize,
    /// Whether one of them does.
    filling: bool,
}

impl Shared {
    pub(super) fn new(link: Arc<Link>, sharing: Sharing) -> Self {
        let lane = Lane::new(sharing.batching.priority_levels);
        // Until something is known, nobody is refused for what is expected.
        let rate = Rate::new(Cost::Light);
        Self(Arc::new(Core { link, sharing, lane, rate, slots: Mutex::default(), came: Notify::new() }))
    }

    pub(super) async fn run(&self, job: Job) -> Result<Done, Error> {
        self.0.submit(job)?.answer().await
    }

    pub(super) fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        let core = &self.0;
        core.link.guard.closed().map_err(|error| core.link.refuse(&error))?;
        // Its priority is not known before the body is read: then nothing waits before it.
        let asked = Asked::least(1, core.limits(), (0, caller, deadline));
        let ready = core.lane.look(|state| core.expected().admit(state, &asked));
        ready.inspect_err(|_| Stats::count(&core.link.stats.refused))
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.lane.look(|state| state.queue.jobs())
    }
}

impl Core {
    fn submit(self: &Arc<Self>, job: Job) -> Result<Waiting<Self>, Error> {
        let Job { batch, deadline, priority, caller, trace, .. } = job;
        let now = self.link.clock.now();
        if deadline.is_past(now) {
            Stats::count(&self.link.stats.expired);
            return Err(past_deadline());
        }
        self.link.guard.closed().map_err(|error| self.link.refuse(&error))?;
        let Sharing { max_rows, uniform, batching, .. } = &self.sharing;
        let (size, level) = (Size::of(None, &batch, *uniform), batching.level(priority));
        let cut = Cut::new(size.rows, None, max_rows.unwrap_or(usize::MAX), usize::MAX);
        let tickets = size.tickets(&cut, &batch, &[], (level, &caller));
        let asked = Asked::new(&tickets, self.limits(), (level, &caller, deadline));
        let (call, pieces, answer) = Call::new(batch, cut, (deadline, now), None, trace);
        let entries = tickets.into_iter().zip(pieces).collect();
        let pushed = self.lane.push(entries, |state| self.expected().admit(state, &asked));
        let pushed = pushed.inspect_err(|_| Stats::count(&self.link.stats.refused))?;
        let waiting = Waiting { desk: self.clone(), call, places: pushed.places, answer };
        self.came.notify_waiters();
        self.start();
        Ok(waiting)
    }

    fn limits(&self) -> Limits {
        Limits { entries: usize::MAX, rows: self.sharing.max_rows.unwrap_or(OPEN_ROWS), cost: u64::MAX }
    }

    fn expected(&self) -> Expected<'_> {
        let now = self.link.clock.now();
        Expected { rate: &self.rate, instances: self.most(), queue: self.sharing.queue, now }
    }

    /// Calls that may be under way at once.
    fn most(&self) -> usize {
        let limit = self.link.guard.limit() as usize;
        limit.min(self.sharing.batching.instances.unwrap_or(usize::MAX)).max(1)
    }

    /// Starts calls while something waits and the server takes one more.
    pub(super) fn start(self: &Arc<Self>) {
        // Without a runtime the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        while let Some(slot) = self.slot() {
            if slot.filling {
                runtime.spawn(self.clone().watch(slot.fill()));
            } else if let Some(flight) = slot.take() {
                runtime.spawn(self.clone().watch(flight.run()));
            }
        }
    }

    /// Runs a call. One that panics has given its room back and started nothing in it, so that
    /// is done here. When it is dropped would be too often: a runtime that ends drops its calls,
    /// and what such a drop started would be dropped at once and start the next, all on one stack.
    async fn watch(self: Arc<Self>, call: impl Future<Output = ()>) {
        let mut call = pin!(call);
        let guarded = |cx: &mut task::Context<'_>| {
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
            polled.map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok))
        };
        if poll_fn(guarded).await.is_err() {
            tracing::error!(model = self.link.name, "a call to a remote model panicked");
            self.start();
        }
    }

    /// Room for a call, if something waits for one. Looked at in this order, what is pushed while
    /// a call ends is seen by one of both: it was pushed before this asks for room, and who gives
    /// room back looks again afterwards.
    fn slot(self: &Arc<Self>) -> Option<Slot> {
        if self.lane.look(|state| state.queue.is_empty()) {
            return None;
        }
        let most = self.most();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.filling || slots.running >= most {
            return None;
        }
        slots.running += 1;
        slots.filling = !self.sharing.batching.max_delay.0.is_zero();
        Some(Slot { core: self.clone(), filling: slots.filling })
    }

    fn running(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).running
    }

    /// Whether no call is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running() == 0
    }

    /// Whether no call is under way but the one that asks.
    pub(super) fn is_alone(&self) -> bool {
        self.running() == 1
    }

    /// Waits until a full call waits, or what waits longest has waited `max_delay`.
    async fn filled(&self) {
        let delay = self.sharing.batching.max_delay.0;
        loop {
            let mut came = pin!(self.came.notified());
            came.as_mut().enable();
            let now = self.link.clock.now();
            let left = self.lane.look(|state| {
                let first = state.queue.peek().filter(|_| !state.queue.is_full(|_| self.limits()))?;
                Some(delay.saturating_sub(now.saturating_duration_since(first.call.since)))
            });
            let Some(left) = left.filter(|left| !left.is_zero()) else { return };
            let _ = tokio::time::timeout(left, came).await;
        }
    }
}

impl Desk for Core {
    fn lane(&self) -> &Lane<Piece> {
        &self.lane
    }

    fn stats(&self) -> &Stats {
        &self.link.stats
    }

    fn now(&self) -> Instant {
        self.link.clock.now()
    }
}

/// Room for one call.
pub(super) struct Slot {
    pub(super) core: Arc<Core>,
    /// Whether its batch waits to fill; only one does at a time.
    filling: bool,
}

impl Slot {
    async fn fill(mut self) {
        self.core.filled().await;
        self.is_filled();
        let core = self.core.clone();
        let flight = self.take();
        core.start();
        if let Some(flight) = flight {
            flight.run().await;
        }
    }

    fn is_filled(&mut self) {
        if std::mem::take(&mut self.filling) {
            self.core.slots.lock().unwrap_or_else(PoisonError::into_inner).filling = false;
        }
    }

    /// Takes what runs next, if anything still waits.
    fn take(self) -> Option<Flight> {
        let core = &self.core;
        let start = core.link.clock.now();
        let over = |piece: &Piece| piece.call.is_over() || piece.call.deadline.is_past(start);
        let taken = core.lane.take(|_| core.limits(), over);
        for Piece { call, index, .. } in taken.dead {
            if let Some(ended) = call.answer(index, Err(past_deadline()), (start, start)) {
                Stats::count(&core.link.stats.expired);
                ended.tell();
            }
        }
        (!taken.batch.is_empty()).then(|| Flight::new(self, taken.batch, start))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.is_filled();
        self.core.slots.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
