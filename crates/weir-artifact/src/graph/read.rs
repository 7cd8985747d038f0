//! Reading a graph: what is written first, then against the models that it names.

use std::path::Path;

use weir_config::{Loaded, Places, Problem};
use weir_types::{ModelName, Version};

use super::{GraphTable, Member, StepKind, resolve::Resolver};
use crate::{
    Candidate, EngineChoice, Manifest, ModelSpec, Sample,
    files::Folders,
    formats,
    load::{describe, read_samples},
    report::Report,
};

/// Most steps of one graph.
const MAX_STEPS: usize = 64;
/// Most outputs of one graph.
const MAX_OUTPUTS: usize = 256;

/// A model that a graph names: the version it wants, or the latest.
pub type Wanted = (ModelName, Option<Version>);

/// A graph as it is written, not yet held against the models that it names. Kept while it
/// serves: it is resolved again whenever one of them changes.
#[derive(Debug, Clone)]
pub struct GraphDraft {
    pub(super) candidate: Candidate,
    pub(super) manifest: Manifest,
    pub(super) table: GraphTable,
    /// What another layout declares of inputs and outputs.
    pub(super) declared: Option<formats::triton::Declared>,
    pub(super) samples: Vec<Sample>,
    pub(super) notes: Vec<String>,
    pub(super) places: Option<Places>,
    pub(super) bytes: u64,
    /// What is wrong whatever models there are.
    pub(super) problems: Vec<Problem>,
}

/// Finds the version that serves as `model`, the latest where none is named. The error says
/// why there is none, in a sentence.
pub type Lookup<'a> = dyn Fn(&ModelName, Option<&Version>) -> Result<&'a ModelSpec, String> + 'a;

/// Reads the description of a graph.
///
/// # Errors
/// What keeps it from being read. All else that is wrong with it is told when it is resolved,
/// together with what the models say.
pub fn read_graph(candidate: &Candidate) -> Result<GraphDraft, Vec<Problem>> {
    let mut draft = written(candidate)?;
    let mut report = draft.report();
    draft.check_manifest(&mut report);
    let folders = Folders::new(&candidate.folder, candidate.manifest.as_deref());
    draft.samples = read_samples(&draft.manifest, &folders, &mut report);
    draft.problems = report.problems;
    Ok(draft)
}

fn written(candidate: &Candidate) -> Result<GraphDraft, Vec<Problem>> {
    let bytes = candidate.artifact.metadata().map_or(0, |meta| meta.len());
    let (manifest, declared, notes, places) = match (&candidate.manifest, &candidate.foreign) {
        (None, Some(foreign)) => {
            let ensemble = formats::ensemble(candidate, foreign)?;
            (
                ensemble.described.manifest,
                Some(ensemble.declared),
                ensemble.described.notes,
                Some(ensemble.places),
            )
        }
        (manifest, foreign) => {
            let Loaded { value, places } = describe(manifest.as_deref())?;
            (
                value,
                None,
                foreign.iter().map(formats::passed_over).collect(),
                manifest.as_ref().map(|_| places),
            )
        }
    };
    let table = manifest.graph.clone().unwrap_or_default();
    let candidate = candidate.clone();
    Ok(GraphDraft {
        candidate,
        manifest,
        table,
        declared,
        samples: Vec::new(),
        notes,
        places,
        bytes,
        problems: Vec::new(),
    })
}

impl GraphDraft {
    /// Where it was found.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The models that it names.
    pub fn wanted(&self) -> Vec<Wanted> {
        let steps = self.table.step.iter().filter(|step| step.kind == StepKind::Model);
        let wanted = steps.filter_map(|step| {
            let version = step.version.as_ref().and_then(|version| version.parse().ok());
            Some((step.model.as_ref()?.parse().ok()?, version))
        });
        let mut all: Vec<Wanted> = wanted.collect();
        all.sort();
        all.dedup();
        all
    }

    /// Settles names, types, shapes and order against the models that `lookup` finds:
    /// [`ModelSpec::graph`] is the plan.
    ///
    /// # Errors
    /// All problems at once.
    pub fn resolve(&self, lookup: &Lookup<'_>) -> Result<ModelSpec, Vec<Problem>> {
        let steps = self.table.step.len();
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(self.problems.clone());
        }
        let mut report = self.report();
        report.problems.clone_from(&self.problems);
        let spec = Resolver::new(self, &mut report).resolve(lookup);
        let mut problems = report.problems;
        match spec {
            Some(spec) if problems.is_empty() => Ok(spec),
            _ => {
                problems.sort_by_key(|problem| problem.at);
                problems.dedup();
                Err(problems)
            }
        }
    }

    /// The outputs that are written, in their order.
    pub(super) fn output_order(&self) -> Vec<(&String, &String)> {
        let mut outputs: Vec<_> = self.table.outputs.iter().collect();
        if let Some(declared) = &self.declared {
            outputs.sort_by_key(|(name, _)| declared.output(name));
        }
        outputs
    }

    fn report(&self) -> Report {
        Report::new(self.place(), self.places.clone())
    }

    fn place(&self) -> &Path {
        &self.candidate.artifact
    }

    /// Keys that say something about an artefact, of which there is none; and the number of
    /// steps.
    fn check_manifest(&self, report: &mut Report) {
        let Manifest { artifact, engine, text, sequence, .. } = &self.manifest;
        let keys = [
            ("artifact", artifact.is_some()),
            ("engine", *engine != EngineChoice::Auto),
            ("text", text.is_some()),
            ("sequence", sequence.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, given)| *given) {
            report.at(key, format!("`{key}` is about a model's own artefact, and a graph has none"));
        }
        let outputs = self.table.outputs.len();
        if outputs > MAX_OUTPUTS {
            let message = format!("a graph has up to {MAX_OUTPUTS} outputs, this one has {outputs}");
            report.at("graph.outputs", message);
        }
        let steps = self.table.step.len();
        if !(1..=MAX_STEPS).contains(&steps) {
            report.at("graph.step", format!("a graph has 1 to {MAX_STEPS} steps, this one has {steps}"));
        }
    }
}

impl Member {
    /// The member that `spec` is.
    pub(super) fn of(spec: &ModelSpec) -> Self {
        Self { model: spec.name.clone(), version: spec.version.clone() }
    }
}
