//! What a request may want, and time.

use std::{sync::Arc, time::Duration};

use weir_artifact::{CacheDefault, CacheTable};
use weir_config::HumanDuration;
use weir_types::{
    Access, AllowLocal, Authorizer, Clock, Credentials, Deadline, Error, ErrorCode, Outputs, SystemClock,
    Tensor, TensorData,
};

use super::double::{LONG, Light, engine, job, settle, spec, values, wrap};
use crate::{
    Admission, Cache, CacheConfig, CacheControl, CacheMode, CacheVerdict, Caller, Done, ExecuteFuture,
    Executor, Job, PurgeScope, Sender, ServedVersion, Stats, Took, executor::tests::contract,
};

fn table(ttl: u64, stale: u64) -> CacheTable {
    CacheTable {
        ttl: HumanDuration::from_secs(ttl),
        stale: HumanDuration::from_secs(stale),
        jitter: 0.0,
        ..CacheTable::default()
    }
}

#[tokio::test]
async fn a_cache_keeps_the_contract_of_executors() {
    let light = Light::new(table(60, 0));
    contract(&*light.executor, light.double.clock()).await;
}

#[tokio::test]
async fn modes_look_fill_both_or_neither() {
    let light = Light::new(table(60, 0));
    let calls = || light.double.calls().len();
    let only = light.ask_as(&[1.0], CacheMode::OnlyIfCached).await.unwrap_err();
    assert_eq!((only.code, calls()), (ErrorCode::NotCached, 0));
    let none = light.ask_as(&[1.0], CacheMode::NoStore).await.unwrap();
    assert_eq!((none.cache, calls()), (None, 1));
    assert!(light.ask_as(&[1.0], CacheMode::OnlyIfCached).await.is_err(), "nothing was stored");
    for n in 2..4 {
        let fresh = light.ask_as(&[1.0], CacheMode::NoCache).await.unwrap();
        assert_eq!((fresh.cache.unwrap().verdict(), calls()), (CacheVerdict::Miss, n));
    }
    let stored = light.ask_as(&[1.0], CacheMode::OnlyIfCached).await.unwrap();
    assert_eq!((values(&stored.outputs), stored.cache.unwrap().hits, calls()), (vec![2.0], 1, 3));
    assert!(light.ask_as(&[1.0, 2.0], CacheMode::OnlyIfCached).await.is_err(), "one row is missing");
    assert_eq!(light.stats().bypassed, 1);
}

#[tokio::test]
async fn whoever_says_nothing_is_asked_the_models_default_for() {
    let of = |default| Light::new(CacheTable { default, ..table(60, 0) });
    let said = |max_age| CacheControl { mode: None, max_age };
    let minute = Some(Duration::from_secs(60));
    let no_store = of(CacheDefault::NoStore);
    for _ in 0..2 {
        assert_eq!(no_store.ask_as(&[1.0], said(None)).await.unwrap().cache, None);
    }
    for verdict in [CacheVerdict::Miss, CacheVerdict::Hit] {
        let asked = no_store.ask_as(&[1.0], said(minute)).await.unwrap();
        assert_eq!(asked.cache.unwrap().verdict(), verdict, "`max-age` asks for stored answers");
    }
    let no_cache = of(CacheDefault::NoCache);
    for _ in 0..2 {
        let computed = no_cache.ask_as(&[1.0], said(None)).await.unwrap();
        assert_eq!(computed.cache.unwrap().verdict(), CacheVerdict::Miss);
    }
    assert_eq!(no_cache.ask_as(&[1.0], said(minute)).await.unwrap().cache.unwrap().hits, 1);
    let warmed = of(CacheDefault::OnlyIfCached);
    let missed = warmed.ask_as(&[1.0], said(None)).await.unwrap_err();
    assert_eq!(missed.code, ErrorCode::NotCached);
    warmed.ask_as(&[1.0], CacheMode::NoCache).await.unwrap();
    assert_eq!(warmed.ask_as(&[1.0], said(None)).await.unwrap().cache.unwrap().hits, 1);
}

