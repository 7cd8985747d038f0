//! Finding models on disk.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use weir_config::{Places, Problem};
use weir_types::{ModelName, NameError, Version};

use crate::{
    Manifest,
    files::{self, Folders},
};

/// The file that describes a model.
pub const MANIFEST_FILE: &str = "model.toml";

/// Most entries of one folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// One version of a model as found on disk, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The model's name: from `model.toml`, else the folder's (or file's).
    pub name: ModelName,
    /// The version: the numeric folder's name, else `1`.
    pub version: Version,
    /// The folder that holds the artefact.
    pub folder: PathBuf,
    /// The artefact file.
    pub artifact: PathBuf,
    /// The `model.toml` that describes it, if any: in `folder`, else in the folder above it
    /// that versions share.
    pub manifest: Option<PathBuf>,
}

/// What was found, and what keeps other folders from being models: one broken folder does
/// not hide its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Everything that can be tried, sorted by name and version.
    pub found: Vec<Candidate>,
    /// What is wrong elsewhere, in the order it was met.
    pub problems: Vec<FolderProblem>,
}

/// Something that keeps a folder from being a model or a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderProblem {
    /// The folder that cannot be served: a version's own, or the model's where no version can
    /// be told; for a path that is a single file, that file. Nothing in [`Discovery::found`]
    /// has this folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Discovery {
    /// All candidates, where nothing is wrong.
    ///
    /// # Errors
    /// All problems at once.
    pub fn complete(self) -> Result<Vec<Candidate>, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(self.found);
        }
        // Versions that share a broken `model.toml` have one problem, not one each.
        let mut all: Vec<Problem> = self.problems.into_iter().map(|p| p.problem).collect();
        all.dedup();
        Err(all)
    }
}

/// Finds the models at `path`: an artefact file, a model folder (`model.toml` and/or one
/// artefact), a folder of numeric version folders, or a folder of such folders. Hidden
/// entries and those that start with `_` are skipped, files that are no artefact too.
///
/// Problems are: two artefacts where one is meant, a folder without any, a `model.toml` that
/// cannot be read, names that are none, links that lead outside `path`. Where two folders
/// claim one name and version, neither is found: there is no telling which is meant.
pub fn discover(path: &Path) -> Discovery {
    let mut finder = Finder { folder: path.to_owned(), ..Finder::default() };
    match path.metadata() {
        Ok(meta) if meta.is_dir() => finder.any_folder(path),
        Ok(_) => finder.file(path),
        Err(e) => finder.problem(path, format!("cannot be read: {e}")),
    }
    finder.refuse_doubles();
    finder.found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Discovery { found: finder.found, problems: finder.problems }
}

#[derive(Default)]
struct Finder {
    found: Vec<Candidate>,
    problems: Vec<FolderProblem>,
    /// The folder that is being looked at, to which problems belong.
    folder: PathBuf,
}

