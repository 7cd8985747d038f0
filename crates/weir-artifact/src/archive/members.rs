//! Which files belong to a model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use weir_config::Problem;

use crate::{
    Candidate, Format, Kind, Manifest,
    discover::folder_name,
    files::Folders,
    load::{chosen, describe, read_artifact},
};

/// A file that goes into an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Where it lies in the archive, `/` between its parts.
    pub path: String,
    /// Where it is.
    pub file: PathBuf,
}

/// The files of `candidates`, which were found at `root`, sorted by path: `model.toml`, the artefact, and
/// what they name (golden rows, tokenizer, head). Of a folder in another layout also its descriptions:
/// every `.json`, `.txt` and `.pbtxt`, and `MLmodel`. Scripts, notebooks and training data that lie beside
/// them are left out. A model folder stands in the archive under its own name.
///
/// # Errors
/// Models that run elsewhere, files outside `root`, links, and what cannot be read: all problems.
pub fn members(root: &Path, candidates: &[Candidate]) -> Result<Vec<Member>, Vec<Problem>> {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    let base = base(root, candidates).map_err(|message| vec![Problem::new(root, message)])?;
    for candidate in candidates {
        match belonging(candidate) {
            Ok(files) => {
                for file in files {
                    match place(&base, &file) {
                        Ok(path) => drop(found.insert(path, file)),
                        Err(message) => problems.push(Problem::new(&file, message)),
                    }
                }
            }
            Err(more) => problems.extend(more),
        }
    }
    problems.dedup();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(found.into_iter().map(|(path, file)| Member { path, file }).collect())
}

/// The folder that paths in the archive are relative to: around a model's own folder, or that of models.
fn base(root: &Path, candidates: &[Candidate]) -> Result<PathBuf, String> {
    if !root.is_dir() {
        return Err("name the model's folder: an archive holds folders, which name its models".to_owned());
    }
    let whole = root.canonicalize().map_err(|e| format!("cannot be read: {e}"))?;
    // Of a folder of models, each one's files lie two names below at least.
    let is_model =
        candidates.iter().any(|one| {
            let own = [one.manifest.as_ref(), one.foreign.as_ref().map(|f| &f.file), Some(&one.artifact)];
            own.into_iter().flatten().any(|file| file.parent() == Some(root))
        }) || candidates.iter().any(|one| one.folder.parent() == Some(root) && is_version(&one.folder));
    if !is_model {
        return Ok(whole);
    }
    if is_version(&whole) {
        return Err("is a version's folder: name the model's, which holds it".to_owned());
    }
    whole.parent().map(Path::to_owned).ok_or_else(|| "is no folder of a model".to_owned())
}

fn is_version(folder: &Path) -> bool {
    let name = folder_name(folder);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

/// Where `file` stands in an archive. Neither it nor a folder on the way may be a link.
fn place(base: &Path, file: &Path) -> Result<String, String> {
    // The parent only: the file itself may be a link, which is to be seen.
    let (folder, name) = (file.parent().unwrap_or(Path::new("")), file.file_name().unwrap_or_default());
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let real = folder.canonicalize().map_err(|e| format!("cannot be read: {e}"))?.join(name);
    let meta = real.symlink_metadata().map_err(|e| format!("cannot be read: {e}"))?;
    if !meta.is_file() {
        return Err("is a link or no regular file: copy the file there".to_owned());
    }
    let inside = real.strip_prefix(base).map_err(|_| "lies outside the folder: copy it there".to_owned())?;
    inside.to_str().map(str::to_owned).ok_or_else(|| "has a name that is not UTF-8".to_owned())
}

/// The files that make up one version.
fn belonging(candidate: &Candidate) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let mut files: Vec<PathBuf> = candidate.manifest.iter().cloned().collect();
    let manifest = match candidate.kind {
        Kind::Remote => {
            let message = "runs on another server: there is no artefact to pack";
            return Err(vec![Problem::new(&candidate.artifact, message)]);
        }
        Kind::Graph => describe(candidate.manifest.as_deref())?.value,
        Kind::Artifact => {
            files.push(candidate.artifact.clone());
            let (_, graph) = read_artifact(&candidate.artifact)?;
            chosen(candidate, describe(candidate.manifest.as_deref())?.value, &graph)?.0
        }
    };
    if let Some(foreign) = candidate.foreign.as_ref().filter(|_| candidate.manifest.is_none()) {
        files.push(foreign.file.clone());
        let folder = foreign.file.parent().unwrap_or(Path::new("."));
        // Triton's names files of labels beside config.pbtxt, Hugging Face's has a few in a folder below.
        let depth = usize::from(foreign.format == Format::HuggingFace);
        descriptions(folder, depth, &mut files);
    }
    files.extend(named(candidate, &manifest)?);
    Ok(files)
}

/// The files that a manifest names.
fn named(candidate: &Candidate, manifest: &Manifest) -> Result<Vec<PathBuf>, Vec<Problem>> {
    let folders = Folders::new(&candidate.folder, candidate.manifest.as_deref());
    let text = manifest.text.as_ref();
    let tokenizer = text.map(|text| text.tokenizer.as_str()).filter(|name| !name.is_empty());
    let names = [manifest.samples.as_deref(), tokenizer, text.and_then(|text| text.head.as_deref())];
    let find =
        |name: &str| folders.find(name).map_err(|message| vec![Problem::new(&candidate.folder, message)]);
    // A described folder's tokenizer lies beside its description, not beside the artefact.
    let beside = |name: &str| {
        let folder = candidate.foreign.as_ref()?.file.parent()?;
        Some(folder.join(name)).filter(|file| file.is_file())
    };
    names.into_iter().flatten().map(|name| beside(name).map_or_else(|| find(name), Ok)).collect()
}

/// The files below `folder` that describe a model in the layouts of others.
fn descriptions(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    const MAX_ENTRIES: usize = 10_000;
    for item in folder.read_dir().into_iter().flatten().take(MAX_ENTRIES).flatten() {
        let path = item.path();
        if item.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let text = path.extension().is_some_and(|e| ["json", "txt", "pbtxt"].iter().any(|known| e == *known));
        if path.is_dir() && depth > 0 {
            descriptions(&path, depth - 1, files);
        } else if path.is_file() && text {
            files.push(path);
        }
    }
}
