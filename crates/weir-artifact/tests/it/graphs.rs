//! Graphs: what is made of a good one, and what is said about bad ones. How they answer is
//! tested where they run.

use std::{fmt::Write, path::Path};

use weir_artifact::{Candidate, Kind, ModelSpec, Operation, Problem, Selector, discover, load, read_graph};
use weir_types::{ModelName, Version};

use crate::support::{Folder, assert_golden};

/// A folder of models: two of houses with labels of their own, a regression, classes named by
/// strings, a model of two inputs.
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
    let found = discover(&folder.path().join("m"));
    let candidate: Option<&Candidate> = found.found.iter().find(|c| c.name.as_str() == "g");
    let Some(candidate) = candidate else {
        return Err(found.problems.into_iter().map(|p| p.problem).collect());
    };
    assert_eq!(candidate.kind, Kind::Graph);
    let specs = specs(folder);
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

#[test]
fn all_that_is_wrong_is_told_at_its_place() {
    let cases = [
        ("no step", "[graph]\nstep = []"),
        ("unknown keys", "[graph]\nstp = 1\n[[graph.step]]\nmodel = 'east'\nkind = 'modle'"),
        ("keys of another kind, and missing ones", KEYS),
        ("keys about an artefact", "engine = 'rten'\nartifact = 'm.onnx'\n[[graph.step]]\nmodel = 'east'"),
        ("names", NAMES),
        ("models that are not there", MISSING),
        ("tensors that are not there, or of another type", TENSORS),
        ("a cycle", CYCLE),
        ("steps that nothing needs", UNUSED),
        ("means and votes", COMBINED),
        ("switches", SWITCHES),
        ("cascades", CASCADES),
        (
            "inputs that two models take differently",
            "[[graph.step]]\nname = 'm'\nkind = 'mean'\nof = ['price', 'p']\n[[graph.step]]\nmodel = 'price'\n[[graph.step]]\nname = 'p'\nmodel = 'odd'",
        ),
        ("labels that fit nothing", "labels = ['a', 'b', 'c']\n[[graph.step]]\nmodel = 'east'"),
        (
            "labels of a regression",
            "labels = ['a', 'b']\ntask = 'regression'\n[[graph.step]]\nmodel = 'price'",
        ),
        ("an unknown word", "output.prediction = 'probability:x'\n[[graph.step]]\nmodel = 'east'"),
        (
            "fields that do not fill the inputs",
            "[[input.field]]\nname = 'a'\n[[input.field]]\nname = 'b'\n[[graph.step]]\nmodel = 'east'",
        ),
    ];
    let mut told = String::new();
    for (what, toml) in cases {
        let problems = match graph(toml) {
            Ok(_) => "NOTHING".to_owned(),
            Err(problems) => problems,
        };
        let _ = writeln!(told, "## {what}\n{problems}\n");
    }
    assert!(!told.contains("NOTHING"), "{told}");
    assert_golden("graphs_wrong", &told);
}

const KEYS: &str = r#"
[[graph.step]]
model = "east"
of = ["a"]
threshold = 0.5
[[graph.step]]
name = "m"
kind = "mean"
[[graph.step]]
name = "s"
kind = "switch"
[[graph.step]]
name = "c"
kind = "cascade"
model = "east"
"#;

const NAMES: &str = r#"
[[graph.step]]
model = "east"
[[graph.step]]
model = "east"
[[graph.step]]
name = "input"
model = "east"
[[graph.step]]
kind = "mean"
of = ["east.probabilities", "est.probabilities"]
[[graph.step]]
name = "n"
model = "No Name"
"#;

const MISSING: &str = r#"
[[graph.step]]
model = "est"
[[graph.step]]
model = "west"
version = "7"
[[graph.step]]
name = "m"
kind = "mean"
of = ["est.probabilities", "west.probabilities"]
"#;

const TENSORS: &str = r#"
[graph.outputs]
a = "east"
b = "east.scores"
c = "input.nothing"
d = "price"
[[graph.step]]
model = "east"
inputs = { imput = "price.variable" }
outputs = { label = "probabilities", x = "nothing" }
[[graph.step]]
model = "price"
inputs = { X = "words.label" }
[[graph.step]]
model = "words"
"#;

const CYCLE: &str = r#"
[[graph.step]]
name = "a"
model = "add"
inputs = { INPUT0 = "b.OUTPUT1" }
[[graph.step]]
name = "b"
model = "add"
inputs = { INPUT0 = "a.OUTPUT1" }
"#;

const UNUSED: &str = r#"
[[graph.step]]
model = "west"
[[graph.step]]
model = "price"
[[graph.step]]
model = "east"
"#;

const COMBINED: &str = r#"
[graph.outputs]
a = "one"
b = "labels"
c = "mixed"
d = "scores"
e = "weighed"
[[graph.step]]
model = "east"
[[graph.step]]
model = "three"
[[graph.step]]
name = "one"
kind = "mean"
of = ["east.probabilities"]
[[graph.step]]
name = "labels"
kind = "mean"
of = ["east.label", "three.label"]
[[graph.step]]
name = "mixed"
kind = "mean"
of = ["east.probabilities", "three.probabilities"]
[[graph.step]]
name = "scores"
kind = "vote"
of = ["east.probabilities", "east.probabilities"]
[[graph.step]]
name = "weighed"
kind = "vote"
of = ["east.label", "three.label"]
weights = [0.0, -1.0, nan]
"#;

