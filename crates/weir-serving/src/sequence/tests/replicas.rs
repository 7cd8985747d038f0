//! Two servers with one store: what was answered is never lost, and never done twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and that is told.
    Before,
    /// It is done, and told as if it were not.
    After,
}

/// A value, and until when it is kept.
type Kept = (Vec<u8>, Instant);

/// Keeps values in this process.
#[derive(Default)]
pub(crate) struct MemoryStore {
    values: Mutex<HashMap<Vec<u8>, Kept>>,
    clock: Option<Arc<Standing>>,
    fault: Mutex<Option<Fault>>,
    writes: AtomicUsize,
}

impl MemoryStore {
    pub(crate) fn new(clock: &Arc<Standing>) -> Arc<Self> {
        Arc::new(Self { clock: Some(clock.clone()), ..Self::default() })
    }

    fn now(&self) -> Instant {
        self.clock.as_ref().unwrap().now()
    }

    fn change(&self, key: &[u8], expected: Expected<'_>, value: Option<Kept>) -> Result<bool, Error> {
        let unavailable = || Error::new(ErrorCode::Unavailable, "the store is away");
        self.writes.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.lock().unwrap().take();
        if fault == Some(Fault::Before) {
            return Err(unavailable());
        }
        let mut values = self.values.lock().unwrap();
        values.retain(|_, (_, until)| *until > self.now());
        let allowed = expected.allows(values.get(key).map(|(value, _)| &value[..]));
        if allowed {
            match value {
                Some(value) => drop(values.insert(key.to_vec(), value)),
                None => drop(values.remove(key)),
            }
        }
        if fault == Some(Fault::After) { Err(unavailable()) } else { Ok(allowed) }
    }
}

impl SequenceStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Vec<u8>>> {
        let mut values = self.values.lock().unwrap();
        values.retain(|_, (_, until)| *until > self.now());
        Box::pin(std::future::ready(Ok(values.get(key).map(|(value, _)| value.clone()))))
    }

    fn put<'a>(
        &'a self,
        key: &'a [u8],
        expected: Expected<'a>,
        value: Vec<u8>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            // So that who waits can be dropped in between.
            tokio::task::yield_now().await;
            self.change(key, expected, Some((value, self.now() + ttl)))
        })
    }

    fn delete<'a>(&'a self, key: &'a [u8], expected: Expected<'a>) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.change(key, expected, None)
        })
    }
}

/// Two servers and their store.
fn two(clock: &Arc<Standing>) -> (Arc<MemoryStore>, [SequenceExecutor; 2]) {
    let store = MemoryStore::new(clock);
    let one = || executor(Cost::Light, spec(10), clock, Some(store.clone()));
    (store.clone(), [one(), one()])
}

