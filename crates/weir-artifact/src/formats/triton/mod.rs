//! A Triton model repository: `config.pbtxt` beside numeric version folders.

mod config;
mod ensemble;
mod textproto;

use std::path::{Path, PathBuf};

use weir_config::Problem;
use weir_types::{Dim, Signature, TensorSpec};

use super::{Described, Source};
use crate::{
    CacheTable, LimitsTable, Manifest,
    files::{self, Folders},
    onnx::OnnxModel,
    task::{list, scores_output},
};
use config::{Config, Policy, Tensor};
pub(super) use ensemble::ensemble;
pub(crate) use ensemble::{Declared, Ensemble};

/// Largest `config.pbtxt`.
const MAX_BYTES: u64 = 1 << 20;
/// Largest label file.
const LABELS_BYTES: u64 = 8 << 20;
/// Most entries of the model's folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Name of the artefact within a version folder where the file does not say.
const ARTIFACT: &str = "model.onnx";

/// What finding the model's versions needs of its `config.pbtxt`.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) name: Option<String>,
    /// The artefact's file name within a version folder.
    pub(crate) artifact: String,
    /// Whether it is made of other models.
    pub(crate) ensemble: bool,
    policy: Policy,
}

impl Outline {
    /// Those of the version folders that the policy serves, the lowest first.
    pub(crate) fn served(&self, versions: &[PathBuf]) -> Vec<PathBuf> {
        self.policy.served(versions)
    }
}

impl Policy {
    fn served(&self, versions: &[PathBuf]) -> Vec<PathBuf> {
        let number =
            |path: &Path| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u64>().ok());
        let mut sorted: Vec<_> = versions.iter().filter_map(|p| Some((number(p)?, p.clone()))).collect();
        sorted.sort();
        let first = match self {
            Policy::Latest(count) => sorted.len().saturating_sub(*count),
            _ => 0,
        };
        let chosen = |n: u64| match self {
            Policy::Specific(list) => list.contains(&n),
            _ => true,
        };
        sorted.into_iter().skip(first).filter(|(n, _)| chosen(*n)).map(|(_, path)| path).collect()
    }
}

/// Reads what the discovery needs.
pub(crate) fn outline(path: &Path) -> Result<Outline, Vec<Problem>> {
    let config = read(path)?;
    let artifact = config.artifact.unwrap_or_else(|| ARTIFACT.to_owned());
    Ok(Outline { name: config.name, artifact, ensemble: config.ensemble.is_some(), policy: config.policy })
}

fn read(path: &Path) -> Result<Config, Vec<Problem>> {
    let text = files::text(path, MAX_BYTES).map_err(|message| vec![Problem::new(path, message)])?;
    let place = |((line, column), message)| Problem::new(path, message).at(line, column);
    config::read(&text).map_err(|faults| faults.into_iter().map(place).collect())
}

/// What the file says about the artefact `graph`.
pub(super) fn describe(source: &Source<'_>, graph: &OnnxModel) -> Result<Described, Vec<Problem>> {
    let config = read(source.file)?;
    let mut check = Check::new(source.file, &config, "artefact");
    // `input` and `output` of the file are about what is not the server's own.
    let seen = config.sequence.as_ref().map(|table| table.visible(&graph.signature));
    check.sides(seen.as_ref().unwrap_or(&graph.signature));
    let labels = check.labels(graph);
    check.versions();
    let mut limits = LimitsTable::default();
    if config.max_batch_size > 0 {
        limits.max_rows = config.max_batch_size.min(10_000_000);
    }
    let mut batching = config.batching.clone();
    batching.max_rows = Some(config.max_batch_size.min(1_000_000)).filter(|n| *n > 0);
    let Check { problems, notes, .. } = check;
    if !problems.is_empty() {
        return Err(problems);
    }
    let artifact = config.artifact.clone();
    let sequence = config.sequence.clone();
    let manifest = Manifest { labels, limits, batching, artifact, sequence, ..Manifest::default() };
    let wanted = config.name.clone();
    let manifest = Manifest { cache: config.cache.then(CacheTable::default), ..manifest };
    Ok(Described { manifest, notes: config.notes.into_iter().chain(notes).collect(), wanted })
}

