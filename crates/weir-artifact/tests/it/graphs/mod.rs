//! Graphs: what is made of a good one, and what is said about bad ones. How they answer is
//! tested where they run.

mod triton;
mod wrong;

use std::{collections::BTreeMap, fmt::Write, path::Path};

use weir_artifact::{Candidate, Kind, ModelSpec, Operation, Problem, Selector, discover, load, read_graph};
use weir_types::{DType, FeatureCatalogue, ModelName, Version, ViewShape};

use crate::support::{Folder, assert_golden};

/// A folder of models: two of houses with labels of their own, a regression, classes named by
/// strings, a model of two inputs, one that keeps state.
fn models() -> Folder {
    let fixture = |name: &str| {
        let path = format!("../weir-engine/tests/fixtures/{name}.onnx");
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let folder = Folder::new()
        .with_model("m/east/1/model.onnx", "housing")
        .with_model("m/west/1/model.onnx", "housing")
        .with_model("m/west/2/model.onnx", "housing")
        .with("m/east/model.toml", HOUSES)
        .with("m/west/model.toml", "labels = ['low', 'high']");
    for (name, file) in [
        ("price", "rf_regressor"),
        ("words", "rf_binary_strings"),
        ("three", "rf_multiclass"),
        ("add", "add_sub"),
    ] {
        folder.write(&format!("m/{name}/model.onnx"), &fixture(file));
    }
    for file in ["model.onnx", "model.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sequences/models/smoothing");
        folder.write(&format!("m/smoothing/{file}"), &std::fs::read(path.join(file)).unwrap());
    }
    folder
}

const HOUSES: &str = r#"
labels = ["low", "high"]
input.extra = "ignore"
[[input.field]]
name = "MedInc"
ge = 0.0
description = "income"
[[input.field]]
name = "Where"
shape = [7]
"#;

fn specs(folder: &Folder) -> Vec<ModelSpec> {
    let found = discover(&folder.path().join("m")).found;
    let plain = found.iter().filter(|candidate| candidate.kind == Kind::Artifact);
    plain.map(|candidate| load(candidate).unwrap().spec).collect()
}

/// Resolves the graph `m/g` against the models beside it.
fn resolve(folder: &Folder) -> Result<ModelSpec, Vec<Problem>> {
    against(folder, &specs(folder))
}

/// The same against models that were read before.
fn against(folder: &Folder, specs: &[ModelSpec]) -> Result<ModelSpec, Vec<Problem>> {
    let found = discover(&folder.path().join("m"));
    let candidate: Option<&Candidate> = found.found.iter().find(|c| c.kind == Kind::Graph);
    let Some(candidate) = candidate else {
        return Err(found.problems.into_iter().map(|p| p.problem).collect());
    };
    let lookup = |model: &ModelName, version: Option<&Version>| {
        let fits = |s: &&ModelSpec| s.name == *model && version.is_none_or(|v| s.version == *v);
        specs.iter().rfind(fits).ok_or_else(|| format!("there is no model `{model}`"))
    };
    read_graph(candidate)?.resolve(&lookup)
}

fn graph(toml: &str) -> Result<ModelSpec, String> {
    let folder = models().with("m/g/model.toml", toml);
    resolve(&folder).map_err(|problems| folder.told(&problems))
}

fn summary(spec: &ModelSpec) -> String {
    let mut out = format!("{} {:?}\n", spec.task.as_str(), spec.labels);
    let plan = spec.graph.as_ref().unwrap();
    for (side, tensors) in [("in ", &spec.signature.inputs), ("out", &spec.signature.outputs)] {
        for tensor in tensors {
            let _ = writeln!(out, "  {side} {tensor}");
        }
    }
    for field in &spec.schema.fields {
        let _ = writeln!(out, "  field {} {:?} ge {:?}", field.name, field.shape, field.rules.ge);
    }
    let _ = writeln!(out, "  extra {:?}, words {:?}", spec.schema.extra, words(spec));
    for (i, step) in plan.steps.iter().enumerate() {
        let kind = match &step.operation {
            Operation::Model { member, inputs } => format!("{:?} of {inputs:?}", plan.members[*member]),
            Operation::Mean { weights, .. } => format!("mean {weights:?}"),
            Operation::Vote { weights, .. } => format!("vote {weights:?}"),
            Operation::Route { by: Selector::Cases { on, column, tests }, branches } => {
                format!("switch on {on:?}[{column}] {tests:?} to {branches:?}")
            }
            Operation::Route { by, branches } => format!("cascade by {by:?} to {branches:?}"),
        };
        let _ = writeln!(out, "  {i} {} in scope {}, needs {:?}: {kind}", step.name, step.scope, step.needs);
    }
    let _ = writeln!(out, "{}", spec.drawing().unwrap());
    let _ = writeln!(out, "  answers {:?}, {} calls, {} deep", plan.outputs, plan.calls, plan.depth);
    out
}

fn words(spec: &ModelSpec) -> Vec<&str> {
    spec.answers.iter().map(|(word, _)| word.as_str()).collect()
}

#[test]
fn good_graphs_become_plans() {
    let cases = [
        ("mean, with the fields and labels of its models", MEAN),
        ("a vote that is given labels", VOTE),
        ("a cascade of three within a switch; what both branches need is shared", NESTED),
        ("a sequence, and outputs of its own", SEQUENCE),
    ];
    let mut told = String::new();
    for (what, toml) in cases {
        let _ = writeln!(told, "## {what}\n{}", graph(toml).map_or_else(|e| e, |spec| summary(&spec)));
    }
    assert_golden("graphs", &told);
}

