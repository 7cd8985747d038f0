//! Random mixes of jobs against the simplest model there is: each job's answer is its rows
//! plus one, or an error of its own making.

use std::sync::{Arc, atomic::Ordering};

use proptest::prelude::*;
use tokio::task::JoinHandle;
use weir_types::{Error, ErrorCode};

use super::{Double, named, values};
use crate::executor::{
    Done, Executor, Job, Local, Stats,
    tests::double::{LONG, counting, job, local, wrong},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    Poisonous,
    Wrong,
    /// Its caller goes away before the model is free.
    Dropped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::Poisonous), 1 => Just(Fate::Wrong), 2 => Just(Fate::Dropped)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No answer is swapped, lost or doubled, whatever is merged, cut, retried or withdrawn.
    #[test]
    fn everybody_gets_the_own_answer_once(
        jobs in prop::collection::vec((fate(), 0usize..20, 0u64..4, 0u8..3), 1..40),
        max_rows in 1usize..12,
        instances in 1usize..4,
    ) {
        let double = Double::held();
        let executor = local(&double, |b| (b.max_rows, b.instances) = (Some(max_rows), Some(instances)));
        let mut waiting = Vec::new();
        for (at, (fate, rows, priority, caller)) in jobs.into_iter().enumerate() {
            let mut input: Vec<f32> = (0..rows).map(|row| (at * 100 + row) as f32).collect();
            if matches!(fate, Fate::Poisonous) {
                input.push(-1.0);
            }
            let job = if matches!(fate, Fate::Wrong) { wrong(double.clock()) } else { job(double.clock(), &input, LONG) };
            let job = Job { priority, caller: named(&caller.to_string()), ..job };
            waiting.push((fate, input, executor.execute(job)));
        }
        let total = waiting.len();
        waiting.retain(|(fate, ..)| !matches!(fate, Fate::Dropped));
        double.open();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let left = waiting.len();
        for (fate, input, answer) in waiting {
            let result = runtime.block_on(answer);
            match fate {
                Fate::Answered => {
                    let expected: Vec<f32> = input.iter().map(|x| x + 1.0).collect();
                    prop_assert_eq!(values(result), expected);
                }
                Fate::Poisonous => prop_assert_eq!(result.unwrap_err().code, ErrorCode::Internal),
                _ => prop_assert_eq!(result.unwrap_err().code, ErrorCode::InvalidArgument),
            }
        }
        let stats = executor.stats();
        let counted = stats.answered.count() + stats.failed.count() + stats.abandoned.load(Ordering::Relaxed);
        prop_assert_eq!(counted, total as u64, "{} were dropped", total - left);
        prop_assert_eq!(executor.waiting(), 0);
    }
}

/// What happens to a server.
#[derive(Debug, Clone)]
enum Event {
    /// A request of so many rows, priority and caller.
    Asked(Fate, usize, u64, u8),
    /// The model is loaded again: what comes from now on goes to the new version.
    Reloaded,
    /// The version that serves may make one more execution.
    Runs,
    /// All whose fate it is go away.
    Left,
}

fn event() -> impl Strategy<Value = Event> {
    let asked = (fate(), 0usize..20, 0u64..4, 0u8..3).prop_map(|(f, r, p, c)| Event::Asked(f, r, p, c));
    prop_oneof![8 => asked, 2 => Just(Event::Reloaded), 3 => Just(Event::Runs), 1 => Just(Event::Left)]
}

/// One version that was served: its engine, and what it counted.
struct Version {
    double: Arc<Double>,
    stats: Arc<Stats>,
}

/// A request under way, as `Ready::execute` holds it: with the version that it was routed to.
struct Asked {
    fate: Fate,
    version: usize,
    input: Vec<f32>,
    answer: JoinHandle<Result<Done, Error>>,
}

/// What serves, and all that served before; a snapshot keeps the last one only.
struct Served {
    versions: Vec<Version>,
    current: Arc<Local>,
    batching: (usize, usize),
}