/// Compares configuration and artefact.
struct Check<'a> {
    file: &'a Path,
    config: &'a Config,
    /// What it is held against.
    other: &'static str,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl<'a> Check<'a> {
    fn new(file: &'a Path, config: &'a Config, other: &'static str) -> Self {
        Self { file, config, other, problems: Vec::new(), notes: Vec::new() }
    }

    fn problem(&mut self, (line, column): (usize, usize), message: String) {
        self.problems.push(Problem::new(self.file, message).at(line, column));
    }

    fn sides(&mut self, signature: &Signature) {
        self.side("input", &self.config.inputs, &signature.inputs);
        self.side("output", &self.config.outputs, &signature.outputs);
        if self.config.max_batch_size == 0 {
            return;
        }
        if let Some(fixed) = signature.inputs.iter().find(|i| i.shape.first().and_then(Dim::fixed).is_some())
        {
            let message = format!(
                "max_batch_size is {}, but the {}'s input {fixed} takes a fixed number of rows: export it \
                 with a dynamic batch size, or write max_batch_size: 0 and all dimensions",
                self.config.max_batch_size, self.other
            );
            self.problems.push(Problem::new(self.file, message));
        }
    }

    /// `given` is what the configuration says; where it says nothing, the artefact does.
    fn side(&mut self, what: &str, given: &[Tensor], specs: &[TensorSpec]) {
        for tensor in given {
            match specs.iter().find(|s| s.name == tensor.name) {
                Some(spec) => self.tensor(what, tensor, spec),
                None => {
                    let message = format!(
                        "the {} has no {what} `{}`, it has {}",
                        self.other,
                        tensor.name.chars().take(64).collect::<String>(),
                        list(specs)
                    );
                    self.problem(tensor.place, message);
                }
            }
        }
        let missing: Vec<_> = specs.iter().filter(|s| given.iter().all(|t| t.name != s.name)).collect();
        for spec in missing.into_iter().filter(|_| !given.is_empty()) {
            if what == "input" {
                let message = format!("the {}'s input {spec} is missing here", self.other);
                self.problems.push(Problem::new(self.file, message));
            } else {
                self.notes.push(format!("output {spec} is not in config.pbtxt; it is served too"));
            }
        }
    }

    fn tensor(&mut self, what: &str, tensor: &Tensor, spec: &TensorSpec) {
        if let Some(dtype) = tensor.dtype.filter(|d| *d != spec.dtype) {
            self.problem(
                tensor.place,
                format!("{what} `{}` is {dtype} here, and {spec} in the {}", spec.name, self.other),
            );
        }
        let dims = tensor.reshape.as_ref().unwrap_or(&tensor.dims);
        let own = match self.config.max_batch_size {
            0 => &spec.shape[..],
            _ => spec.shape.get(1..).unwrap_or_default(),
        };
        if !tensor.dims.is_empty() || tensor.reshape.is_some() {
            self.dims(what, tensor, spec, dims, own);
        }
        if tensor.reshape.is_some() {
            self.notes.push(format!("`reshape` of {what} `{}` is not applied: it is {spec} here", spec.name));
        }
    }

    fn dims(&mut self, what: &str, tensor: &Tensor, spec: &TensorSpec, dims: &[i64], own: &[Dim]) {
        let fits = |(given, own): (&i64, &Dim)| match own.fixed() {
            Some(n) => i64::try_from(n).is_ok_and(|n| n == *given || *given == -1),
            None => true,
        };
        // A shape that the artefact does not declare is any.
        let undeclared = spec.shape.len() == 1 && spec.shape[0].fixed().is_none() && dims.len() > 1;
        if undeclared {
            return;
        }
        if dims.len() != own.len() || !dims.iter().zip(own).all(fits) {
            let rows = if self.config.max_batch_size > 0 { " behind the rows" } else { "" };
            let message = format!(
                "{what} `{}` has the dimensions {dims:?}{rows} here, and is {spec} in the {}",
                spec.name, self.other
            );
            return self.problem(tensor.place, message);
        }
        if dims.iter().zip(own).any(|(given, own)| *given > 0 && own.fixed().is_none() && what == "input") {
            self.notes.push(format!(
                "input `{}` is narrowed to {dims:?} in config.pbtxt; what the artefact takes is accepted",
                spec.name
            ));
        }
    }

    /// The names of the classes, if they belong to the output that holds the scores.
    fn labels(&mut self, graph: &OnnxModel) -> Option<Vec<String>> {
        let mut found = None;
        for output in &self.config.outputs {
            let Some((name, place)) = &output.labels else { continue };
            let read = Folders::new(self.folder(), None).find(name);
            let read = read.and_then(|path| files::text(&path, LABELS_BYTES));
            let text = match read {
                Ok(text) => text,
                Err(message) => {
                    self.problem(*place, format!("`label_filename`: {message}"));
                    continue;
                }
            };
            let labels: Vec<String> = text.trim_end().lines().map(|l| l.trim().to_owned()).collect();
            let scores = scores_output(graph, labels.len()).map(|i| &graph.signature.outputs[i].name);
            if labels.len() > 1 && scores == Some(&output.name) {
                found = Some(self.unique(name, labels));
            } else {
                self.notes.push(format!(
                    "{name} ({} lines) is not used: output `{}` does not hold one score a line",
                    labels.len(),
                    output.name
                ));
            }
        }
        found
    }

    /// Says which version folders the policy leaves out.
    fn versions(&mut self) {
        let is_version = |path: &PathBuf| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            !name.is_empty() && name.len() <= 18 && name.bytes().all(|b| b.is_ascii_digit()) && path.is_dir()
        };
        let listed = std::fs::read_dir(self.folder()).into_iter().flatten().take(MAX_ENTRIES).flatten();
        let versions: Vec<PathBuf> = listed.map(|e| e.path()).filter(is_version).collect();
        let served = self.config.policy.served(&versions);
        let mut left: Vec<String> = versions
            .iter()
            .filter(|v| !served.contains(v))
            .filter_map(|v| Some(v.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if !left.is_empty() {
            left.sort_by_key(|name| name.parse::<u64>().unwrap_or(u64::MAX));
            left.truncate(20);
            self.notes.push(format!(
                "version_policy leaves out {}; `version_policy: {{ all {{}} }}` serves all (Triton's default is the \
                 newest only)",
                left.join(", ")
            ));
        }
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// Labels must be told apart in answers; lists of ImageNet's classes have two cranes.
    fn unique(&mut self, file: &str, labels: Vec<String>) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let mut renamed = Vec::new();
        let mut one = |(i, label): (usize, String)| {
            if !label.is_empty() && seen.insert(label.clone()) {
                return label;
            }
            let new = format!("{label} ({i})").trim().to_owned();
            seen.insert(new.clone());
            renamed.push(new.clone());
            new
        };
        let labels = labels.into_iter().enumerate().map(&mut one).collect();
        if !renamed.is_empty() {
            let some = renamed.iter().take(5).map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
            self.notes.push(format!(
                "{file} repeats labels or leaves them empty: {} got their index, for example {some}",
                renamed.len()
            ));
        }
        labels
    }
}
