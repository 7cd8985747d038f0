//! What is counted while a load runs. One recorder a thread; they are merged at the end.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::{Counter, Histogram};

use crate::outcome::Outcome;

/// Longest latency told apart, nanoseconds: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Most points of the time series; intervals are wider than a second beyond it.
const MOST_INTERVALS: usize = 600;
/// Most different failures whose words are kept.
const MOST_FAILURES: usize = 20;

/// A histogram of nanoseconds with `digits` significant digits, from 100 ns to an hour.
fn histogram<C: Counter>(digits: u8) -> Histogram<C> {
    // The bounds are constants that the library takes; were they not, a histogram that grows
    // by itself counts as well.
    Histogram::new_with_bounds(100, LONGEST_NS, digits).unwrap_or_else(|_| growing())
}

fn growing<C: Counter>() -> Histogram<C> {
    #[allow(clippy::expect_used)] // 1 to 5 digits are always taken
    Histogram::new(2).expect("two digits")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(LONGEST_NS).min(LONGEST_NS)
}

/// Requests that were due in one interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    /// Requests due.
    pub(crate) due: u64,
    /// Of these, by outcome.
    pub(crate) outcomes: [u64; 8],
    /// Of these, right and within the deadline.
    pub(crate) good: u64,
    /// Answers of any kind that came in this interval, whenever their requests were due.
    pub(crate) completed: u64,
    /// Latency of those that ended well.
    pub(crate) latency: Histogram<u32>,
}

impl Interval {
    fn new() -> Self {
        Self { due: 0, outcomes: [0; 8], good: 0, completed: 0, latency: histogram(2) }
    }
}

/// What a finished request tells the recorder.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// When it was due, since the measured time began; `None` before that.
    pub(crate) due: Option<Duration>,
    /// When it was done.
    pub(crate) done: Duration,
    /// From due to done.
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// Whether a refusal said when to come back.
    pub(crate) retry_after: bool,
    pub(crate) rows: u32,
}

