//! What lies in a folder.

use std::path::{Path, PathBuf};

use weir_config::Problem;

use super::{Finder, FolderProblem, MANIFEST_FILE};
use crate::formats::{Foreign, Format};

/// Most entries of one folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// What lies directly in a folder.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) manifest: Option<PathBuf>,
    pub(super) artifacts: Vec<PathBuf>,
    /// What describes it in another layout.
    pub(super) foreign: Option<Foreign>,
    /// Files of formats that hold a model which cannot be served.
    pub(super) foreign_files: Vec<PathBuf>,
    pub(super) versions: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
}

impl Entries {
    /// Whether this is a model's folder rather than a folder of them.
    pub(super) fn is_model(&self) -> bool {
        self.manifest.is_some()
            || self.foreign.is_some()
            || !self.artifacts.is_empty()
            || !self.versions.is_empty()
    }
}

/// The description of another layout, if the folder has one. A `config.json` alone is
/// nobody's: many kinds of programs write one.
fn foreign(folder: &Path, entries: &Entries) -> Option<Foreign> {
    let here = |format: Format, name: &str| {
        let file = folder.join(name);
        file.is_file().then_some(Foreign { format, file })
    };
    let exported = || entries.folders.iter().any(|f| file_name(f) == "onnx");
    let tokenizer = || {
        let texts = ["tokenizer.json", "tokenizer_config.json"];
        texts.iter().any(|name| folder.join(name).is_file()) || exported()
    };
    here(Format::Triton, "config.pbtxt")
        .or_else(|| here(Format::Mlflow, "MLmodel"))
        .or_else(|| here(Format::HuggingFace, "config.json").filter(|_| tokenizer()))
}

impl Finder {
    pub(super) fn list(&mut self, folder: &Path) -> Option<Entries> {
        let listed =
            std::fs::read_dir(folder).and_then(|d| d.take(MAX_ENTRIES + 1).collect::<Result<Vec<_>, _>>());
        let failed = |e| format!("cannot be listed: {e}");
        let mut paths: Vec<PathBuf> =
            self.checked(folder, listed.map_err(failed))?.into_iter().map(|e| e.path()).collect();
        if paths.len() > MAX_ENTRIES {
            self.problem(folder, format!("has more than {MAX_ENTRIES} entries: this is no folder of models"));
            return None;
        }
        paths.sort();
        let mut entries = Entries::default();
        paths
            .into_iter()
            .filter(|p| !file_name(p).starts_with(['.', '_']))
            .for_each(|p| self.sort(folder, p, &mut entries));
        entries.foreign = foreign(folder, &entries);
        Some(entries)
    }

    fn sort(&mut self, folder: &Path, path: PathBuf, entries: &mut Entries) {
        if path.is_dir() {
            let real = folder.canonicalize().and_then(|f| Ok(path.canonicalize()?.starts_with(f)));
            if !real.unwrap_or(false) {
                let message = "leads outside the folder: name its target on the command line instead";
                let problem = Problem::new(&path, message);
                self.problems.push(FolderProblem { folder: path, problem });
            } else if is_number(&file_name(&path)) {
                entries.versions.push(path);
            } else {
                entries.folders.push(path);
            }
        } else if file_name(&path) == MANIFEST_FILE {
            entries.manifest = Some(path);
        } else if has_extension(&path, &["onnx"]) {
            entries.artifacts.push(path);
        } else if foreign_format(&path).is_some() {
            entries.foreign_files.push(path);
        }
    }
}

/// What to do with a model file that cannot be served, by its extension.
pub(super) fn foreign_format(path: &Path) -> Option<&'static str> {
    if has_extension(path, &["pkl", "pickle", "joblib", "pt", "pth", "skops", "h5", "keras"]) {
        return Some("can run code when it is loaded, so it is never loaded: export the model to ONNX");
    }
    has_extension(path, &["ubj", "cbm", "lgb", "safetensors", "pb", "tflite", "pmml"])
        .then_some("is a format that cannot be served yet: export the model to ONNX")
}

pub(super) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.len() <= 18 && name.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder's own name, also for `.` and `..`.
pub(crate) fn folder_name(path: &Path) -> String {
    if path.file_name().is_some() {
        file_name(path)
    } else {
        path.canonicalize().map(|p| file_name(&p)).unwrap_or_default()
    }
}

/// `churn.onnx` is `churn`; `model.onnx` says nothing, so its folder names it.
pub(crate) fn name_of_file(path: &Path, folder: &Path) -> String {
    let stem = path.file_stem().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    if stem == "model" { folder_name(folder) } else { stem }
}