#[tokio::test]
async fn a_stored_answer_is_not_given_to_whom_it_is_too_old() {
    let light = Light::new(table(60, 0));
    let within = |seconds| CacheControl { mode: None, max_age: Some(Duration::from_secs(seconds)) };
    light.ask(&[1.0]).await;
    light.double.clock().advance(Duration::from_secs(10));
    assert_eq!(light.ask_as(&[1.0, 2.0], within(10)).await.unwrap().cache.unwrap().hits, 1);
    let only = CacheControl { mode: Some(CacheMode::OnlyIfCached), ..within(9) };
    assert_eq!(light.ask_as(&[1.0], only).await.unwrap_err().code, ErrorCode::NotCached);
    let computed = light.ask_as(&[1.0, 2.0], within(9)).await.unwrap().cache.unwrap();
    assert_eq!((computed.hits, computed.rows), (1, 2), "the second row was stored just now");
    assert_eq!(light.ask_as(&[1.0], within(0)).await.unwrap().cache.unwrap().hits, 1, "it was computed anew");
}

/// A model that has too much to do.
#[derive(Default)]
struct Busy(Stats);

impl Executor for Busy {
    fn execute(&self, _: Job) -> ExecuteFuture<'_> {
        Box::pin(std::future::ready(Err(Error::new(ErrorCode::Overloaded, "too much"))))
    }

    fn ready(&self, _: &Caller, _: Deadline) -> Result<(), Error> {
        Err(Error::new(ErrorCode::Overloaded, "too much"))
    }

    fn stats(&self) -> &Stats {
        &self.0
    }
}

#[test]
fn a_busy_model_refuses_before_the_body_what_no_entry_can_answer() {
    let cache = Cache::new(CacheConfig::default(), Arc::new(SystemClock));
    let executor = wrap(&cache, table(60, 0), Arc::new(Busy::default()));
    let (spec, engine) = (spec(table(60, 0)), engine());
    let version = ServedVersion { spec, engine, executor, lookup: None, members: Vec::new() };
    let refused = |mode| {
        let grant = AllowLocal.authorize(Credentials::default(), Access::Read).unwrap();
        let deadline = Deadline::after(SystemClock.now(), LONG);
        let mut admitted = Admission::new(1).admit(Sender::granted(grant), 0, deadline).unwrap();
        admitted.cache(CacheControl::from(mode));
        admitted.would_run(&version).is_err()
    };
    let modes = [CacheMode::Use, CacheMode::OnlyIfCached, CacheMode::NoCache, CacheMode::NoStore];
    assert_eq!(modes.map(refused), [false, false, true, true]);
}

#[tokio::test]
async fn entries_age_and_end() {
    let light = Light::new(table(60, 0));
    light.ask(&[1.0]).await;
    light.double.clock().advance(Duration::from_secs(59));
    light.ask(&[2.0]).await;
    let both = light.ask(&[2.0, 1.0]).await.cache.unwrap();
    assert_eq!((both.hits, both.age), (2, Some(Duration::from_secs(59))));
    light.double.clock().advance(Duration::from_secs(1));
    let one = light.ask(&[2.0, 1.0]).await.cache.unwrap();
    assert_eq!((one.hits, one.age), (1, Some(Duration::from_secs(1))));
    assert_eq!(light.stats().memory.expired, 1);
}

#[tokio::test]
async fn jitter_shortens_within_its_share() {
    let light = Light::new(CacheTable { jitter: 0.5, ..table(100, 0) });
    let rows: Vec<f32> = (0..200u8).map(f32::from).collect();
    light.ask(&rows).await;
    light.double.clock().advance(Duration::from_secs(49));
    assert_eq!(light.ask(&rows).await.cache.unwrap().hits, 200);
    light.double.clock().advance(Duration::from_secs(26));
    let left = light.ask(&rows).await.cache.unwrap().hits;
    assert!((50..150).contains(&left), "{left}");
}