/// Counters and histograms of one thread.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorder {
    width: Duration,
    deadline: Option<Duration>,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) outcomes: [u64; 8],
    pub(crate) good: u64,
    pub(crate) rows: u64,
    pub(crate) attempts: u64,
    pub(crate) retry_after: u64,
    /// Requests that found every connection busy.
    pub(crate) waited: u64,
    pub(crate) ok: Histogram<u64>,
    pub(crate) refused: Histogram<u64>,
    pub(crate) failed: Histogram<u64>,
    /// How late the generator itself was: from due to handled, before any connection matters.
    pub(crate) lag: Histogram<u64>,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Recorder {
    /// For a measured time of `measured`; `deadline` is what good answers keep.
    pub(crate) fn new(measured: Duration, deadline: Option<Duration>) -> Self {
        let seconds = measured.as_secs_f64().ceil().max(1.0);
        let width = (seconds / MOST_INTERVALS as f64).ceil().max(1.0);
        let count = (seconds / width).ceil() as usize;
        Self {
            width: Duration::from_secs_f64(width),
            deadline,
            intervals: vec![Interval::new(); count],
            outcomes: [0; 8],
            good: 0,
            rows: 0,
            attempts: 0,
            retry_after: 0,
            waited: 0,
            ok: histogram(3),
            refused: histogram(3),
            failed: histogram(3),
            lag: histogram(3),
            failures: BTreeMap::new(),
        }
    }

    /// Width of an interval.
    pub(crate) fn width(&self) -> Duration {
        self.width
    }

    fn interval(&mut self, at: Duration) -> Option<&mut Interval> {
        let index = (at.as_nanos() / self.width.as_nanos()) as usize;
        self.intervals.get_mut(index)
    }

    /// How late the generator came to a request that was due at `due`.
    pub(crate) fn handled(&mut self, due: Option<Duration>, lag: Duration, waits: bool) {
        if due.is_some() {
            self.lag.saturating_record(nanoseconds(lag));
            self.waited += u64::from(waits);
        }
    }

    /// Whether a request that ended so is good.
    pub(crate) fn is_good(&self, outcome: Outcome, latency: Duration) -> bool {
        outcome == Outcome::Ok && self.deadline.is_none_or(|deadline| latency <= deadline)
    }

    /// Counts a request. Those due before the measured time count nowhere.
    pub(crate) fn finished(&mut self, f: &Finished) {
        let Some(due) = f.due else { return };
        let good = self.is_good(f.outcome, f.latency);
        let ns = nanoseconds(f.latency);
        self.outcomes[f.outcome.index()] += 1;
        self.good += u64::from(good);
        self.attempts += u64::from(f.attempts);
        self.retry_after += u64::from(f.retry_after);
        match f.outcome {
            Outcome::Ok => {
                self.rows += u64::from(f.rows);
                self.ok.saturating_record(ns);
            }
            Outcome::Refused => self.refused.saturating_record(ns),
            _ => self.failed.saturating_record(ns),
        }
        if let Some(interval) = self.interval(due) {
            interval.due += 1;
            interval.outcomes[f.outcome.index()] += 1;
            interval.good += u64::from(good);
            if f.outcome == Outcome::Ok {
                interval.latency.saturating_record(ns);
            }
        }
        let answered = f.outcome != Outcome::Unsent;
        if let Some(interval) = self.interval(f.done).filter(|_| answered) {
            interval.completed += 1;
        }
    }

    /// Keeps the words of a failure, so that a report can say what went wrong.
    pub(crate) fn failure(&mut self, words: &str) {
        if let Some(count) = self.failures.get_mut(words) {
            *count += 1;
        } else if self.failures.len() < MOST_FAILURES {
            self.failures.insert(words.to_owned(), 1);
        }
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        let sum = |a: &mut [u64; 8], b: &[u64; 8]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        sum(&mut self.outcomes, &other.outcomes);
        self.good += other.good;
        self.rows += other.rows;
        self.attempts += other.attempts;
        self.retry_after += other.retry_after;
        self.waited += other.waited;
        let pairs = [
            (&mut self.ok, &other.ok),
            (&mut self.refused, &other.refused),
            (&mut self.failed, &other.failed),
            (&mut self.lag, &other.lag),
        ];
        // Same bounds, so there is always room.
        pairs.into_iter().for_each(|(mine, theirs)| {
            let _ = mine.add(theirs);
        });
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            sum(&mut mine.outcomes, &theirs.outcomes);
            mine.due += theirs.due;
            mine.good += theirs.good;
            mine.completed += theirs.completed;
            let _ = mine.latency.add(&theirs.latency);
        }
        for (words, count) in &other.failures {
            *self.failures.entry(words.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn finished(due: u64, latency: u64, outcome: Outcome) -> Finished {
        Finished {
            due: Some(ms(due)),
            done: ms(due + latency),
            latency: ms(latency),
            outcome,
            attempts: 1,
            retry_after: outcome == Outcome::Refused,
            rows: 4,
        }
    }

    #[test]
    fn requests_count_where_they_were_due_and_answers_where_they_came() {
        let mut recorder = Recorder::new(ms(2500), Some(ms(100)));
        recorder.finished(&finished(900, 300, Outcome::Ok));
        recorder.finished(&finished(950, 20, Outcome::Ok));
        recorder.finished(&finished(2000, 5, Outcome::Refused));
        recorder.finished(&Finished { due: None, ..finished(0, 1, Outcome::Ok) });
        assert_eq!(recorder.intervals.iter().map(|i| i.due).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(recorder.intervals.iter().map(|i| i.completed).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!((recorder.good, recorder.rows, recorder.retry_after), (1, 8, 1));
        assert_eq!(recorder.outcomes[Outcome::Ok.index()], 2);
    }

    #[test]
    fn merging_is_as_if_one_had_counted_all() {
        let events: Vec<_> =
            (0..500).map(|i| finished(i * 7 % 3000, i, Outcome::ALL[i as usize % 8])).collect();
        let mut whole = Recorder::new(ms(3000), Some(ms(50)));
        let mut parts = [whole.clone(), whole.clone()];
        for (i, event) in events.iter().enumerate() {
            whole.finished(event);
            parts[i % 2].finished(event);
            parts[i % 2].failure("x");
            whole.failure("x");
        }
        let [mut first, second] = parts;
        first.merge(&second);
        // Not `assert_eq!`: a failure would print every bucket.
        assert!(first == whole);
    }

    #[test]
    fn long_loads_have_wider_intervals_and_words_are_bounded() {
        let mut recorder = Recorder::new(Duration::from_secs(86_400), None);
        assert_eq!((recorder.intervals.len(), recorder.width()), (600, Duration::from_secs(144)));
        (0..100).for_each(|i| recorder.failure(&format!("failure {i}")));
        assert_eq!(recorder.failures.len(), MOST_FAILURES);
    }
}