/// What lies directly in a folder.
#[derive(Default)]
struct Entries {
    manifest: Option<PathBuf>,
    artifacts: Vec<PathBuf>,
    /// Files of formats that hold a model which cannot be served.
    foreign: Vec<PathBuf>,
    versions: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Finder {
    fn problem(&mut self, at: &Path, message: impl Into<String>) {
        self.refuse(Problem::new(at, message));
    }

    fn refuse(&mut self, problem: Problem) {
        self.problems.push(FolderProblem { folder: self.folder.clone(), problem });
    }

    /// A model folder, or a folder of them.
    fn any_folder(&mut self, path: &Path) {
        let Some(entries) = self.list(path) else { return };
        if is_model(&entries) {
            return self.model_folder(path, &entries);
        }
        if entries.folders.is_empty() {
            return self.problem(path, nothing_here(&entries));
        }
        for folder in &entries.folders {
            folder.clone_into(&mut self.folder);
            let Some(below) = self.list(folder) else { continue };
            if is_model(&below) {
                self.model_folder(folder, &below);
            } else {
                self.problem(folder, nothing_here(&below));
            }
        }
    }

    fn model_folder(&mut self, path: &Path, entries: &Entries) {
        let unversioned = !entries.artifacts.is_empty() || entries.versions.is_empty();
        if unversioned && !entries.versions.is_empty() {
            let message = "holds both an artefact and version folders: move the artefact into one of them";
            return self.problem(path, message);
        }
        if unversioned {
            return self.version(path, path, Version::default(), entries.manifest.as_deref(), entries);
        }
        for folder in &entries.versions {
            folder.clone_into(&mut self.folder);
            let Some(below) = self.list(folder) else { continue };
            let Some(version) = self.checked(folder, file_name(folder).parse()) else { continue };
            let manifest = below.manifest.as_deref().or(entries.manifest.as_deref());
            self.version(path, folder, version, manifest, &below);
        }
    }

    /// One version: `model` gives the default name, `folder` the artefact.
    fn version(
        &mut self,
        model: &Path,
        folder: &Path,
        version: Version,
        manifest: Option<&Path>,
        entries: &Entries,
    ) {
        let Some(described) = self.described(manifest, folder) else { return };
        let artifact = artifact(folder, manifest, &described.value, entries);
        let artifact = self.placed(&described, "artifact", artifact);
        let Some(name) = self.named(&described, folder_name(model)) else { return };
        let Some(artifact) = artifact else { return };
        self.found.push(Candidate {
            name,
            version,
            folder: folder.to_owned(),
            artifact,
            manifest: manifest.map(Path::to_owned),
        });
    }

    /// A single artefact. A `model.toml` beside it (or above its version folder) describes
    /// it, unless that one is about another artefact.
    fn file(&mut self, path: &Path) {
        if !has_extension(path, &["onnx"]) {
            let message = foreign_format(path).unwrap_or("is no artefact: an .onnx file is expected");
            return self.problem(path, message);
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let versioned = is_number(&folder_name(folder));
        let above = folder.parent().filter(|p| versioned && !p.as_os_str().is_empty());
        let manifest = [Some(folder), above].into_iter().flatten().map(|f| f.join(MANIFEST_FILE));
        let manifest = manifest.into_iter().find(|m| m.is_file());
        let Some(mut described) = self.described(manifest.as_deref(), path) else { return };
        let about_this = described.value.artifact.as_deref().is_none_or(|a| folder.join(a) == path);
        let manifest = manifest.filter(|_| about_this);
        if manifest.is_none() {
            described = Described::none(path);
        }
        let version = if versioned { folder_name(folder).parse() } else { Ok(Version::default()) };
        let name = self.named(&described, name_of_file(path, above.unwrap_or(folder)));
        let (Some(name), Some(version)) = (name, self.checked(folder, version)) else { return };
        self.found.push(Candidate {
            name,
            version,
            folder: folder.to_owned(),
            artifact: path.to_owned(),
            manifest,
        });
    }

    /// The manifest, the default one without a file; `None` if it was refused.
    fn described(&mut self, manifest: Option<&Path>, stands_in: &Path) -> Option<Described> {
        let Some(path) = manifest else { return Some(Described::none(stands_in)) };
        let read = read_manifest(path).and_then(|text| weir_config::parse_with(path, &text, &[]));
        let loaded = read.map_err(|problems| problems.into_iter().for_each(|p| self.refuse(p))).ok()?;
        Some(Described { value: loaded.value, places: Some(loaded.places), file: path.to_owned() })
    }

    /// The name that the manifest gives, else `default`.
    fn named(&mut self, described: &Described, default: String) -> Option<ModelName> {
        let given = described.value.name.as_deref();
        let fix = if given.is_none() { format!("; set `name` in {MANIFEST_FILE}") } else { String::new() };
        let name = given.unwrap_or(&default).parse().map_err(|e: NameError| format!("{e}{fix}"));
        self.placed(described, "name", name)
    }

    /// The value, or else its error at the key `key` of the manifest.
    fn placed<T>(&mut self, described: &Described, key: &str, result: Result<T, String>) -> Option<T> {
        let problem = |message| match &described.places {
            Some(places) => places.problem(key, message),
            None => Problem::new(&described.file, message),
        };
        result.map_err(|message| self.refuse(problem(message))).ok()
    }

    fn checked<T, E: std::fmt::Display>(&mut self, at: &Path, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.problem(at, e.to_string())).ok()
    }

    fn refuse_doubles(&mut self) {
        let mut claims: HashMap<_, Vec<&Path>> = HashMap::new();
        for one in &self.found {
            claims.entry((one.name.clone(), one.version.clone())).or_default().push(&one.folder);
        }
        claims.retain(|_, folders| folders.len() > 1);
        let doubles: Vec<FolderProblem> = self.found.iter().filter_map(|one| double(one, &claims)).collect();
        self.found.retain(|one| !doubles.iter().any(|d| d.folder == one.folder));
        self.problems.extend(doubles);
    }

    fn list(&mut self, folder: &Path) -> Option<Entries> {
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
            entries.foreign.push(path);
        }
    }
}