#[tokio::test]
async fn a_stale_entry_is_given_at_once_and_computed_anew_once() {
    let light = Light::new(table(10, 20));
    light.cache.start(&tokio::runtime::Handle::current());
    light.ask(&[1.0]).await;
    light.double.clock().advance(Duration::from_secs(12));
    for _ in 0..3 {
        let stale = light.ask(&[1.0]).await;
        assert_eq!((stale.cache.unwrap().age, stale.cache.unwrap().hits), (Some(Duration::from_secs(12)), 1));
    }
    settle().await;
    assert_eq!((light.double.calls().len(), light.stats().stale), (2, 3));
    let fresh = light.ask(&[1.0]).await.cache.unwrap();
    assert_eq!((fresh.hits, fresh.age), (1, Some(Duration::ZERO)));
    light.double.clock().advance(Duration::from_secs(31));
    assert_eq!(light.ask(&[1.0]).await.cache.unwrap().hits, 0, "beyond `stale` it is no answer");
}

#[tokio::test]
async fn only_if_cached_computes_nothing_in_any_case() {
    let light = Light::new(table(10, 20));
    light.cache.start(&tokio::runtime::Handle::current());
    light.ask(&[1.0]).await;
    light.double.clock().advance(Duration::from_secs(12));
    let stale = light.ask_as(&[1.0], CacheMode::OnlyIfCached).await.unwrap();
    settle().await;
    assert_eq!((stale.cache.unwrap().hits, light.double.calls().len()), (1, 1), "not in the background");
    // Answers that are not of one shape.
    let cache = Cache::new(CacheConfig::default(), Arc::new(SystemClock));
    let wide: Arc<dyn Executor> = wrap(&cache, table(60, 0), Arc::new(Wide::default()));
    let ask = |rows: &[f32], mode: CacheMode| wide.execute(Job { cache: mode.into(), ..job(rows, LONG) });
    for row in [1.0, 2.0] {
        ask(&[row], CacheMode::Use).await.unwrap();
        ask(&[row], CacheMode::OnlyIfCached).await.unwrap();
    }
    let error = ask(&[1.0, 2.0], CacheMode::OnlyIfCached).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotCached);
    assert_eq!(ask(&[1.0, 2.0], CacheMode::Use).await.unwrap().outputs.tensors[0].shape(), [2, 2]);
}

/// Answers each row with as many numbers as the greatest of its request says.
#[derive(Default)]
struct Wide(Stats);

impl Executor for Wide {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let rows = job.batch.rows;
        let width = job.batch.inputs[0].as_f32().unwrap().iter().fold(0.0f32, |a, b| a.max(*b)) as usize;
        let tensor = Tensor::new(vec![rows, width], TensorData::Float32(vec![0.0; rows * width])).unwrap();
        let outputs = Outputs { rows, tensors: vec![tensor] };
        let done = Done { outputs, tokens: None, cache: None, state: None, took: Took::default() };
        Box::pin(std::future::ready(Ok(done)))
    }

    fn stats(&self) -> &Stats {
        &self.0
    }

    fn by_row(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn without_a_background_stale_entries_are_given_until_they_end() {
    let light = Light::new(table(10, 20));
    light.ask(&[1.0]).await;
    light.double.clock().advance(Duration::from_secs(12));
    assert_eq!(light.ask(&[1.0]).await.cache.unwrap().hits, 1);
    settle().await;
    assert_eq!(light.double.calls().len(), 1);
}

#[tokio::test]
async fn a_purge_forgets_what_it_names() {
    let light = Light::new(CacheTable { tags: vec!["prices".into()], ..table(60, 0) });
    let scopes = [
        (PurgeScope::Model("m".parse().unwrap()), 1),
        (PurgeScope::Version("m".parse().unwrap(), "1".parse().unwrap()), 1),
        (PurgeScope::Tag("prices".into()), 1),
        (PurgeScope::Model("n".parse().unwrap()), 0),
        (PurgeScope::Version("m".parse().unwrap(), "2".parse().unwrap()), 0),
        (PurgeScope::Tag("price".into()), 0),
    ];
    for (scope, purged) in scopes {
        light.ask(&[1.0]).await;
        let done = light.cache.purge(&scope).await;
        assert_eq!((done.memory, done.redis), (purged, None), "{scope:?}");
        assert_eq!(light.ask(&[1.0]).await.cache.unwrap().hits, 1 - purged as usize, "{scope:?}");
    }
}
