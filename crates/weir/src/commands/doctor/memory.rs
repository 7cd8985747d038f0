//! Memory: what models take, measured while they load, and never at the cost of what runs beside.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use weir_features::StoreKind;

use super::{finding::Finding, host::Facts};
use crate::{output::size, settings::Settings};

/// What the process takes without models, requests or anything kept (a release build, idle).
const PROCESS_BYTES: u64 = 32 << 20;
/// What loading leaves to everything else. With the demo models in cgroups of 128, 200 and 320 MiB a load had
/// taken 1 to 5 MiB of it by the time it was noticed.
const RESERVE: u64 = 32 << 20;
/// How often it is looked.
const TICK: Duration = Duration::from_millis(2);

/// How much memory there is, and who says so.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: u64,
    whose: &'static str,
}

fn limit(facts: &Facts) -> Option<Limit> {
    match (facts.limits.memory, facts.memory) {
        (Some(bytes), _) => Some(Limit { bytes, whose: "the cgroup's limit" }),
        (None, Some(bytes)) => Some(Limit { bytes, whose: "the machine's memory" }),
        (None, None) => None,
    }
}

/// Whether `bytes` fit into what is `free`, with what is left to others.
pub(super) fn fits(bytes: u64, free: Option<u64>) -> bool {
    free.is_none_or(|free| bytes.saturating_add(RESERVE) <= free)
}

/// Does `work` while `free` says that enough is left. Else `short` is called with what is, from another
/// thread and while `work` still goes on: nothing but the end of the process stops a load.
///
/// # Errors
/// The system gives no thread to watch; nothing was done.
pub(super) fn watched<T>(
    free: &(dyn Fn() -> Option<u64> + Sync),
    short: &(dyn Fn(u64) + Sync),
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let over = AtomicBool::new(false);
    let watch = || {
        while !over.load(Ordering::Relaxed) {
            if let Some(left) = free().filter(|left| *left < RESERVE) {
                return short(left);
            }
            thread::park_timeout(TICK);
        }
    };
    thread::scope(|scope| {
        thread::Builder::new().name("weir-watch".into()).spawn_scoped(scope, watch)?;
        // Also where `work` panics: the scope would wait for the watch.
        let _over = Over(&over);
        Ok(work())
    })
}

/// Ends the watch when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is found where models of at least `least` bytes were not loaded, or not to the end, with `left` bytes
/// left.
pub(super) fn short(facts: &Facts, least: u64, left: u64) -> Finding {
    let Some(Limit { bytes, whose }) = limit(facts) else {
        let found = format!("{} are free, models of {} or more were not loaded", size(left), size(least));
        return Finding::warn("memory", found, ELSEWHERE);
    };
    let found = format!(
        "the models take {} or more; loading them was given up: {} of {} ({whose}) are left beside what runs",
        size(least),
        size(left),
        size(bytes)
    );
    if PROCESS_BYTES.saturating_add(least).saturating_add(RESERVE) > bytes {
        let fix = "raise the limit, serve fewer models, or share memory among them by server.memory_budget";
        return Finding::fail("memory", found, fix);
    }
    Finding::warn("memory", found, ELSEWHERE)
}

/// Where a model can be loaded that does not fit beside the server.
const ELSEWHERE: &str = "for golden rows, routes and what the models take, run the doctor where no server runs: in a \
                         pod of its own with the same limits";

/// Bytes that everything which has a budget may hold together.
fn budgets(settings: &Settings) -> u64 {
    let Settings { server, cache, state, idempotency, .. } = settings;
    let cache = if cache.enabled { cache.budget.0 } else { 0 };
    let here = state.store != StoreKind::Redis;
    let state = if here { state.budget.0.saturating_add(idempotency.budget.0) } else { 0 };
    [server.max_body_in_flight.0, cache, state].into_iter().fold(0, u64::saturating_add)
}

/// What is found where models took `models` bytes while they loaded, and `budgets` may be filled beside them.
pub(super) fn check(facts: &Facts, settings: &Settings, models: u64) -> Finding {
    let Some(Limit { bytes, whose }) = limit(facts) else {
        return Finding::ok("memory", "nothing says how much there is");
    };
    let budgets = budgets(settings);
    let needed = PROCESS_BYTES.saturating_add(models);
    let wanted = needed.saturating_add(budgets);
    let found = format!(
        "{} for the models, as measured while they loaded, and {} of budgets: in all {} of {} ({whose})",
        size(models),
        size(budgets),
        size(wanted),
        size(bytes)
    );
    let fix = "raise the limit, or lower server.max_body_in_flight, cache.budget, state.budget and \
               idempotency.budget (left out, they follow the cgroup), or share memory among models by \
               server.memory_budget";
    match () {
        () if needed > bytes => Finding::fail("memory", found, fix),
        () if wanted > bytes => Finding::warn("memory", found, fix),
        () => Finding::ok("memory", found),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU64, AtomicUsize},
        mpsc,
    };

    use super::{
        super::{finding::Level, host::tests::facts},
        *,
    };
    use crate::host::Limits;

    fn with(memory: Option<u64>) -> Facts {
        Facts { limits: Limits { memory, ..facts().limits }, ..facts() }
    }

    #[test]
    fn what_was_measured_is_weighed_against_the_limit_with_the_budgets() {
        let settings = Settings::default();
        let level = |limit: Option<u64>, models| check(&with(limit), &settings, models).level;
        assert_eq!(level(Some(2 << 30), 512 << 20), Level::Ok);
        assert_eq!(level(Some(1 << 30), 512 << 20), Level::Warn, "when all is full");
        assert_eq!(
            level(Some(200 << 20), 190 << 20),
            Level::Fail,
            "the server itself is no part of the models"
        );
        assert_eq!(level(None, 16 << 30), Level::Fail, "the machine has a limit too");
    }

    #[test]
    fn what_does_not_fit_beside_others_is_no_failure_where_it_would_fit_alone() {
        assert!(fits(100 << 20, None) && fits(100 << 20, Some(132 << 20)));
        assert!(!fits(100 << 20, Some(131 << 20)), "something is left to others");
        let level = |limit: u64, least| short(&with(Some(limit)), least, 1).level;
        assert_eq!(level(320 << 20, 77 << 20), Level::Warn);
        assert_eq!(level(128 << 20, 77 << 20), Level::Fail);
        for finding in [short(&with(Some(1)), 2, 1), short(&with(Some(1 << 40)), 2, 1)] {
            assert!(!finding.fix.is_empty() && finding.found.contains("2 B"), "{finding:?}");
        }
    }

    #[test]
    fn a_load_is_given_up_while_something_is_left() {
        let (left, told) = (AtomicU64::new(RESERVE), AtomicUsize::new(0));
        let (tell, hear) = mpsc::channel();
        let short = |left| {
            told.fetch_add(1, Ordering::Relaxed);
            tell.send(left).unwrap();
        };
        let heard = watched(&|| Some(left.load(Ordering::Relaxed)), &short, || {
            left.store(RESERVE - 1, Ordering::Relaxed);
            hear.recv().unwrap()
        });
        assert_eq!((heard.unwrap(), told.load(Ordering::Relaxed)), (RESERVE - 1, 1));
        let never = |_| panic!("enough is left");
        assert_eq!(watched(&|| Some(RESERVE), &never, || 1).unwrap(), 1);
        assert_eq!(watched(&|| None, &never, || 2).unwrap(), 2);
    }
}
