//! Folders that other servers and libraries have: read into a [`Manifest`], so that there is
//! one way from a description to a [`ModelSpec`](crate::ModelSpec). A `model.toml` beside
//! them describes the model alone.

mod huggingface;
mod mlflow;
pub(crate) mod triton;

use std::path::{Path, PathBuf};

use weir_config::Problem;

use crate::{Candidate, MANIFEST_FILE, Manifest, onnx::OnnxModel};

/// Whose layout a folder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A model of a Triton repository: `config.pbtxt` and numeric version folders.
    Triton,
    /// An MLflow model: `MLmodel`.
    Mlflow,
    /// A Hugging Face model: `config.json`, `tokenizer.json` and an ONNX export.
    HuggingFace,
}

impl Format {
    /// The name that people know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Triton => "Triton",
            Format::Mlflow => "MLflow",
            Format::HuggingFace => "Hugging Face",
        }
    }
}

/// The file that describes a model in another layout than Weir's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Whose layout it is.
    pub format: Format,
    /// `config.pbtxt`, `MLmodel` or `config.json`.
    pub file: PathBuf,
}

/// What such a file comes to.
#[derive(Debug, Default)]
pub(crate) struct Described {
    pub(crate) manifest: Manifest,
    pub(crate) notes: Vec<String>,
    /// The name that the file gives, as it stands there.
    pub(crate) wanted: Option<String>,
}

/// Where a description is read.
struct Source<'a> {
    file: &'a Path,
    /// The folder that holds it.
    folder: &'a Path,
}

impl<'a> Source<'a> {
    fn new(file: &'a Path) -> Self {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        Self { file, folder: folder.unwrap_or(Path::new(".")) }
    }

    fn refuse(&self, message: impl Into<String>) -> Vec<Problem> {
        vec![Problem::new(self.file, message)]
    }
}

/// The artefact that the description means, for a folder without version folders.
///
/// # Errors
/// A description that cannot be read, or that means nothing that can be served.
pub(crate) fn artifact(foreign: &Foreign) -> Result<PathBuf, Vec<Problem>> {
    let source = Source::new(&foreign.file);
    match foreign.format {
        Format::Mlflow => mlflow::artifact(&source),
        Format::HuggingFace => huggingface::artifact(&source),
        Format::Triton => Err(source.refuse(format!(
            "no version folder beside it: put the artefact into {}",
            source.folder.join("1").join("model.onnx").display()
        ))),
    }
}

/// What `foreign` says about the artefact `graph`.
///
/// # Errors
/// All that is wrong with it, and all in which it differs from the artefact.
pub(crate) fn describe(
    candidate: &Candidate,
    foreign: &Foreign,
    graph: &OnnxModel,
) -> Result<Described, Vec<Problem>> {
    let source = Source::new(&foreign.file);
    let mut described = match foreign.format {
        Format::Triton => triton::describe(&source, graph),
        Format::Mlflow => mlflow::describe(&source, graph),
        Format::HuggingFace => huggingface::describe(&source, graph, &candidate.artifact),
    }?;
    let file = foreign.file.file_name().unwrap_or_default().to_string_lossy();
    let mut notes = vec![format!("{} model, described by {file}", foreign.format.as_str())];
    let folder = crate::discover::folder_name(source.folder);
    let wanted = described.wanted.clone().unwrap_or(folder);
    if wanted != candidate.name.as_str() && foreign.format == Format::Triton {
        notes.push(format!(
            "its name `{}` is `{}` here, where names are lower-case; V2 clients may ask for it in any case",
            wanted.chars().take(64).collect::<String>(),
            candidate.name
        ));
    }
    notes.append(&mut described.notes);
    Ok(Described { notes, ..described })
}

/// A note that a `model.toml` takes the place of `foreign`.
pub(crate) fn passed_over(foreign: &Foreign) -> String {
    let file = foreign.file.file_name().unwrap_or_default().to_string_lossy();
    format!("{file} is not read: {MANIFEST_FILE} describes the model")
}

/// A model name made of any text: lower-case, what may not stand in one replaced.
pub(crate) fn plain_name(name: &str) -> String {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let name: String = name.to_lowercase().chars().map(|c| if valid(c) { c } else { '-' }).take(64).collect();
    let name = name.replace("..", "-");
    let name = name.trim_matches(['-', '_', '.']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}
