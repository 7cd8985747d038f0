//! Models come, change, break and go while others serve.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use weir_artifact::BatchingTable;
use weir_serving::{
    Change, Job, Keeper, ModelControl, Reason, Refused, ServedVersion, ServingSnapshot, Watch,
};
use weir_types::{Batch, Deadline, ErrorCode, Tensor, TensorData};

use crate::support::{Kept, Models, served};

#[test]
fn a_broken_version_or_folder_hides_nobody() {
    let models = Models::new();
    models.add("good", "1");
    models.add("mixed", "1");
    models.write("mixed/2/model.onnx", "this is no model");
    models.write("broken/model.toml", "nmae = 'x'");
    models.write("empty/README.md", "nothing");
    let snapshot = models.load();
    assert_eq!(served(&snapshot), ["good/1", "mixed/1"]);
    let mut failed: Vec<_> = snapshot.failures().iter().map(|f| f.model.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["broken", "empty", "mixed"]);
    let unavailable: Vec<_> = snapshot.unavailable().map(|f| f.model.as_str()).collect();
    assert!(!unavailable.contains(&"mixed"), "an older version serves: {unavailable:?}");
    assert_eq!(snapshot.version("broken", None).unwrap_err().code, ErrorCode::Unavailable);
    assert_eq!(snapshot.version("nobody", None).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(snapshot.version("mixed", None).unwrap().spec.version.as_str(), "1");
}

#[tokio::test]
async fn what_breaks_later_serves_on_as_it_was() {
    let models = Models::new();
    models.add("housing", "1");
    let kept = Kept::start(&models);
    let before = kept.snapshot().version("housing", None).unwrap().clone();
    models.write("housing/1/model.onnx", "half a mod");
    kept.control.reload().await.unwrap();
    models.write("housing/model.toml", "labls = []");
    kept.control.reload().await.unwrap();
    let snapshot = kept.snapshot();
    assert!(Arc::ptr_eq(snapshot.version("housing", None).unwrap(), &before));
    assert!(snapshot.failures().iter().all(|f| f.covered), "{:?}", snapshot.failures());
    assert_eq!(snapshot.unavailable().count(), 0);
    kept.stop();
}

#[tokio::test]
async fn an_unchanged_version_is_taken_over_and_a_changed_one_is_not() {
    let models = Models::new();
    models.add("housing", "1");
    let kept = Kept::start(&models);
    let first = kept.snapshot().version("housing", None).unwrap().clone();
    kept.control.reload().await.unwrap();
    assert!(Arc::ptr_eq(kept.snapshot().version("housing", None).unwrap(), &first));
    models.write("housing/model.toml", "labels = ['no', 'yes']");
    models.add("housing", "10");
    kept.control.reload().await.unwrap();
    let snapshot = kept.snapshot();
    assert_eq!(served(&snapshot), ["housing/1", "housing/10"]);
    assert_eq!(snapshot.version("housing", None).unwrap().spec.labels, ["no", "yes"]);
    assert!(!Arc::ptr_eq(snapshot.version("housing", Some("1")).unwrap(), &first));
    models.remove("housing/10");
    kept.control.reload().await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["housing/1"]);
    kept.stop();
}

#[tokio::test]
async fn a_model_can_be_unloaded_and_loaded_again() {
    let models = Models::new();
    models.add("a", "1");
    models.add("b", "1");
    let kept = Kept::start(&models);
    let a = "a".parse::<weir_types::ModelName>().unwrap();
    kept.control.unload(a.clone()).await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["b/1"]);
    assert_eq!(kept.control.unload(a.clone()).await.unwrap_err().code, ErrorCode::Unavailable);
    kept.control.reload().await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["b/1"], "a reload does not undo it");
    assert_eq!(kept.snapshot().unavailable().count(), 0, "and it is no failure");
    kept.control.load(a).await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["a/1", "b/1"]);
    kept.stop();
}

