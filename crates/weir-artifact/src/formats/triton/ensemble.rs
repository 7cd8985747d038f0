//! `ensemble_scheduling`: steps whose tensors are joined by name become a [`GraphTable`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use weir_config::{Places, Problem};
use weir_types::Signature;

use super::{
    Check, Described, Source,
    config::{Config, Reader},
    read,
    textproto::{Fault, Field, Place},
};
use crate::{CacheTable, GraphTable, LimitsTable, Manifest, StepTable, formats::plain_name};

/// One step: a model, and the ensemble's name of each of its tensors.
#[derive(Debug, Clone)]
pub(super) struct Step {
    place: Place,
    model: String,
    /// -1 for the latest.
    version: i64,
    /// The model's input, the ensemble's tensor.
    inputs: Vec<Mapping>,
    /// The model's output, the ensemble's tensor.
    outputs: Vec<Mapping>,
}

/// `key` of the model and `value` of the ensemble.
#[derive(Debug, Clone)]
struct Mapping {
    place: Place,
    key: String,
    value: String,
}

/// An ensemble as a manifest.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(crate) described: Described,
    pub(crate) declared: Declared,
    pub(crate) places: Places,
}

/// What the file declares of inputs and outputs, to be held against what the steps come to.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    file: PathBuf,
    config: Config,
}

impl Declared {
    /// All in which the declaration differs from `signature`.
    pub(crate) fn differences(&self, signature: &Signature) -> Vec<Problem> {
        let mut check = Check::new(&self.file, &self.config, "ensemble");
        check.sides(signature);
        check.problems
    }

    /// Where the input stands in the file; behind all others what does not.
    pub(crate) fn input(&self, name: &str) -> usize {
        self.config.inputs.iter().position(|t| t.name == name).unwrap_or(usize::MAX)
    }

    /// The same for an output.
    pub(crate) fn output(&self, name: &str) -> usize {
        self.config.outputs.iter().position(|t| t.name == name).unwrap_or(usize::MAX)
    }
}

/// Reads an ensemble.
pub(in crate::formats) fn ensemble(source: &Source<'_>) -> Result<Ensemble, Vec<Problem>> {
    let config = read(source.file)?;
    let steps = config.ensemble.clone().unwrap_or_default();
    let mut joiner =
        Joiner { config: &config, makers: BTreeMap::new(), faults: Vec::new(), places: Vec::new() };
    let table = joiner.table(&steps);
    let Joiner { faults, places, .. } = joiner;
    if !faults.is_empty() {
        let place = |((line, column), message)| Problem::new(source.file, message).at(line, column);
        return Err(faults.into_iter().map(place).collect());
    }
    let mut limits = LimitsTable::default();
    if config.max_batch_size > 0 {
        limits.max_rows = config.max_batch_size.min(10_000_000);
    }
    let mut notes = config.notes.clone();
    for output in config.outputs.iter().filter(|output| output.labels.is_some()) {
        notes.push(format!(
            "`label_filename` of output `{}` has no effect: an ensemble has the labels of its models",
            output.name
        ));
    }
    let cache = config.cache.then(CacheTable::default);
    let manifest = Manifest { limits, cache, graph: Some(table), ..Manifest::default() };
    let wanted = config.name.clone();
    let places = Places::of(source.file, places);
    let declared = Declared { file: source.file.to_owned(), config };
    Ok(Ensemble { described: Described { manifest, notes, wanted }, declared, places })
}

/// Joins steps by the names of tensors.
struct Joiner<'a> {
    config: &'a Config,
    /// The tensors that steps give, as a graph names them.
    makers: BTreeMap<String, String>,
    faults: Vec<Fault>,
    places: Vec<(String, Place)>,
}

