//! Who is let in: whose answer is expected in time.

use std::time::{Duration, Instant};

use weir_types::{Deadline, Error, ErrorCode};

use super::{
    Caller,
    lane::State,
    queue::{Limits, Queue, Ticket},
    rate::Rate,
};

/// Of the time that a caller has left, the share that waiting and running may be expected to
/// take. Expectations are means: with half, half of those who just got in would be late for
/// the half of their deadline that an answer under overload may take.
const ADMITTED_SHARE: f64 = 0.4;

/// What admission needs to know of a job.
pub(super) struct Asked<'a> {
    level: usize,
    caller: &'a Caller,
    deadline: Deadline,
    pieces: usize,
    rows: usize,
    cost: u64,
    /// Cost before its last piece.
    offset: u64,
    /// Of an execution.
    limits: Limits,
}

impl<'a> Asked<'a> {
    /// A job of these pieces.
    pub(super) fn new(
        tickets: &[Ticket],
        limits: Limits,
        (level, caller, deadline): (usize, &'a Caller, Deadline),
    ) -> Self {
        let cost: u64 = tickets.iter().map(|t| t.cost).sum();
        let rows = tickets.iter().map(|t| t.rows).sum();
        let offset = cost - tickets.last().map_or(0, |t| t.cost);
        Self { level, caller, deadline, pieces: tickets.len(), rows, cost, offset, limits }
    }

    /// The least there can be: a row that costs so much.
    pub(super) fn least(
        cost: u64,
        limits: Limits,
        (level, caller, deadline): (usize, &'a Caller, Deadline),
    ) -> Self {
        Self { level, caller, deadline, pieces: 1, rows: 1, cost, offset: 0, limits }
    }

    /// Cost of a full execution of rows like those that wait and those asked for. Those that
    /// wait count as they are: priced like the one that asks, long texts would seem to run one
    /// small piece at a time, each at what a small execution costs besides its rows.
    fn full<T>(&self, queue: &Queue<T>) -> u64 {
        let cost = queue.cost().saturating_add(self.cost);
        if self.limits.entries == 1 {
            return cost.div_ceil((queue.len() + self.pieces).max(1) as u64);
        }
        let row = cost.div_ceil((queue.rows() + self.rows).max(1) as u64);
        self.limits.cost.min((self.limits.rows as u64).saturating_mul(row)).max(1)
    }
}

/// What admission needs to know of a model.
pub(super) struct Expected<'a> {
    /// How long work takes.
    pub(super) rate: &'a Rate,
    /// Executions at the same time.
    pub(super) instances: usize,
    /// Most jobs that wait.
    pub(super) queue: usize,
    pub(super) now: Instant,
}

impl Expected<'_> {
    /// How long it takes until `asked` is answered, if it joins what waits and runs.
    fn wait<T>(&self, state: &State<T>, asked: &Asked<'_>) -> Duration {
        let ahead = state.queue.ahead(asked.level, asked.caller, asked.offset);
        // What runs is half done, on average.
        let running = state.running / 2 / self.instances.max(1) as u64;
        let rest = if running > 0 { self.rate.predict(running) } else { Duration::ZERO };
        rest + self.rate.drain(ahead + asked.cost, asked.full(&state.queue), self.instances)
    }

    /// Refuses what would be answered too late.
    ///
    /// # Errors
    /// `Overloaded`, with the time after which there is room.
    pub(super) fn admit<T>(&self, state: &State<T>, asked: &Asked<'_>) -> Result<(), Error> {
        let time = self.wait(state, asked);
        if state.queue.jobs() >= self.queue {
            return Err(refuse("too many requests wait for this model", time / 2));
        }
        let left = asked.deadline.remaining(self.now);
        // An idle model refuses nothing: that is also how it learns that it became faster. And
        // where nothing waits, the next in line may use all of its time.
        let allowed = match state.queue.len() {
            0 if state.running == 0 => return Ok(()),
            0 => left,
            _ => left.mul_f64(ADMITTED_SHARE),
        };
        if time <= allowed {
            return Ok(());
        }
        Err(refuse("the model is too busy to answer in time", time - allowed))
    }
}

pub(super) fn refuse(why: &'static str, wait: Duration) -> Error {
    Error::new(ErrorCode::Overloaded, why).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use weir_engine::Cost;

    use super::*;
    use crate::executor::lane::Lane;

    const MS: Duration = Duration::from_millis(1);

    /// An execution takes 4 ms and a tenth of a millisecond for each unit.
    fn took(cost: u64) -> Duration {
        4 * MS + MS.mul_f64(cost as f64 / 10.0)
    }

    fn rate(costs: &[u64]) -> Rate {
        let rate = Rate::new(Cost::Heavy);
        for cost in costs {
            (0..8).for_each(|_| rate.record(*cost, took(*cost)));
        }
        rate
    }

    fn ticket(rows: usize, cost: u64, last: bool) -> Ticket {
        Ticket { level: 0, caller: Caller::Unknown, cost, rows, kind: 0, last }
    }

    /// What two workers that are busy with such pieces already are expected to need for `jobs`
    /// jobs of so many pieces and for what comes then; and what they do need.
    fn expected(jobs: usize, pieces: usize, piece: &Ticket, limits: Limits, next: &Asked<'_>) -> f64 {
        let lane = Lane::new(1);
        let entries = |last| (Ticket { last, ..piece.clone() }, ());
        for _ in 0..jobs {
            let job = (1..=pieces).map(|n| entries(n == pieces)).collect();
            lane.push(job, |_| Ok::<_, Error>(())).unwrap();
        }
        (0..2).for_each(|_| drop(lane.take(|_| Limits { entries: 1, ..limits }, |_| false)));
        let rate = rate(&[8, piece.cost]);
        let expected = Expected { rate: &rate, instances: 2, queue: 10_000, now: Instant::now() };
        let waiting = (jobs * pieces - 2) as f64;
        // Half of what runs, what waits, and the next, which is small.
        let real = took(piece.cost).mul_f64(0.5 + waiting / 2.0);
        lane.look(|state| expected.wait(state, next)).as_secs_f64() / real.as_secs_f64()
    }

    fn deadline() -> Deadline {
        Deadline::after(Instant::now(), Duration::from_secs(30))
    }

    /// 64 callers of 8 texts of 40 tokens, each request by itself.
    #[test]
    fn requests_that_run_by_themselves_are_expected_to_take_what_they_take() {
        let limits = Limits { entries: 1, rows: usize::MAX, cost: 512 };
        let piece = ticket(8, 320, true);
        let terms = (0, &Caller::Unknown, deadline());
        let small = Asked::least(8, limits, terms);
        let same = Asked::new(std::slice::from_ref(&piece), limits, terms);
        for next in [small, same] {
            let ratio = expected(64, 1, &piece, limits, &next);
            assert!((0.9..1.1).contains(&ratio), "before the body or after: {ratio}");
        }
    }

    /// The same, cut into rows.
    #[test]
    fn requests_cut_into_rows_are_too() {
        let limits = Limits { entries: usize::MAX, rows: 1, cost: 512 };
        let piece = ticket(1, 40, true);
        let terms = (0, &Caller::Unknown, deadline());
        let small = Asked::least(8, limits, terms);
        let pieces: Vec<_> = (1..=8).map(|n| ticket(1, 40, n == 8)).collect();
        let same = Asked::new(&pieces, limits, terms);
        for next in [small, same] {
            let ratio = expected(64, 8, &piece, limits, &next);
            assert!((0.9..1.1).contains(&ratio), "before the body or after: {ratio}");
        }
    }
}