const SWITCHES: &str = r#"
[graph.outputs]
a = "s1.label"
b = "s2.label"
c = "s3"
d = "s4.label"
e = "s5.label"
[[graph.step]]
model = "east"
[[graph.step]]
model = "words"
[[graph.step]]
model = "price"
[[graph.step]]
name = "s1"
kind = "switch"
field = "Latitude"
cases = [{ step = "east" }, { lt = nan, step = "east" }]
[[graph.step]]
name = "s2"
kind = "switch"
on = "words.label"
cases = [{ lt = 3.0, step = "east" }, { enum = [3], step = "east" }, { step = "nobody" }]
[[graph.step]]
name = "s3"
kind = "switch"
on = "words.probabilities"
cases = [{ gt = 3.0, step = "east" }, { step = "price" }]
[[graph.step]]
name = "s4"
kind = "switch"
on = "east.probabilities"
column = 2
field = "Where"
cases = [{ gt = 3.0, step = "east" }, { step = "words" }]
[[graph.step]]
name = "s5"
kind = "switch"
field = "Where"
column = 1
cases = [{ step = "east" }]
"#;

const CASCADES: &str = r#"
[graph.outputs]
a = "c1.label"
b = "c2.label"
c = "c3.label"
[[graph.step]]
model = "east"
[[graph.step]]
model = "west"
[[graph.step]]
name = "c1"
kind = "cascade"
steps = ["east"]
confidence = "probabilities"
threshold = 0.5
[[graph.step]]
name = "c2"
kind = "cascade"
steps = ["east", "west"]
confidence = "label"
threshold = nan
[[graph.step]]
name = "c3"
kind = "cascade"
steps = ["east", "west", "nobody"]
confidence = "sureness"
threshold = 0.5
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

/// An ensemble of two steps after Triton's documentation, with `edit` made to it.
fn ensemble(edit: (&str, &str)) -> Result<ModelSpec, String> {
    assert!(ENSEMBLE.contains(edit.0), "{edit:?}");
    let folder = models().with("m/g/config.pbtxt", &ENSEMBLE.replacen(edit.0, edit.1, 1));
    folder.write("m/g/1/.keep", b"");
    resolve(&folder).map_err(|problems| folder.told(&problems))
}

const ENSEMBLE: &str = r#"
name: "g"
platform: "ensemble"
max_batch_size: 32
input [
  { name: "B" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "A" data_type: TYPE_INT32 dims: [ 4 ] }
]
output [
  { name: "DIFF" data_type: TYPE_INT32 dims: [ 4 ] },
  { name: "ALL" data_type: TYPE_FP32 dims: [ 4 ] }
]
ensemble_scheduling {
  step [
    {
      model_name: "add"
      model_version: -1
      input_map { key: "INPUT0" value: "half" }
      input_map { key: "INPUT1" value: "B" }
      output_map { key: "OUTPUT0" value: "ALL" }
    },
    {
      model_name: "add"
      model_version: 1
      input_map { key: "INPUT0" value: "A" }
      input_map { key: "INPUT1" value: "B" }
      output_map { key: "OUTPUT1" value: "half" }
      output_map { key: "OUTPUT1" value: "DIFF" }
    }
  ]
}
"#;

#[test]
fn a_triton_ensemble_is_a_graph() {
    let spec = ensemble(("name", "name")).unwrap();
    assert_golden("graph_triton", &summary(&spec));
    assert_eq!(spec.limits.max_rows, 32);
    let folder = models().with("m/g/config.pbtxt", ENSEMBLE);
    assert_eq!(resolve(&folder).unwrap().digest, spec.digest, "version folders are not needed");
}

#[test]
fn what_is_wrong_with_an_ensemble_is_told_at_its_place() {
    let cases = [
        ("platform: \"ensemble\"", "platform: \"ensemble\" backend: \"onnxruntime\""),
        ("value: \"half\"", "value: \"hlf\""),
        ("value: \"DIFF\"", "value: \"ALL\""),
        ("value: \"DIFF\"", "value: \"A\""),
        ("name: \"DIFF\"", "name: \"DIF\""),
        ("key: \"INPUT0\"", "key: \"INPUT9\""),
        ("key: \"OUTPUT0\"", "key: \"OUTPUT9\""),
        ("TYPE_INT32", "TYPE_FP32"),
        ("dims: [ 4 ]", "dims: [ 5 ]"),
        ("model_name: \"add\"", "model_name: \"adds\""),
        ("model_version: 1", "model_version: 3"),
        ("model_version: 1", "model_version: -2"),
        ("model_version: 1", "model_namespace: \"n\" priority: 3"),
        ("value: \"half\"", ""),
        ("{ name: \"B\"", "{ name: \"C\" data_type: TYPE_FP32 dims: [ 4 ] }, { name: \"B\""),
    ];
    let mut told = String::new();
    for edit in cases {
        let problems = ensemble(edit).map_or_else(|problems| problems, |_| "NOTHING".to_owned());
        let _ = writeln!(told, "## {} → {}\n{problems}\n", edit.0, edit.1);
    }
    assert!(!told.contains("NOTHING"), "{told}");
    assert_golden("graph_triton_wrong", &told);
}
