//! Ensembles of Triton.

use std::{fmt::Write, sync::OnceLock};

use proptest::prelude::*;
use weir_artifact::ModelSpec;

use super::{NESTED, against, models, resolve, specs, summary};
use crate::support::{Folder, assert_golden};

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

/// `text` with some of its words exchanged, doubled or left out.
fn garbled(text: &str, edits: &[(usize, usize, u8)]) -> String {
    let mut words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    for (at, from, what) in edits {
        let (at, word) = (at % words.len(), words[from % words.len()]);
        match what % 3 {
            0 => words[at] = word,
            1 => words.insert(at, word),
            _ => drop(words.remove(at)),
        }
    }
    words.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn garbled_descriptions_are_refused_or_resolved_but_never_panic(
        edits in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..6),
        ensemble in any::<bool>(),
    ) {
        static MODELS: OnceLock<(Folder, Vec<ModelSpec>)> = OnceLock::new();
        let (_, specs) = MODELS.get_or_init(|| {
            let folder = models();
            let specs = specs(&folder);
            (folder, specs)
        });
        let (file, text) = if ensemble { ("config.pbtxt", ENSEMBLE) } else { ("model.toml", NESTED) };
        let folder = Folder::new().with(&format!("m/g/{file}"), &garbled(text, &edits));
        if let Err(problems) = against(&folder, specs) {
            prop_assert!(!problems.is_empty() && problems.iter().all(|p| !p.message.is_empty()));
        }
    }
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
