//! Everything wrong with a graph is told at once, each at its place.

use std::fmt::Write;

use super::graph;
use crate::support::assert_golden;

#[test]
fn all_that_is_wrong_is_told_at_its_place() {
    let cases = [
        ("no step", "[graph]\nstep = []"),
        ("unknown keys", "[graph]\nstp = 1\n[[graph.step]]\nmodel = 'east'\nkind = 'modle'"),
        ("keys of another kind, and missing ones", KEYS),
        ("a model that keeps state", "[sequence]\n[[graph.step]]\nmodel = 'smoothing'"),
        ("keys about an artefact", "engine = 'rten'\nartifact = 'm.onnx'\n[[graph.step]]\nmodel = 'east'"),
        ("names", NAMES),
        ("models that are not there", MISSING),
        ("tensors that are not there, or of another type", TENSORS),
        ("outputs renamed twice, or into each other", RENAMED),
        ("a cycle", CYCLE),
        ("several steps that could be the answer", UNUSED),
        ("steps that nothing needs", &format!("{UNUSED}[graph.outputs]\nlabel = 'west.label'")),
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

const RENAMED: &str = r#"
[[graph.step]]
model = "east"
outputs = { a = "label", b = "label", c = "probabilities" }
[[graph.step]]
model = "west"
outputs = { probabilities = "label" }
[[graph.step]]
name = "m"
kind = "mean"
of = ["east.c", "west.probabilities"]
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
