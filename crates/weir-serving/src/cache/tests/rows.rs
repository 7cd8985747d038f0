//! Which rows reach the model, and what they answer.

use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Builder;
use weir_artifact::CacheTable;
use weir_types::{Batch, Outputs, Principal, TensorData};

use super::double::{Light, Told, column, engine, job, spec, values, wrap};
use crate::{
    Cache, CacheConfig, CacheOutcome, CacheVerdict, Caller, Job,
    executor::tests::double::{self, local_with},
};

#[tokio::test]
async fn of_a_request_only_the_rows_that_miss_reach_the_model() {
    let light = Light::new(CacheTable::default());
    let first = light.ask(&[1.0, 2.0]).await;
    assert_eq!(first.cache, Some(CacheOutcome { hits: 0, rows: 2, age: None }));
    let mixed = light.ask(&[3.0, 2.0, 4.0, 1.0, 4.0]).await;
    assert_eq!(values(&mixed.outputs), [4.0, 3.0, 5.0, 2.0, 5.0]);
    let outcome = mixed.cache.unwrap();
    assert_eq!((outcome.hits, outcome.rows, outcome.verdict()), (2, 5, CacheVerdict::Partial));
    assert_eq!(
        light.double.calls(),
        [vec![1.0, 2.0], vec![3.0, 4.0]],
        "each row once, also within a request"
    );
    let all = light.ask(&[4.0, 3.0]).await;
    assert_eq!((values(&all.outputs), all.cache.unwrap().verdict()), (vec![5.0, 4.0], CacheVerdict::Hit));
    let ran = [&first, &mixed, &all].map(|done| done.took.model.map(|model| model.ran));
    assert_eq!(ran, [Some(Duration::from_micros(2)), Some(Duration::from_micros(2)), None]);
    let own = [&first, &mixed, &all].map(|done| done.took.cache);
    assert_eq!(own, [Some(Duration::ZERO); 3], "the clock stands still but for the model");
    let stats = light.stats();
    assert_eq!((stats.hit, stats.partial, stats.miss, stats.coalesced), (1, 1, 1, 1));
    assert_eq!((stats.memory.hits, stats.memory.entries, stats.memory.filled), (4, 4, 4));
    assert_eq!(stats.saved_ns, 5_000, "a microsecond for each row that the model was not asked");
}

#[tokio::test]
async fn tokens_are_those_of_the_rows_of_the_answer() {
    let told = std::sync::Arc::new(Told::default());
    let cache = Cache::new(CacheConfig::default(), std::sync::Arc::new(weir_types::SystemClock));
    let executor = wrap(&cache, CacheTable::default(), told.clone());
    let ask = |rows: &'static [f32]| {
        let (executor, told) = (executor.clone(), told.clone());
        async move {
            let asking =
                tokio::spawn(async move { executor.execute(job(rows, super::double::LONG)).await.unwrap() });
            super::double::settle().await;
            if !told.waiting().is_empty() {
                told.end(0, Ok(()));
            }
            asking.await.unwrap().tokens
        }
    };
    assert_eq!(ask(&[1.0, 2.0]).await, Some(vec![101, 102]));
    assert_eq!(ask(&[3.0, 2.0, 1.0]).await, Some(vec![103, 102, 101]));
    assert_eq!(ask(&[3.0, 3.0]).await, Some(vec![103, 103]));
}

#[tokio::test]
async fn named_callers_do_not_share() {
    let light = Light::new(CacheTable::default());
    let ask = |name: Option<&'static str>| {
        let caller = name.map_or(Caller::Unknown, |name| Caller::Named(Principal::new(name)));
        let job = Job { caller, ..double::job(light.double.clock(), &[1.0], super::double::LONG) };
        light.executor.execute(job)
    };
    for (name, hits) in [(None, 0), (Some("a"), 0), (Some("b"), 0), (Some("a"), 1), (None, 1)] {
        assert_eq!(ask(name).await.unwrap().cache.unwrap().hits, hits, "{name:?}");
    }
}