impl Served {
    fn new(batching: (usize, usize)) -> Self {
        let (version, current) = Self::load(batching);
        Self { versions: vec![version], current, batching }
    }

    fn load((max_rows, instances): (usize, usize)) -> (Version, Arc<Local>) {
        let (double, stats) = (Double::held(), Arc::new(Stats::default()));
        let edit = |b: &mut weir_artifact::BatchingTable| {
            (b.max_rows, b.instances) = (Some(max_rows), Some(instances));
        };
        let local = counting(&double, stats.clone(), edit);
        (Version { double, stats }, Arc::new(local))
    }

    fn reload(&mut self) {
        let (version, local) = Self::load(self.batching);
        self.versions.push(version);
        // Nobody but those who wait on it holds the old one from here on.
        self.current = local;
    }

    fn ask(&self, at: usize, fate: Fate, rows: usize, priority: u64, caller: u8) -> Asked {
        let version = self.versions.len() - 1;
        let clock = self.versions[version].double.clock();
        let mut input: Vec<f32> = (0..rows).map(|row| (at * 100 + row) as f32).collect();
        if fate == Fate::Poisonous {
            input.push(-1.0);
        }
        let job = if fate == Fate::Wrong { wrong(clock) } else { job(clock, &input, LONG) };
        let job = Job { priority, caller: named(&caller.to_string()), ..job };
        let executor = self.current.clone();
        let answer = tokio::spawn(async move { executor.execute(job).await });
        Asked { fate, version, input, answer }
    }
}

/// Follows the events, and then lets everything run.
async fn follow(events: Vec<Event>, batching: (usize, usize)) {
    let mut served = Served::new(batching);
    let mut asked: Vec<Asked> = Vec::new();
    for (at, event) in events.into_iter().enumerate() {
        match event {
            Event::Asked(fate, rows, priority, caller) => {
                asked.push(served.ask(at, fate, rows, priority, caller));
            }
            Event::Reloaded => served.reload(),
            Event::Runs => served.versions[served.versions.len() - 1].double.allow(1),
            Event::Left => asked.iter().filter(|a| a.fate == Fate::Dropped).for_each(|a| a.answer.abort()),
        }
        tokio::task::yield_now().await;
    }
    let Served { versions, current, .. } = served;
    // As when the server drains: nothing is served any more, and what waits is answered.
    drop(current);
    versions.iter().for_each(|version| version.double.open());
    let mut each = vec![0; versions.len()];
    for one in asked {
        each[one.version] += 1;
        check(one, &versions).await;
    }
    for (version, asked) in versions.iter().zip(each) {
        let Stats { answered, failed, abandoned, .. } = &*version.stats;
        assert_eq!(answered.count() + failed.count() + abandoned.load(Ordering::Relaxed), asked);
    }
}

/// The own answer, from the version that the request was routed to.
async fn check(Asked { fate, version, input, answer }: Asked, versions: &[Version]) {
    let result = match answer.await {
        Ok(result) => result,
        Err(gone) => return assert!(gone.is_cancelled() && fate == Fate::Dropped, "{gone}"),
    };
    match fate {
        Fate::Answered | Fate::Dropped => {
            assert_eq!(values(result), input.iter().map(|x| x + 1.0).collect::<Vec<_>>());
            let ran: Vec<f32> = versions[version].double.calls().concat();
            assert!(input.iter().all(|x| ran.contains(x)), "another version answered");
        }
        Fate::Poisonous => assert_eq!(result.unwrap_err().code, ErrorCode::Internal),
        Fate::Wrong => assert_eq!(result.unwrap_err().code, ErrorCode::InvalidArgument),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The same while the model is loaded again and again and work waits for versions that nobody
    /// serves any more.
    #[test]
    fn reloads_swap_and_lose_nothing(
        events in prop::collection::vec(event(), 1..60),
        max_rows in 1usize..12,
        instances in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(follow(events, (max_rows, instances)));
    }
}
