//! Making model folders.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_artifact::{LoadedModel, Problem, discover, load};

/// A file below this crate's `tests/`.
pub(crate) fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// The small models of `tests/models`, and `housing`.
pub(crate) fn model(name: &str) -> PathBuf {
    match name {
        "housing" => crate::demo::examples().join("housing/model.onnx"),
        _ => tests("models").join(format!("{name}.onnx")),
    }
}

/// A temporary folder with files in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, making the folders on the way.
    pub(crate) fn with(self, path: &str, content: &str) -> Self {
        self.write(path, content.as_bytes());
        self
    }

    /// Puts the model `name` at `path`.
    pub(crate) fn with_model(self, path: &str, name: &str) -> Self {
        self.write(path, &std::fs::read(model(name)).unwrap());
        self
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Problems as an operator sees them, with paths relative to this folder.
    pub(crate) fn told(&self, problems: &[Problem]) -> String {
        let root = self.path().display().to_string();
        let lines: Vec<_> = problems.iter().map(|p| p.to_string().replace(&format!("{root}/"), "")).collect();
        lines.join("\n").replace(&root, "FOLDER")
    }

    /// Loads the one model that is here.
    pub(crate) fn load(&self) -> Result<LoadedModel, Vec<Problem>> {
        let found = discover(self.path()).complete()?;
        assert_eq!(found.len(), 1, "{found:?}");
        load(&found[0])
    }
}

#[allow(clippy::disallowed_methods)] // a test's switch, not configuration
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares with what is recorded in `tests/golden/NAME.txt`, or records it.
pub(crate) fn assert_golden(name: &str, got: &str) {
    let path = tests("golden").join(format!("{name}.txt"));
    if updating() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        got, want,
        "{name}: if this is as it should be, run UPDATE_GOLDEN=1 cargo test -p weir-artifact"
    );
}