impl Joiner<'_> {
    fn table(&mut self, steps: &[Step]) -> GraphTable {
        let names = names(steps);
        for (name, step) in names.iter().zip(steps) {
            step.outputs.iter().for_each(|output| self.made(name, output));
        }
        let numbered = names.into_iter().zip(steps).enumerate();
        let step = numbered.map(|(i, (name, step))| self.step(i, name, step)).collect();
        GraphTable { outputs: self.outputs(), step }
    }

    fn made(&mut self, step: &str, output: &Mapping) {
        let asked = self.config.inputs.iter().any(|input| input.name == output.value);
        let maker = format!("{step}.{}", output.key);
        if asked || self.makers.insert(output.value.clone(), maker).is_some() {
            let first = if asked { "is an input of the ensemble" } else { "is what another step gives" };
            let message = format!("tensor `{}` {first}: give the step's own another name", output.value);
            self.faults.push((output.place, message));
        }
    }

    fn step(&mut self, index: usize, name: String, step: &Step) -> StepTable {
        let at = format!("graph.step[{index}]");
        self.places.push((at.clone(), step.place));
        let mut inputs = BTreeMap::new();
        for input in &step.inputs {
            self.places.push((format!("{at}.inputs.{}", input.key), input.place));
            inputs.extend(self.tensor(input).map(|tensor| (input.key.clone(), tensor)));
        }
        let version = (step.version >= 0).then(|| step.version.to_string());
        StepTable {
            name: Some(name),
            model: Some(plain_name(&step.model)),
            version,
            inputs,
            ..StepTable::default()
        }
    }

    fn tensor(&mut self, input: &Mapping) -> Option<String> {
        if let Some(made) = self.makers.get(&input.value) {
            return Some(made.clone());
        }
        if self.config.inputs.iter().any(|tensor| tensor.name == input.value) {
            return Some(format!("input.{}", input.value));
        }
        let message =
            format!("tensor `{}` is neither an input of the ensemble nor what a step gives", input.value);
        self.faults.push((input.place, message));
        None
    }

    fn outputs(&mut self) -> BTreeMap<String, String> {
        let mut outputs = BTreeMap::new();
        for output in &self.config.outputs {
            self.places.push((format!("graph.outputs.{}", output.name), output.place));
            match self.makers.get(&output.name) {
                Some(made) => drop(outputs.insert(output.name.clone(), made.clone())),
                None => {
                    let message = format!("no step gives output `{}`", output.name);
                    self.faults.push((output.place, message));
                }
            }
        }
        outputs
    }
}

/// The steps by the names of their models, numbered where one is asked twice.
fn names(steps: &[Step]) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::from(["input".to_owned()]);
    let name = |step: &Step| {
        let model = plain_name(&step.model);
        let mut numbered = (2..).map(|n| format!("{model}-{n}"));
        let free = |name: &String| !taken.contains(name);
        let name = Some(model.clone()).filter(free).or_else(|| numbered.find(free)).unwrap_or(model.clone());
        taken.insert(name.clone());
        name
    };
    steps.iter().map(name).collect()
}

impl Reader {
    pub(super) fn ensemble(&mut self, field: &Field) -> Vec<Step> {
        let mut steps = Vec::new();
        for inner in self.message(field) {
            match inner.name.as_str() {
                "step" => steps.push(self.step(inner)),
                "max_inflight_requests" => {
                    self.note("`max_inflight_requests` has no effect: the server's own limits hold");
                }
                _ => self.unknown(inner, "`ensemble_scheduling`"),
            }
        }
        if steps.is_empty() {
            self.fault(field, "an ensemble needs steps");
        }
        steps
    }

    fn step(&mut self, field: &Field) -> Step {
        let (inputs, outputs) = (Vec::new(), Vec::new());
        let mut step = Step { place: field.place, model: String::new(), version: -1, inputs, outputs };
        for inner in self.message(field) {
            match inner.name.as_str() {
                "model_name" => step.model = self.text(inner).unwrap_or_default(),
                "model_version" => step.version = self.version(inner),
                "input_map" => step.inputs.extend(self.mapping(inner)),
                "output_map" => step.outputs.extend(self.mapping(inner)),
                "model_namespace" => {
                    self.fault(inner, "`model_namespace` is not served: models have one namespace");
                }
                _ => self.unknown(inner, "a step"),
            }
        }
        if step.model.is_empty() {
            self.fault(field, "a step needs a `model_name`");
        }
        step
    }

    fn version(&mut self, field: &Field) -> i64 {
        let version = self.int(field).unwrap_or(-1);
        if version < -1 || version == 0 {
            self.fault(
                field,
                format!("`model_version` is a version's number, or -1 for the latest, got {version}"),
            );
        }
        version
    }

    fn mapping(&mut self, field: &Field) -> Option<Mapping> {
        let (mut key, mut value) = (None, None);
        for inner in self.message(field) {
            match inner.name.as_str() {
                "key" => key = self.text(inner),
                "value" => value = self.text(inner),
                _ => self.unknown(inner, &format!("`{}`", field.name)),
            }
        }
        if key.is_none() || value.is_none() {
            self.fault(
                field,
                format!("`{}` needs a `key`, the model's tensor, and a `value`, the ensemble's", field.name),
            );
        }
        Some(Mapping { place: field.place, key: key?, value: value? })
    }
}
