//! Graphs while the models that they ask come, change, break and go.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use weir_serving::{Failure, Job, ServedVersion, ServingSnapshot};
use weir_types::{Batch, Deadline, ErrorCode, ModelName, Outputs, Tensor, TensorData};

use crate::support::{Kept, Models, served};

const BLEND: &str = r#"
[[graph.step]]
model = "forest"
[[graph.step]]
model = "boosted"
[[graph.step]]
name = "blend"
kind = "mean"
of = ["forest.probabilities", "boosted.probabilities"]
"#;

/// Two models of one kind of rows, and the graph `blend` over both.
fn blend() -> Models {
    let models = Models::new();
    models.fixture("forest", "rf_binary");
    models.fixture("boosted", "gb_binary");
    models.write("blend/model.toml", BLEND);
    models
}

fn name(name: &str) -> ModelName {
    name.parse().unwrap()
}

fn version<'a>(snapshot: &'a ServingSnapshot, model: &str) -> &'a Arc<ServedVersion> {
    snapshot.version(model, None).unwrap()
}

fn failure(snapshot: &ServingSnapshot, model: &str) -> Failure {
    snapshot.failures().iter().find(|f| f.model == model).unwrap().clone()
}

async fn ask(version: &ServedVersion) -> Outputs {
    let rows = vec![0.3, 0.8, 0.3, -1.3, 0.9, 0.4, -0.5, 0.6, -0.7, -0.2, -0.5, 0.6];
    let row = Tensor::new(vec![3, 4], TensorData::Float32(rows)).unwrap();
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    let job = Job::new(Batch { rows: 3, inputs: vec![row] }, deadline);
    version.executor.execute(job).await.unwrap().outputs
}

/// The probabilities of the positive class.
fn positive(outputs: &Outputs) -> Vec<f32> {
    let scores = outputs.tensors.last().and_then(Tensor::as_f32).unwrap();
    scores.chunks(2).map(|pair| pair[1]).collect()
}

#[tokio::test]
async fn a_graph_serves_beside_its_models_and_answers_with_them() {
    let models = blend();
    let snapshot = models.load();
    assert_eq!(served(&snapshot), ["blend/1", "boosted/1", "forest/1"], "{:?}", snapshot.failures());
    let (a, b) = (ask(version(&snapshot, "forest")).await, ask(version(&snapshot, "boosted")).await);
    let (a, b) = (positive(&a), positive(&b));
    let blend = version(&snapshot, "blend");
    let got = positive(&ask(blend).await);
    let want: Vec<f32> =
        a.iter().zip(&b).map(|(a, b)| ((f64::from(*a) + f64::from(*b)) / 2.0) as f32).collect();
    assert_eq!(got, want);
    assert_ne!(got, a);
    assert_eq!(blend.spec.labels, ["0", "1"]);
    assert_eq!((blend.engine.name, &*blend.engine.reason), ("graph", "3 steps on forest/1, boosted/1"));
    let rows = |v: &ServedVersion| v.executor.stats().rows.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        (rows(blend), rows(version(&snapshot, "forest"))),
        (3, 6),
        "its calls count for its models too"
    );
}

#[tokio::test]
async fn a_graph_follows_its_models_and_is_taken_over_where_nothing_changed() {
    let models = blend();
    let kept = Kept::start(&models);
    let first = version(&kept.snapshot(), "blend").clone();
    kept.control.reload().await.unwrap();
    assert!(Arc::ptr_eq(version(&kept.snapshot(), "blend"), &first));
    // One model is another one: the graph is another one too, on the new model.
    models.fixture("forest", "logreg_binary");
    kept.control.load(name("forest")).await.unwrap();
    let snapshot = kept.snapshot();
    let second = version(&snapshot, "blend");
    assert!(!Arc::ptr_eq(second, &first));
    assert_ne!(second.spec.digest, first.spec.digest);
    assert!(Arc::ptr_eq(&second.members[0], version(&snapshot, "forest")));
    assert_ne!(
        positive(&ask(second).await),
        positive(&ask(&first).await),
        "requests in flight keep the old one"
    );
    kept.stop();
}

#[tokio::test]
async fn a_graph_that_cannot_be_built_serves_on_as_it_was() {
    let models = blend();
    let kept = Kept::start(&models);
    let first = version(&kept.snapshot(), "blend").clone();
    let before = ask(&first).await;
    // The model breaks: it serves on as it was, so nothing happens to the graph.
    models.write("forest/model.onnx", "half a mod");
    kept.control.reload().await.unwrap();
    assert!(Arc::ptr_eq(version(&kept.snapshot(), "blend"), &first));
    // The model becomes one that does not fit.
    models.fixture("forest", "rf_multiclass");
    kept.control.load(name("forest")).await.unwrap();
    let broken = failure(&kept.snapshot(), "blend");
    assert!(broken.covered && broken.reason.to_string().contains("differ in type or shape"), "{broken:?}");
    assert_eq!(ask(version(&kept.snapshot(), "blend")).await, before);
    // The model goes.
    models.remove("forest");
    kept.control.reload().await.unwrap();
    let broken = failure(&kept.snapshot(), "blend");
    assert!(broken.covered && broken.reason.to_string().contains("there is no model `forest`"), "{broken:?}");
    assert_eq!(served(&kept.snapshot()), ["blend/1", "boosted/1"]);
    assert_eq!(ask(version(&kept.snapshot(), "blend")).await, before);
    // The graph's own file breaks.
    models.write("blend/model.toml", "[graph]\nsteps = 1");
    kept.control.reload().await.unwrap();
    assert!(Arc::ptr_eq(version(&kept.snapshot(), "blend"), &first));
    kept.stop();
}