/// The problem of a candidate that shares its name and version with others.
fn double(one: &Candidate, claims: &HashMap<(ModelName, Version), Vec<&Path>>) -> Option<FolderProblem> {
    let folders = claims.get(&(one.name.clone(), one.version.clone()))?;
    let other = folders.iter().find(|f| **f != one.folder)?;
    let message = format!(
        "model `{}` version {} is in {} too: give one of them another `name`, or put them into numeric \
         version folders of one model folder",
        one.name,
        one.version,
        other.display()
    );
    Some(FolderProblem { folder: one.folder.clone(), problem: Problem::new(&one.folder, message) })
}

/// A manifest and where its values stand.
struct Described {
    value: Manifest,
    places: Option<Places>,
    file: PathBuf,
}

impl Described {
    /// No manifest; problems name `file`.
    fn none(file: &Path) -> Self {
        Self { value: Manifest::default(), places: None, file: file.to_owned() }
    }
}

fn is_model(entries: &Entries) -> bool {
    entries.manifest.is_some() || !entries.artifacts.is_empty() || !entries.versions.is_empty()
}

/// The artefact of a version, or a sentence that says what to do.
fn artifact(
    folder: &Path,
    manifest: Option<&Path>,
    described: &Manifest,
    entries: &Entries,
) -> Result<PathBuf, String> {
    if let Some(name) = &described.artifact {
        return Folders::new(folder, manifest).find(name).map_err(|e| format!("`artifact`: {e}"));
    }
    match entries.artifacts.as_slice() {
        [one] => files::inside(folder, one).map(|()| one.clone()),
        [] => Err(nothing_here(entries)),
        many => {
            let names: Vec<_> = many.iter().take(5).map(|p| file_name(p)).collect();
            let names = names.join(", ");
            Err(format!(
                "{} holds {} artefacts ({names}): name the one to serve with `artifact = \"…\"` in {MANIFEST_FILE}, \
                 or give each a folder of its own",
                folder.display(),
                many.len()
            ))
        }
    }
}

fn nothing_here(entries: &Entries) -> String {
    match entries.foreign.first() {
        Some(path) => {
            format!("no artefact here: {} {}", file_name(path), foreign_format(path).unwrap_or_default())
        }
        None => "no artefact here: put an .onnx file into the folder, or start the folder's name with `_` \
                 to have it skipped"
            .into(),
    }
}

/// Reads a `model.toml`.
pub(crate) fn read_manifest(path: &Path) -> Result<String, Vec<Problem>> {
    let refuse = |message: String| vec![Problem::new(path, message)];
    let bytes = files::read(path, weir_config::MAX_BYTES as u64).map_err(refuse)?;
    String::from_utf8(bytes)
        .map_err(|e| refuse(format!("is not UTF-8 text (byte {})", e.utf8_error().valid_up_to())))
}

/// What to do with a model file that cannot be served, by its extension.
fn foreign_format(path: &Path) -> Option<&'static str> {
    if has_extension(path, &["pkl", "pickle", "joblib", "pt", "pth", "skops", "h5", "keras"]) {
        return Some("can run code when it is loaded, so it is never loaded: export the model to ONNX");
    }
    has_extension(path, &["ubj", "cbm", "lgb", "safetensors", "pb", "tflite", "pmml"])
        .then_some("is a format that cannot be served yet: export the model to ONNX")
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.len() <= 18 && name.bytes().all(|b| b.is_ascii_digit())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder's own name, also for `.` and `..`.
fn folder_name(path: &Path) -> String {
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
