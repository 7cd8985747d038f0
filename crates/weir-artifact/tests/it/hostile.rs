//! Manifests that want to hurt: `tests/corpus/manifest/*` is replayed here, and is where the
//! fuzzer's findings go.

use std::path::Path;

use proptest::prelude::*;
use weir_artifact::Manifest;

use crate::support::{Folder, tests};

#[test]
fn the_corpus_is_refused_or_loaded_but_never_panics() {
    let mut seen = 0;
    for entry in std::fs::read_dir(tests("corpus/manifest")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let folder = Folder::new().with_model("m/model.onnx", "housing");
        folder.write("m/model.toml", &bytes);
        let refused = folder.load().err();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(refused.is_some(), name.starts_with("bad-"), "{name}: {refused:?}");
        for problem in refused.into_iter().flatten() {
            let text = problem.to_string();
            assert!(text.len() < 2000, "{name}: {} bytes of problem", text.len());
            assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
        }
        seen += 1;
    }
    assert!(seen >= 20, "the corpus is gone: {seen} files");
}

/// Pieces from which something close to a manifest can be made.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "name",
        "artifact",
        "task",
        "labels",
        "samples",
        "input",
        "field",
        "alias",
        "dtype",
        "shape",
        "ge",
        "enum",
        "pattern",
        "nullable",
        "default",
        "example",
        "text",
        "tokenizer",
        "limits",
        "max_rows",
        "[input]\n",
        "[text]\n",
        "[[input.field]]\n",
        " = ",
        "\"a\"",
        "'('",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        ".",
        "1",
        "-1",
        "nan",
        "true",
        "'classification'",
        "'string'",
        "'../x'",
        "'\u{0}'",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = weir_config::parse::<Manifest>(Path::new("model.toml"), &text);
    }

    #[test]
    fn arbitrary_manifests_never_panic_when_loaded(text in fragments()) {
        let folder = Folder::new().with("m/model.toml", &text).with_model("m/model.onnx", "mixed");
        let _ = folder.load();
    }

    /// A manifest written by serde is read back as it was.
    #[test]
    fn what_is_written_is_read(name in "[a-z][a-z0-9-]{0,10}", ge in any::<f64>(), labels in prop::collection::vec(any::<String>(), 0..4), rows in 1_usize..10_000_000) {
        prop_assume!(!ge.is_nan());
        let mut manifest = Manifest { name: Some(name), labels: Some(labels), ..Manifest::default() };
        manifest.limits.max_rows = rows;
        manifest.input.field = vec![weir_artifact::FieldTable { ge: Some(ge), ..weir_artifact::FieldTable::new("x") }];
        let text = toml::to_string(&manifest).unwrap();
        prop_assert_eq!(weir_config::parse::<Manifest>(Path::new("f"), &text), Ok(manifest), "{}", text);
    }
}
