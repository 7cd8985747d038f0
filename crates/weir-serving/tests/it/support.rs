//! Folders of models, and a keeper over them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tempfile::TempDir;
use weir_artifact::BatchingTable;
use weir_engine::EngineOptions;
use weir_serving::{
    Cache, Cores, KeepSequences, Keeper, LoadOptions, Loader, MemoryBudget, ModelControl, ServingSnapshot,
};
use weir_types::SystemClock;

/// The housing model of the examples.
fn housing() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/housing/model.onnx")
}

/// A folder of model folders.
pub(crate) struct Models(TempDir);

impl Models {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a working version.
    pub(crate) fn add(&self, model: &str, version: &str) {
        let folder = self.path().join(model).join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(housing(), folder.join("model.onnx")).unwrap();
    }

    /// Puts the engine fixture `name` at `model`.
    pub(crate) fn fixture(&self, model: &str, name: &str) {
        let path = format!("../weir-engine/tests/fixtures/{name}.onnx");
        let folder = self.path().join(model);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), folder.join("model.onnx")).unwrap();
    }

    /// Writes `text` to a file below a model's folder.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let file = self.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(crate) fn remove(&self, folder: &str) {
        fs::remove_dir_all(self.path().join(folder)).unwrap();
    }

    /// A loader that keeps answers in `cache`.
    pub(crate) fn caching(&self, cache: Cache) -> Loader {
        Loader::new(vec![self.path().to_owned()], LoadOptions { cache: Some(cache), ..options(None) })
    }

    pub(crate) fn loader(&self) -> Loader {
        self.loader_within(None)
    }

    /// A loader of one folder of it.
    pub(crate) fn loader_of(&self, folder: &str) -> Loader {
        Loader::new(vec![self.path().join(folder)], options(None))
    }

    /// The same under a memory budget.
    pub(crate) fn loader_within(&self, budget: Option<u64>) -> Loader {
        Loader::new(vec![self.path().to_owned()], options(budget))
    }

    /// The same with `[batching]` in place of what the models say.
    pub(crate) fn loader_with(&self, batching: BatchingTable) -> Loader {
        Loader::new(vec![self.path().to_owned()], LoadOptions { batching: Some(batching), ..options(None) })
    }

    /// Loads everything for the first time.
    pub(crate) fn load(&self) -> ServingSnapshot {
        self.loader().load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {})
    }
}

pub(crate) fn options(budget: Option<u64>) -> LoadOptions {
    LoadOptions {
        features: None,
        engine: EngineOptions::default(),
        cores: Arc::new(Cores::new(2)),
        queue: 8,
        clock: Arc::new(SystemClock),
        budget: budget.map(|bytes| Arc::new(MemoryBudget::new(bytes))),
        batching: None,
        cache: None,
        sequences: KeepSequences::Here,
    }
}

/// What is served, as `model/version` in order.
pub(crate) fn served(snapshot: &ServingSnapshot) -> Vec<String> {
    let versions = snapshot.models().flat_map(|(_, model)| model.versions());
    versions.map(|v| format!("{}/{}", v.spec.name, v.spec.version)).collect()
}

/// A keeper on its thread, and the last snapshot that it published.
pub(crate) struct Kept {
    pub(crate) control: ModelControl,
    published: Arc<Mutex<ServingSnapshot>>,
    thread: JoinHandle<()>,
}

impl Kept {
    pub(crate) fn start(models: &Models) -> Self {
        let first = models.load();
        let published = Arc::new(Mutex::new(first.clone()));
        let target = published.clone();
        let publish = Box::new(move |snapshot| {
            *target.lock().unwrap() = snapshot;
            Ok(())
        });
        let (keeper, control) = Keeper::new(models.loader(), Arc::new(first), publish);
        Self { control, published, thread: std::thread::spawn(move || keeper.run(None)) }
    }

    pub(crate) fn snapshot(&self) -> ServingSnapshot {
        self.published.lock().unwrap().clone()
    }

    /// Ends the keeper, which ends when nobody can give it orders any more.
    pub(crate) fn stop(self) {
        drop(self.control);
        self.thread.join().unwrap();
    }
}