#[tokio::test]
async fn where_rows_depend_on_each_other_a_request_is_one_entry() {
    let light = Light::new(CacheTable::default());
    let local = local_with(&light.double, |options| options.merge = false);
    let executor = wrap(&light.cache, CacheTable::default(), std::sync::Arc::new(local));
    let ask = |rows: &[f32]| executor.execute(double::job(light.double.clock(), rows, super::double::LONG));
    for (rows, hits) in [(&[1.0, 2.0][..], 0), (&[1.0, 2.0], 2), (&[2.0, 1.0], 0), (&[1.0], 0), (&[1.0], 1)] {
        let done = ask(rows).await.unwrap();
        assert_eq!(values(&done.outputs), rows.iter().map(|v| v + 1.0).collect::<Vec<_>>());
        assert_eq!(done.cache.unwrap().hits, hits, "{rows:?}");
    }
}

#[tokio::test]
async fn models_that_are_not_wanted_kept_are_not() {
    let light = Light::new(CacheTable::default());
    let inner = || std::sync::Arc::new(double::executor(&light.double, std::sync::Arc::default()));
    let with =
        |config: CacheConfig, change: fn(&mut weir_artifact::ModelSpec), engine: weir_engine::EngineInfo| {
            let cache = Cache::new(config, std::sync::Arc::new(weir_types::SystemClock));
            let mut spec = (*spec(CacheTable::default())).clone();
            change(&mut spec);
            cache.wrap(&std::sync::Arc::new(spec), &engine, &[], inner()).cached().is_some()
        };
    let remote = || weir_engine::EngineInfo { name: "remote", ..engine() };
    let all = || CacheConfig { all: true, ..CacheConfig::default() };
    assert!(with(CacheConfig::default(), |_| (), engine()));
    assert!(with(CacheConfig::default(), |_| (), remote()));
    assert!(!with(CacheConfig::default(), |s| s.cache = None, engine()));
    assert!(with(all(), |s| s.cache = None, engine()));
    assert!(!with(all(), |s| s.cache = None, remote()), "it may change without telling");
    assert!(!with(all(), |s| s.deterministic = false, engine()));
    assert!(!with(all(), |s| s.stateful = true, engine()));
    assert!(!with(CacheConfig { enabled: false, ..all() }, |_| (), engine()));
}

#[test]
fn explain_names_the_field() {
    let light = Light::new(CacheTable::default());
    let batch = |rows: &[f32]| Batch { rows: rows.len(), inputs: vec![column(rows.to_vec())] };
    let explained = light.executor.cached().unwrap().explain(&batch(&[1.0, 0.0]), &batch(&[1.0, -0.0, 3.0]));
    assert_eq!((explained.by_row, explained.entries), (true, [2, 3]));
    assert_eq!(explained.pairs[0].identities[0], explained.pairs[0].identities[1]);
    assert_eq!(explained.pairs[0].differences, []);
    let differences = &explained.pairs[1].differences;
    assert_eq!(
        (differences[0].field.as_str(), &differences[0].values),
        ("x", &["0.0".to_owned(), "-0.0".to_owned()])
    );
    assert_ne!(explained.pairs[1].identities[0], explained.pairs[1].identities[1]);
}

proptest! {
    /// Whatever was asked before, and though all rows have one hash.
    #[test]
    fn answers_are_the_models(requests in prop::collection::vec(prop::collection::vec(0u8..6, 1..6), 1..20), collide: bool) {
        let light = Light::with(CacheTable::default(), |clock| match collide {
            true => Cache::colliding(CacheConfig::default(), clock),
            false => Cache::new(CacheConfig::default(), clock),
        });
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        for rows in requests {
            let rows: Vec<f32> = rows.into_iter().map(f32::from).collect();
            let done = runtime.block_on(light.ask(&rows));
            prop_assert_eq!(values(&done.outputs), rows.iter().map(|v| v + 1.0).collect::<Vec<_>>());
        }
    }
}

#[test]
fn rows_with_answers_of_several_shapes_are_left_to_the_model() {
    let one = |width: usize| {
        let tensor = weir_types::Tensor::new(vec![1, width], TensorData::Int64(vec![7; width])).unwrap();
        let mut bytes = Vec::new();
        let outputs = Outputs { rows: 1, tensors: vec![tensor] };
        crate::cache::record::write_answer(&mut bytes, &outputs, Some(0), None, 0);
        bytes
    };
    let mut whole = crate::cache::record::Stitch::expecting(2);
    assert!(whole.push(&one(2)).is_some() && whole.push(&one(2)).is_some());
    assert!(whole.push(&one(3)).is_none());
}
