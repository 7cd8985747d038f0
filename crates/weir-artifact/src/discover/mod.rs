//! Finding models on disk.

mod entries;
mod found;
mod model;

use std::{
    collections::HashMap,
    fs::DirEntry,
    path::{Path, PathBuf},
};

use weir_config::{Places, Problem};
use weir_types::{ModelName, NameError, Version};

use crate::{
    Manifest,
    files::{self, Folders},
    formats::triton,
};
use entries::{Entries, file_name, foreign_format, has_extension, is_number};
pub(crate) use entries::{folder_name, name_of_file};
pub use found::{Candidate, Discovery, FolderProblem, Kind};
use model::Model;

/// The file that describes a model.
pub const MANIFEST_FILE: &str = "model.toml";

/// Finds the models at `path`: an artefact file, a model folder (`model.toml` and/or one
/// artefact, or a layout of [`Format`]), a folder of numeric version folders, or a folder of
/// such folders. Hidden
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

/// Whether `path` is a folder with nothing in it but hidden entries: one that something is still to be put into,
/// where [`discover`] has a problem with it.
pub fn is_empty_folder(path: &Path) -> bool {
    let visible =
        |entry: std::io::Result<DirEntry>| !entry.is_ok_and(|e| file_name(&e.path()).starts_with('.'));
    path.read_dir().is_ok_and(|mut entries| !entries.any(visible))
}

#[derive(Default)]
struct Finder {
    found: Vec<Candidate>,
    problems: Vec<FolderProblem>,
    /// The folder that is being looked at, to which problems belong.
    folder: PathBuf,
}

impl Finder {
    fn problem(&mut self, at: &Path, message: impl Into<String>) {
        self.refuse(Problem::new(at, message));
    }

    fn refuse(&mut self, problem: Problem) {
        self.problems.push(FolderProblem { folder: self.folder.clone(), problem });
    }

    fn refuse_all(&mut self, problems: Vec<Problem>) {
        problems.into_iter().for_each(|problem| self.refuse(problem));
    }

    /// A model folder, or a folder of them.
    fn any_folder(&mut self, path: &Path) {
        let Some(entries) = self.list(path) else { return };
        if entries.is_model() {
            return self.model_folder(path, &entries);
        }
        if entries.folders.is_empty() {
            return self.problem(path, nothing_here(&entries));
        }
        for folder in &entries.folders {
            folder.clone_into(&mut self.folder);
            let Some(below) = self.list(folder) else { continue };
            if below.is_model() {
                self.model_folder(folder, &below);
            } else {
                self.problem(folder, nothing_here(&below));
            }
        }
    }

    fn model_folder(&mut self, path: &Path, entries: &Entries) {
        let mut model = Model::new(path, entries);
        let unversioned = !entries.artifacts.is_empty() || entries.versions.is_empty() || model.is_whole();
        if unversioned && !entries.versions.is_empty() {
            let message = "holds both an artefact and version folders: move the artefact into one of them";
            return self.problem(path, message);
        }
        if unversioned {
            model.outline = self.ensemble(&model);
            return self.version(&model, path, Version::default(), entries);
        }
        let Some(versions) = self.versions(&mut model, entries) else { return };
        for folder in &versions {
            folder.clone_into(&mut self.folder);
            let Some(below) = self.list(folder) else { continue };
            let Some(version) = self.checked(folder, file_name(folder).parse()) else { continue };
            self.version(&model, folder, version, &below);
        }
    }

    /// The outline of a Triton ensemble, which needs no version folders.
    fn ensemble(&mut self, model: &Model<'_>) -> Option<triton::Outline> {
        let outline = triton::outline(&model.triton()?.file);
        outline.map_err(|problems| self.refuse_all(problems)).ok().filter(|outline| outline.ensemble)
    }

    /// The version folders that are to be served: all, unless a `config.pbtxt` chooses.
    fn versions(&mut self, model: &mut Model<'_>, entries: &Entries) -> Option<Vec<PathBuf>> {
        let Some(foreign) = model.triton() else { return Some(entries.versions.clone()) };
        let outline = triton::outline(&foreign.file);
        let outline = outline.map_err(|problems| self.refuse_all(problems)).ok()?;
        let served = outline.served(&entries.versions);
        if served.is_empty() {
            self.problem(&foreign.file, "version_policy serves none of the version folders that are here");
        }
        model.outline = Some(outline);
        Some(served)
    }

    /// One version: `model` gives the default name, `folder` the artefact.
    fn version(&mut self, model: &Model<'_>, folder: &Path, version: Version, entries: &Entries) {
        let manifest = entries.manifest.as_deref().or(model.manifest);
        let foreign = model.triton().or(entries.foreign.as_ref()).or(model.foreign);
        let Some(described) = self.described(manifest, folder) else { return };
        let source = match (manifest, foreign) {
            (None, Some(foreign)) => {
                let found = model.source(folder, foreign);
                found.map_err(|problems| self.refuse_all(problems)).ok()
            }
            (Some(manifest), _) if described.value.graph.is_some() => {
                let lone = without_artifact(entries, "[graph]").map(|()| (Kind::Graph, manifest.to_owned()));
                self.placed(&described, "graph", lone)
            }
            (Some(manifest), _) if described.value.remote.is_some() => {
                let lone =
                    without_artifact(entries, "[remote]").map(|()| (Kind::Remote, manifest.to_owned()));
                self.placed(&described, "remote", lone)
            }
            _ => {
                let artifact = artifact(folder, manifest, &described.value, entries);
                let artifact = artifact.map(|artifact| (Kind::Artifact, artifact));
                self.placed(&described, "artifact", artifact)
            }
        };
        let Some(name) = self.named(&described, model.default_name(manifest, foreign)) else { return };
        let Some((kind, artifact)) = source else { return };
        self.found.push(Candidate {
            name,
            version,
            kind,
            folder: folder.to_owned(),
            artifact,
            manifest: manifest.map(Path::to_owned),
            foreign: foreign.cloned(),
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
            kind: Kind::Artifact,
            folder: folder.to_owned(),
            artifact: path.to_owned(),
            manifest,
            foreign: None,
        });
    }

    /// The manifest, the default one without a file; `None` if it was refused.
    fn described(&mut self, manifest: Option<&Path>, stands_in: &Path) -> Option<Described> {
        let Some(path) = manifest else { return Some(Described::none(stands_in)) };
        let read = read_manifest(path).and_then(|text| weir_config::parse_with(path, &text, &[]));
        let loaded = read.map_err(|problems| self.refuse_all(problems)).ok()?;
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

/// What `table` describes has no artefact: one beside it would be served by no name.
fn without_artifact(entries: &Entries, table: &str) -> Result<(), String> {
    let Some(artifact) = entries.artifacts.first() else { return Ok(()) };
    Err(format!(
        "`{table}` stands in an artefact's place, and {} lies beside it: give that one a folder of its own",
        file_name(artifact)
    ))
}

fn nothing_here(entries: &Entries) -> String {
    match entries.foreign_files.first() {
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