#[tokio::test]
async fn a_graph_serves_as_soon_as_its_models_do() {
    let models = blend();
    models.remove("forest");
    let kept = Kept::start(&models);
    assert!(!failure(&kept.snapshot(), "blend").covered);
    assert_eq!(kept.snapshot().unavailable().count(), 1);
    models.fixture("forest", "rf_binary");
    kept.control.load(name("forest")).await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["blend/1", "boosted/1", "forest/1"]);
    assert_eq!(kept.snapshot().failures(), []);
    kept.stop();
}

#[tokio::test]
async fn a_model_that_a_graph_asks_is_not_unloaded() {
    let models = blend();
    let kept = Kept::start(&models);
    let refused = kept.control.unload(name("forest")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("a step of `blend`"), "{refused}");
    kept.control.unload(name("blend")).await.unwrap();
    kept.control.unload(name("forest")).await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["boosted/1"]);
    // The graph is asked for without its model.
    let refused = kept.control.load(name("blend")).await.unwrap_err();
    assert!(refused.message.contains("model `forest` is unloaded"), "{refused}");
    kept.control.load(name("forest")).await.unwrap();
    assert_eq!(served(&kept.snapshot()), ["blend/1", "boosted/1", "forest/1"]);
    kept.stop();
}

#[test]
fn graphs_of_graphs_are_built_in_their_order_and_circles_refused() {
    let models = blend();
    let on = |model: &str| format!("[[graph.step]]\nmodel = '{model}'");
    models.write("a-first/model.toml", &on("z-last"));
    models.write("z-last/model.toml", &on("blend"));
    models.write("round/model.toml", &on("trip"));
    models.write("trip/model.toml", &on("round"));
    models.write("on-a-circle/model.toml", &on("round"));
    models.write("self/model.toml", &on("self"));
    let snapshot = models.load();
    assert_eq!(served(&snapshot), ["a-first/1", "blend/1", "boosted/1", "forest/1", "z-last/1"]);
    assert_eq!(version(&snapshot, "a-first").spec.graph.as_ref().unwrap().depth, 3);
    let reason = |model: &str| failure(&snapshot, model).reason.to_string();
    assert!(reason("round").ends_with("round/1 → trip/1 → round/1"), "{}", reason("round"));
    assert!(
        reason("on-a-circle").ends_with("on-a-circle/1 → round/1 → trip/1 → round/1"),
        "{}",
        reason("on-a-circle")
    );
    assert!(reason("self").ends_with("self/1 → self/1"), "{}", reason("self"));
}

#[test]
fn a_graph_may_be_a_newer_version_of_a_model_that_it_asks() {
    let models = Models::new();
    models.fixture("m/1", "rf_binary");
    models.write("m/2/model.toml", "[[graph.step]]\nmodel = 'm'\nversion = '1'");
    let snapshot = models.load();
    assert_eq!(served(&snapshot), ["m/1", "m/2"], "{:?}", snapshot.failures());
}

#[test]
fn graphs_that_multiply_are_refused() {
    let models = blend();
    let mut below = "forest".to_owned();
    for level in 0..6 {
        let steps: String =
            (0..4).map(|i| format!("[[graph.step]]\nname = 's{i}'\nmodel = '{below}'\n")).collect();
        let toml = format!(
            "{steps}[[graph.step]]\nname = 'm'\nkind = 'mean'\nof = ['s0.probabilities', 's1.probabilities', \
             's2.probabilities', 's3.probabilities']\n[graph.outputs]\nprobabilities = 'm'\n"
        );
        below = format!("level{level}");
        models.write(&format!("{below}/model.toml"), &toml);
    }
    let snapshot = models.load();
    assert!(served(&snapshot).contains(&"level3/1".to_owned()), "256 calls are allowed");
    assert!(
        failure(&snapshot, "level4").reason.to_string().contains("up to 1024 model calls"),
        "1,024 are not"
    );
    assert!(failure(&snapshot, "level5").reason.to_string().contains("level4"));
}

#[tokio::test]
async fn models_that_sleep_wake_for_a_graph() {
    let models = blend();
    let loader = models.loader_within(Some(1));
    let snapshot = loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {});
    let awake = |model: &str| version(&snapshot, model).executor.resident_bytes().map(|bytes| bytes > 0);
    assert!(!(awake("forest").unwrap() && awake("boosted").unwrap()), "both do not fit");
    let plain = models.load();
    let want = ask(version(&plain, "blend")).await;
    for _ in 0..3 {
        assert_eq!(ask(version(&snapshot, "blend")).await, want);
    }
    assert_eq!(awake("blend"), None, "a graph holds no memory of its own");
}

// Golden rows are run where loading happens, which may be within a runtime.
#[tokio::test]
async fn golden_rows_hold_for_graphs() {
    let models = blend();
    models.write(
        "blend/model.toml",
        &format!("samples = 'samples.jsonl'\noutput.prediction = 'score'\n{BLEND}"),
    );
    let sample =
        |score: &str| format!("{{\"input\": {{\"X\": [0.3, 0.8, 0.3, -1.3]}}, \"prediction\": {score}}}");
    models.write("blend/samples.jsonl", &sample("2.5"));
    let snapshot = models.load();
    let reason = failure(&snapshot, "blend").reason.to_string();
    let answered = reason.split("the model answers ").nth(1).unwrap().lines().next().unwrap();
    models.write("blend/samples.jsonl", &sample(answered));
    assert_eq!(models.load().failures(), []);
}
