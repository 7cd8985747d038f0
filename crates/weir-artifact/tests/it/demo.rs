//! The demo models of this repository.

use std::path::{Path, PathBuf};

use weir_artifact::{EngineChoice, LoadedModel, Task, discover, load};
use weir_types::{Answer, DType, Dim};

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models")
}

fn housing() -> LoadedModel {
    let found = discover(&examples().join("housing")).complete().unwrap();
    load(&found[0]).unwrap()
}

#[test]
fn housing_is_a_classification_of_eight_fields() {
    let model = housing();
    let spec = &model.spec;
    assert_eq!((spec.name.as_str(), spec.version.as_str()), ("housing", "1"));
    assert_eq!((spec.task, spec.engine), (Task::Classification, EngineChoice::Auto));
    assert_eq!(spec.labels, ["low", "high"]);
    assert_eq!(spec.schema.fields.len(), 8);
    assert_eq!(spec.schema.inputs[0].row_shape, [Dim::Fixed(8)]);
    let longitude = &spec.schema.fields[7];
    assert_eq!(
        (longitude.name.as_str(), longitude.dtype, longitude.offset),
        ("Longitude", DType::Float32, 7)
    );
    assert_eq!((longitude.rules.ge, longitude.rules.le), (Some(-180.0), Some(180.0)));
    assert_eq!(spec.samples.len(), 500);
    assert_eq!(spec.samples[0].line, 1);
    assert_eq!(model.bytes.len() as u64, spec.artifact_bytes);
}

#[test]
fn housing_predicts_the_probability_that_the_operator_named() {
    let spec = housing().spec;
    assert_eq!(spec.answers[0].0, "prediction");
    assert_eq!(spec.answer("prediction"), Some(&Answer::Number { output: 1, column: 1 }));
    let Some(Answer::Record(record)) = spec.answer("answer") else { panic!("{:?}", spec.answers) };
    let keys: Vec<_> = record.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["prediction", "label", "score", "scores"]);
    let words: Vec<_> = spec.answers.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(
        words,
        [
            "prediction",
            "label",
            "score",
            "labels",
            "scores",
            "probability:low",
            "probability:high",
            "output:label",
            "output:probabilities",
            "answer"
        ]
    );
}

/// Caches, replays and rollouts identify a model by its digest: it changes with the model
/// and not with a release of Weir. If this fails, either `examples/models/housing` changed
/// or the digest did; the second needs a note in the changelog.
#[test]
fn the_digest_of_housing_is_stable() {
    assert_eq!(housing().spec.digest, "94e30ad9251e3f6a73ba5f9c6c7c8cd0e4478f3cf800b34c9c3cd243a30ca44f");
}

/// Sentiment's encoder is fetched, not committed: its manifest is what can be checked here.
#[test]
fn every_demo_manifest_parses() {
    for name in ["housing", "sentiment"] {
        let path = examples().join(name).join("model.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let manifest: weir_artifact::Manifest = weir_config::parse(&path, &text).unwrap();
        assert_eq!(manifest.name.as_deref(), Some(name));
    }
}