#[tokio::test]
async fn another_replica_goes_on_with_the_last_step_that_was_answered() {
    let clock = Standing::new();
    let (store, [a, b]) = two(&clock);
    let ask = |on: &'static str, flags, x| {
        let executor = if on == "a" { &a } else { &b };
        executor.execute(step(&clock, 1, flags, x))
    };
    assert_eq!(sum(&ask("a", (true, false), 1.0).await.unwrap()), 1.0);
    assert_eq!(sum(&ask("b", (false, false), 10.0).await.unwrap()), 11.0);
    // What a remembers is of an earlier moment: it finds that out, and does the step once.
    assert_eq!(sum(&ask("a", (false, false), 100.0).await.unwrap()), 111.0);
    assert_eq!(sum(&ask("b", (false, true), 1000.0).await.unwrap()), 1111.0);
    for on in ["a", "b"] {
        let ended = ask(on, (false, false), 1.0).await.unwrap_err();
        assert!(ended.message.contains("must specify the START flag"), "{on}: {ended}");
    }
    assert!(store.values.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_step_that_could_not_be_kept_is_not_answered_and_can_be_sent_again() {
    for fault in [Fault::Before, Fault::After] {
        for end in [false, true] {
            let clock = Standing::new();
            let (store, [a, _]) = two(&clock);
            a.execute(step(&clock, 1, (true, false), 1.0)).await.unwrap();
            *store.fault.lock().unwrap() = Some(fault);
            let failed = a.execute(step(&clock, 1, (false, end), 10.0)).await.unwrap_err();
            assert_eq!(failed.code, ErrorCode::Unavailable);
            let again = a.execute(step(&clock, 1, (false, end), 10.0)).await;
            match (fault, end) {
                // It had ended: of that nothing is left to tell apart from what never was.
                (Fault::After, true) => assert_eq!(again.unwrap_err().code, ErrorCode::InvalidArgument),
                _ => assert_eq!(sum(&again.unwrap()), 11.0, "{fault:?} {end}"),
            }
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_again_and_again_is_done_once() {
    for failures in [1, 2, MAX_DOUBTS - 1] {
        let clock = Standing::new();
        let (store, [a, _]) = two(&clock);
        a.execute(step(&clock, 1, (true, false), 1.0)).await.unwrap();
        for n in 0..failures {
            *store.fault.lock().unwrap() = Some(if n == 0 { Fault::After } else { Fault::Before });
            a.execute(step(&clock, 1, (false, false), 10.0)).await.unwrap_err();
        }
        assert_eq!(sum(&a.execute(step(&clock, 1, (false, false), 10.0)).await.unwrap()), 11.0);
    }
}

#[tokio::test]
async fn what_the_store_has_is_not_believed() {
    let clock = Standing::new();
    let (store, [a, b]) = two(&clock);
    a.execute(step(&clock, 1, (true, false), 1.0)).await.unwrap();
    store.values.lock().unwrap().values_mut().for_each(|(value, _)| value[30] ^= 1);
    let refused = b.execute(step(&clock, 1, (false, false), 1.0)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert_eq!(sum(&b.execute(step(&clock, 1, (true, false), 5.0)).await.unwrap()), 5.0);
}

#[derive(Debug, Clone)]
struct Asked {
    on_b: bool,
    start: bool,
    end: bool,
    x: f32,
    dropped: bool,
    fault: Option<Fault>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let fault = prop_oneof![8 => Just(None), 1 => Just(Some(Fault::Before)), 1 => Just(Some(Fault::After))];
    let x = prop_oneof![9 => (0..100i16).prop_map(f32::from), 1 => Just(-1.0)];
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.1), prop::bool::weighted(0.15));
    (any::<bool>(), flags, x, fault).prop_map(|(on_b, (start, end, dropped), x, fault)| Asked {
        on_b,
        start,
        end,
        x,
        dropped,
        fault,
    })
}

/// One sequence on two servers. `possible` is where it may be: one place, but for steps of
/// which nobody was told what became of them.
async fn serial(all: &[Asked]) -> Result<(), TestCaseError> {
    let clock = Standing::new();
    let (store, [a, b]) = two(&clock);
    let mut possible: Vec<Option<f32>> = vec![None];
    for asked in all {
        let Asked { on_b, start, end, x, dropped, fault } = *asked;
        *store.fault.lock().unwrap() = fault;
        let executor = if on_b { &b } else { &a };
        let future = executor.execute(step(&clock, 1, (start, end), x));
        let came = if dropped { once(future).await } else { Some(future.await) };
        // What was dropped goes on by itself.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        *store.fault.lock().unwrap() = None;
        let after = |before: &Option<f32>| match (before, start) {
            _ if x < 0.0 => None,
            (_, true) => Some(x),
            (Some(sum), false) => Some(sum + x),
            (None, false) => None,
        };
        let next = |sum: f32| (!end).then_some(sum);
        let all: Vec<f32> = possible.iter().filter_map(after).collect();
        match came {
            Some(Ok(done)) => {
                let got = sum(&done);
                prop_assert!(all.contains(&got), "{got} is none of {all:?}, {asked:?}");
                possible = vec![next(got)];
            }
            Some(Err(error)) if error.code == ErrorCode::InvalidArgument => {
                prop_assert!(!start && possible.contains(&None), "{error} at {possible:?}");
                possible = vec![None];
            }
            Some(Err(error)) => {
                let allowed = [ErrorCode::Unavailable, ErrorCode::Internal].contains(&error.code);
                prop_assert!(allowed && (fault.is_some() || x < 0.0), "{error} {asked:?}");
                possible.extend(all.into_iter().map(next));
            }
            None => possible.extend(all.into_iter().map(next)),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_sequence_on_two_servers_has_one_history(all in prop::collection::vec(asked(), 0..40)) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serial(&all))?;
    }
}