const MEAN: &str = r#"
[[graph.step]]
model = "east"
[[graph.step]]
model = "west"
version = "1"
[[graph.step]]
name = "blend"
kind = "mean"
of = ["east.probabilities", "west.probabilities"]
weights = [3, 1]
"#;

const VOTE: &str = r#"
[[graph.step]]
name = "all"
kind = "vote"
of = ["east.label", "west.label", "new.label"]
[[graph.step]]
model = "east"
[[graph.step]]
model = "west"
version = "1"
[[graph.step]]
name = "new"
model = "west"
[graph.outputs]
label = "all"
"#;

const NESTED: &str = r#"
[[graph.step]]
name = "cheap"
model = "east"
[[graph.step]]
name = "middle"
model = "west"
version = "1"
[[graph.step]]
name = "dear"
model = "west"
[[graph.step]]
name = "careful"
kind = "cascade"
steps = ["cheap", "middle", "dear"]
confidence = "probabilities"
threshold = 0.9
[[graph.step]]
name = "where"
kind = "switch"
field = "MedInc"
cases = [
    { lt = 2.0, step = "middle" },
    { ge = 3.0, enum = [3.5, 4], step = "careful" },
    { step = "cheap" },
]
"#;

const SEQUENCE: &str = r#"
[graph.outputs]
sum = "last.OUTPUT0"
first = "first.OUTPUT1"
[[graph.step]]
name = "first"
model = "add"
inputs = { INPUT0 = "input.count" }
[[graph.step]]
name = "last"
model = "add"
inputs = { INPUT0 = "first.OUTPUT1", INPUT1 = "first.OUTPUT0" }
"#;

/// `depth` cascades, each within the last step of the one before.
fn nested(depth: usize) -> String {
    let mut toml = "[[graph.step]]\nmodel = 'east'\n[[graph.step]]\nname = 'c0'\nmodel = 'west'\n".to_owned();
    for i in 1..=depth {
        let _ = writeln!(
            toml,
            "[[graph.step]]\nname = 'c{i}'\nkind = 'cascade'\nsteps = ['e{i}', 'c{}']\nconfidence = 'probabilities'\n\
             threshold = 0.9\n[[graph.step]]\nname = 'e{i}'\nmodel = 'east'",
            i - 1
        );
    }
    toml.replace("[[graph.step]]\nmodel = 'east'\n", "")
        + &format!("[graph.outputs]\nlabel = 'c{depth}.label'")
}

#[test]
fn the_size_of_a_graph_is_bounded() {
    let problems = graph(&nested(9)).unwrap_err();
    assert!(problems.contains("more than 8 branches deep"), "{problems}");
    assert_eq!(graph(&nested(8)).unwrap().graph.as_ref().unwrap().calls, 9);
    let problems = graph(&nested(32)).unwrap_err();
    assert!(problems.contains("1 to 64 steps, this one has 65"), "{problems}");
}

#[test]
fn the_digest_follows_the_graph_and_its_models() {
    let digest = |toml: &str| graph(toml).unwrap().digest;
    let base = digest(MEAN);
    assert_eq!(base, digest(&format!("description = 'prose'\n{MEAN}")));
    assert_ne!(base, digest(&MEAN.replace("[3, 1]", "[1, 3]")));
    let folder = models().with("m/g/model.toml", MEAN).with("m/west/model.toml", "labels = ['a', 'high']");
    let other = resolve(&folder).unwrap();
    assert_ne!(base, other.digest);
    assert!(other.labels.is_empty(), "models that disagree on labels name none: {:?}", other.labels);
}

#[test]
fn a_graph_beside_an_artefact_is_refused() {
    let folder = models().with("m/g/model.toml", MEAN).with_model("m/g/model.onnx", "housing");
    let problems = resolve(&folder).unwrap_err();
    assert!(folder.told(&problems).contains("model.onnx lies beside it"), "{}", folder.told(&problems));
}

#[test]
fn what_is_looked_up_for_a_graph_it_says_itself() {
    let catalogue = FeatureCatalogue(BTreeMap::from([(
        "user".into(),
        ViewShape {
            entity: "user_id".into(),
            key: DType::Int64,
            features: BTreeMap::from([("income".into(), DType::Float32)]),
        },
    )]));
    let from = |text: &str| text.replace("ge = 0.0", "from = \"user.income\"");
    let steps = "[[graph.step]]\nmodel = \"east\"\n[[graph.step]]\nmodel = \"west\"\n[[graph.step]]\nname = \"blend\"\n\
                 kind = \"mean\"\nof = [\"east.probabilities\", \"west.probabilities\"]\n";
    let folder = models().with("m/east/model.toml", &from(HOUSES)).with("m/g/model.toml", steps);
    let mut members = specs(&folder);
    members.iter_mut().for_each(|spec| spec.bind_features(&catalogue).unwrap());
    let mut inherited = against(&folder, &members).unwrap();
    inherited.bind_features(&catalogue).unwrap();
    assert!(!inherited.schema.looks_up() && inherited.schema.fields.iter().all(|f| f.source.is_none()));
    folder.write("m/g/model.toml", format!("{}{steps}", from(HOUSES)).as_bytes());
    let mut own = against(&folder, &members).unwrap();
    own.bind_features(&catalogue).unwrap();
    assert_eq!(own.schema.keys[0].name, "user_id");
    assert_eq!(own.schema.fields.iter().filter(|f| f.source.is_some()).count(), 1);
}