#[tokio::test]
async fn loading_tells_what_is_wrong_and_changes_nothing_else() {
    let models = Models::new();
    models.add("a", "1");
    models.add("b", "1");
    let kept = Kept::start(&models);
    let nobody = kept.control.load("nobody".parse().unwrap()).await.unwrap_err();
    assert_eq!(nobody.code, ErrorCode::NotFound);
    models.write("a/2/model.onnx", "no model");
    models.write("b/2/model.onnx", "no model either");
    let broken = kept.control.load("a".parse().unwrap()).await.unwrap_err();
    assert_eq!(broken.code, ErrorCode::InvalidArgument);
    let snapshot = kept.snapshot();
    assert_eq!(served(&snapshot), ["a/1", "b/1"]);
    let failed: Vec<_> = snapshot.failures().iter().map(|f| f.model.as_str()).collect();
    assert_eq!(failed, ["a"], "b was not looked at");
    // The client is told what anybody may read; what a file says and where it lies is for the log.
    assert_eq!(broken.message, "wrong at model.onnx; the log says what");
    let full = snapshot.failures()[0].to_string();
    assert!(full.contains(models.path().to_str().unwrap()), "{full}");
    kept.stop();
}

#[test]
fn a_loader_may_put_a_setting_in_place_of_every_models_own() {
    let models = Models::new();
    models.add("plain", "1");
    models.add("written", "1");
    models.write("written/model.toml", "[batching]\nmax_rows = 3\nqueue = 7");
    let own = models.load();
    let wanted = BatchingTable { max_rows: Some(48), ..BatchingTable::default() };
    let with = models.loader_with(wanted.clone());
    let with = with.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    for model in ["plain", "written"] {
        let (own, with) = (own.version(model, None).unwrap(), with.version(model, None).unwrap());
        assert_eq!(with.spec.batching, wanted);
        assert_ne!(own.spec.batching, wanted);
    }
}

#[test]
fn the_memory_of_an_unloaded_model_comes_back_behind_its_last_request() {
    let models = Models::new();
    models.add("housing", "1");
    let snapshot = models.load();
    let version = snapshot.version("housing", None).unwrap().clone();
    let weak = Arc::downgrade(&version);
    drop(snapshot);
    assert!(weak.upgrade().is_some(), "a request in flight keeps its version");
    drop(version);
    assert!(weak.upgrade().is_none());
}

/// Asks for one row; any row gets two probabilities.
async fn ask(version: &ServedVersion) {
    let row = Tensor::new(vec![1, 8], TensorData::Float32(vec![1.0; 8])).unwrap();
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    let job = Job::new(Batch { rows: 1, inputs: vec![row] }, deadline);
    let done = version.executor.execute(job).await.unwrap();
    assert_eq!(done.outputs.tensors[1].shape(), [1, 2]);
}

#[tokio::test]
async fn models_beyond_the_memory_budget_sleep_and_all_of_them_answer() {
    let models = Models::new();
    (0..6).for_each(|i| models.add(&format!("m{i}"), "1"));
    let budget = 3 * models.load().version("m0", None).unwrap().spec.artifact_bytes;
    let loader = models.loader_within(Some(budget));
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    let held = || -> Vec<u64> {
        let versions = snapshot.models().flat_map(|(_, model)| model.versions());
        versions.map(|v| v.executor.resident_bytes().unwrap()).collect()
    };
    for _ in 0..2 {
        for (_, model) in snapshot.models() {
            for version in model.versions() {
                ask(version).await;
                let awake: Vec<u64> = held().into_iter().filter(|bytes| *bytes > 0).collect();
                // One that was measured above the budget is awake alone.
                assert!(awake.len() == 1 || awake.iter().sum::<u64>() <= budget, "{awake:?} of {budget}");
            }
        }
    }
    assert!(held().contains(&0), "not all fit: {:?}", held());
}

/// A keeper whose configuration is what `read` says: where models are, or why it does not count. What comes
/// of each reading is received: the snapshot, or what it was refused for.
fn configured(
    models: &Models,
    files: Option<Watch>,
    mut read: impl FnMut() -> Result<PathBuf, Refused> + Send + 'static,
) -> (ModelControl, Receiver<Result<ServingSnapshot, Reason>>, JoinHandle<()>) {
    let (outcome, outcomes) = channel();
    let reread = Box::new(move |_: Option<&_>| {
        let path = read().inspect_err(|why| outcome.send(Err(why.reason.clone())).unwrap())?;
        let outcome = outcome.clone();
        let publish = Box::new(move |loaded: Result<ServingSnapshot, Reason>| {
            outcome.send(loaded.clone()).unwrap();
            loaded.map(drop)
        });
        Ok(Change { paths: vec![path], archives: None, publish })
    });
    let (keeper, control) = Keeper::new(models.loader(), Arc::new(models.load()), Box::new(|_| Ok(())));
    let keeper = keeper.rereading(reread, files).retrying_after(Duration::ZERO);
    (control, outcomes, thread::spawn(move || keeper.run(None)))
}

#[tokio::test]
async fn a_configuration_that_would_lose_a_model_changes_nothing() {
    let (old, new) = (Models::new(), Models::new());
    old.add("housing", "1");
    new.add("other", "1");
    let path = new.path().to_owned();
    let (control, outcomes, thread) = configured(&old, None, move || Ok(path.clone()));
    // Another version that is broken, the same version that is broken, and a folder that cannot be read.
    for (broken, named) in [
        ("housing/2/model.onnx", "model housing/2: "),
        ("housing/1/model.onnx", "model housing/1: "),
        ("housing/model.toml", "model housing: "),
    ] {
        new.write(broken, "this is nothing");
        let refused = control.reload().await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(refused.message.contains(named), "{refused}");
        assert_eq!(outcomes.recv().unwrap().unwrap_err().to_string(), refused.message);
        new.remove("housing");
    }
    // A version that is broken beside one that works is none that was lost, and neither is one that is gone.
    new.add("housing", "2");
    new.write("housing/3/model.onnx", "this is nothing");
    control.reload().await.unwrap();
    assert_eq!(served(&outcomes.recv().unwrap().unwrap()), ["housing/2", "other/1"]);
    new.remove("housing");
    control.reload().await.unwrap();
    assert_eq!(served(&outcomes.recv().unwrap().unwrap()), ["other/1"]);
    drop(control);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_model_that_is_replaced_by_a_broken_version_serves_on() {
    let models = Models::new();
    models.add("housing", "1");
    models.add("other", "1");
    let kept = Kept::start(&models);
    let before = kept.snapshot().version("housing", None).unwrap().clone();
    models.remove("housing/1");
    models.write("housing/2/model.onnx", "this is nothing");
    for round in 0..3 {
        // Watched files, and then clients.
        let told = match round {
            0 | 1 => kept.control.reload().await,
            _ => kept.control.load("housing".parse().unwrap()).await,
        };
        assert_eq!(told.is_err(), round == 2, "who loads it is told");
        let snapshot = kept.snapshot();
        assert!(Arc::ptr_eq(snapshot.version("housing", None).unwrap(), &before));
        assert!(snapshot.failures()[0].covered && snapshot.can_answer());
    }
    models.remove("housing");
    kept.control.reload().await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["other/1"], "what is taken away is gone");
    kept.stop();
}

#[tokio::test]
async fn an_order_for_one_model_hides_no_change_of_the_configuration() {
    let models = Models::new();
    models.add("housing", "1");
    let file = models.path().join("weir.toml");
    fs::write(&file, "a").unwrap();
    let path = models.path().to_owned();
    let watch = Watch::of_files(std::slice::from_ref(&file));
    let (control, outcomes, thread) = configured(&models, Some(watch), move || Ok(path.clone()));
    fs::write(&file, "changed").unwrap();
    control.load("housing".parse().unwrap()).await.unwrap();
    assert_eq!(served(&outcomes.recv().unwrap().unwrap()), ["housing/1"]);
    drop(control);
    thread.join().unwrap();
}

#[tokio::test]
async fn a_watched_configuration_is_tried_again_while_its_problem_may_pass() {
    let models = Models::new();
    models.add("housing", "1");
    let (path, problems) = (models.path().to_owned(), Mutex::new(vec![false, true, true]));
    let read = move || match problems.lock().unwrap().pop() {
        Some(passing) => Err(Refused { reason: Reason::open(format!("passing: {passing}")), passing }),
        None => Ok(path.clone()),
    };
    let (control, outcomes, thread) = configured(&models, Some(Watch::of_files(&[])), read);
    control.reload().await.unwrap_err();
    for told in ["passing: true", "passing: true", "passing: false"] {
        assert_eq!(outcomes.recv().unwrap().unwrap_err().public(), told);
    }
    // What does not pass waits for somebody to ask.
    control.reload().await.unwrap();
    assert!(outcomes.recv().unwrap().is_ok() && outcomes.try_recv().is_err());
    drop(control);
    thread.join().unwrap();
}
