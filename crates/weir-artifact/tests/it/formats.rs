//! Folders of other servers: what is said about them, good and bad. How they answer is
//! tested where the engines are.

use std::fmt::Write;

use proptest::prelude::*;
use weir_artifact::{BatchingTable, ModelSpec, discover, draft, load};

use crate::support::{Folder, assert_golden, tests};

/// What every version of the models under `m` comes to.
fn told(folder: &Folder) -> String {
    let found = discover(&folder.path().join("m"));
    let mut out: String =
        found.problems.iter().map(|p| folder.told(std::slice::from_ref(&p.problem)) + "\n").collect();
    for candidate in &found.found {
        match load(candidate) {
            Ok(model) => out.push_str(&summary(&model.spec)),
            Err(problems) => out.push_str(&(folder.told(&problems) + "\n")),
        }
    }
    out
}

fn summary(spec: &ModelSpec) -> String {
    let mut out = format!(
        "{}/{} {}, labels {:?}, {:?}\n",
        spec.name,
        spec.version,
        spec.task.as_str(),
        spec.labels,
        spec.limits
    );
    for f in &spec.schema.fields {
        let _ = writeln!(
            out,
            "  {:?} {} {:?} {:?}..{:?}, nullable {}",
            f.name, f.dtype, f.shape, f.rules.ge, f.rules.le, f.nullable
        );
    }
    if let Some(text) = &spec.text {
        let _ = writeln!(
            out,
            "  {:?}, normalize {}, multi_label {}, activation {:?}",
            text.pooling, text.normalize, text.multi_label, text.activation
        );
    }
    spec.notes.iter().for_each(|note| {
        let _ = writeln!(out, "  note: {note}");
    });
    out
}

/// A Triton model around `model`.
fn triton(model: &str, config: &str) -> Folder {
    Folder::new().with("m/config.pbtxt", config).with_model("m/1/model.onnx", model)
}

#[test]
fn a_triton_model_is_read() {
    let config = r#"
# As in the model zoo.
name: "Housing_EU"
backend: "onnxruntime"
max_batch_size: 16
input [{ name: "input", data_type: TYPE_FP32, dims: [ 8 ] }]
output [
  { name: "label" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [] } },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0 ] } ]
optimization { graph { level: 1 } }
parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
response_cache { enable: true }
model_warmup [ { name: "w" batch_size: 1 } ]
"#;
    let folder = triton("housing", config).with("m/labels.txt", "cheap\r\ncheap\n\n");
    let folder = folder.with_model("m/10/model.onnx", "housing").with_model("m/2/model.onnx", "housing");
    assert_golden("format_triton", &told(&folder));
}

#[test]
fn everything_wrong_with_a_config_pbtxt_is_told_at_once() {
    let mut all = String::new();
    for config in [
        "name: \"a\nb\"",
        "input { name: \"x\" dims: [8 }",
        "platform: \"tensorrt_plan\"\nbackend: \"python\"\nmax_batch_size: -1\nname: 7\nnew_thing: 1\nsequence_batching {}\nensemble_scheduling { step [ { model_name: \"a\" } ] }\nmodel_transaction_policy { decoupled: true }\nmodel_operations { op_library_filename: \"x.so\" }\nbatch_input [ { kind: BATCH_ELEMENT_COUNT } ]\nmodel_repository_agents { agents [ { name: \"checksum\" } ] }",
        "input [ { name: \"input\" data_type: TYPE_FLOAT dims: [ 0, 1.5 ] optional: true }, { dims: 8 shape: 3 } ]\nversion_policy: { newest {} }\ndynamic_batching { size: 1 }\nparameters {}",
        "max_batch_size: 8\ninput { name: \"input\" data_type: TYPE_FP64 dims: [ 9 ] }\noutput { name: \"scores\" data_type: TYPE_FP32 dims: [ 2 ] }\noutput { name: \"probabilities\" dims: [ 2, 1 ] label_filename: \"../x.txt\" }",
        "input { name: \"other\" data_type: TYPE_FP32 dims: [ -1, 8 ] }",
        "version_policy { specific { versions: 9 } }",
        "default_model_filename: \"net.onnx\"",
    ] {
        let _ = writeln!(all, "# {}\n{}", config.replace('\n', " | "), told(&triton("housing", config)));
    }
    let fixed = told(&triton("one_row", "max_batch_size: 4"));
    let empty = told(&Folder::new().with("m/config.pbtxt", ""));
    assert_golden("format_triton_wrong", &format!("{all}# one row\n{fixed}\n# no versions\n{empty}"));
}

/// The committed folder `name`, under `m/NAME`, with some files written anew.
fn committed(name: &str, files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    copy(&tests("formats").join(name), &folder, "m/it");
    files.iter().for_each(|(path, text)| folder.write(&format!("m/it/{path}"), text.as_bytes()));
    folder
}

fn copy(from: &std::path::Path, folder: &Folder, to: &str) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = format!("{to}/{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => copy(&path, folder, &to),
            false => folder.write(&to, &std::fs::read(&path).unwrap()),
        }
    }
}

#[test]
fn mlflow_models_are_read_or_refused() {
    let mut all = String::new();
    for name in ["columns", "tensor", "wrong", "sklearn"] {
        let _ = writeln!(all, "# {name}\n{}", told(&committed(&format!("mlflow/{name}"), &[])));
    }
    let onnx = "flavors: {onnx: {data: model.onnx}}\n";
    for (name, text) in [
        ("no signature", onnx.to_owned()),
        ("no flavours", "flavors: {}".to_owned()),
        ("other", "flavors: {spark: {}, python_function: null}".to_owned()),
        ("xgboost", "flavors: {xgboost: {data: model.ubj}}".to_owned()),
        ("not YAML", "flavors: [".to_owned()),
        ("not a mapping", "- 1".to_owned()),
        ("file outside", "flavors: {onnx: {data: ../../x.onnx}}".to_owned()),
        ("signature", format!("{onnx}signature: {{inputs: '[{{\"type\": 1}}]'}}")),
        ("too few", format!("{onnx}signature: {{inputs: '[{{\"type\": \"double\", \"name\": \"a\"}}]'}}")),
        (
            "optional, unnamed, boolean",
            format!(
                "{onnx}signature:\n  inputs: '[{{\"type\": \"double\", \"required\": false}}, {{\"type\": \"boolean\"}}, {{\"type\": \"integer\"}}]'\n  params: '[{{\"name\": \"t\"}}]'"
            ),
        ),
        (
            "tensor",
            format!(
                "{onnx}signature: {{inputs: '[{{\"type\": \"tensor\", \"tensor-spec\": {{\"dtype\": \"int64\", \"shape\": [-1, 4]}}}}]'}}"
            ),
        ),
    ] {
        let folder = committed("mlflow/columns", &[("MLmodel", &text)]);
        let _ = writeln!(all, "# {name}\n{}", told(&folder));
    }
    let several = "flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: '[{\"type\": \"string\", \"name\": \"city\"}, {\"type\": \"long\", \"name\": \"age\"}, {\"type\": \"long\", \"name\": \"zip\"}]'}";
    let folder = Folder::new().with("m/MLmodel", several).with_model("m/model.onnx", "mixed");
    let _ = writeln!(all, "# several inputs\n{}", told(&folder));
    assert_golden("format_mlflow", &all);
}

#[test]
fn hugging_face_models_are_read_or_refused() {
    let mut all = String::new();
    for name in
        ["classifier", "multi-label", "reranker", "embedder-mean", "embedder-cls", "embedder-max", "tagger"]
    {
        let _ = writeln!(all, "# {name}\n{}", told(&committed(&format!("hf/{name}"), &[])));
    }
    let architecture = |name: &str, more: &str| format!("{{\"architectures\": [\"{name}\"]{more}}}");
    let sequence = |more: &str| architecture("BertForSequenceClassification", more);
    for (name, text) in [
        ("token classification, of another export", architecture("BertForTokenClassification", "")),
        ("question answering", architecture("BertForQuestionAnswering", "")),
        ("generation", architecture("LlamaForCausalLM", "")),
        ("no architecture", "{}".to_owned()),
        ("not JSON", "{".to_owned()),
        ("wrong type", "{\"id2label\": [1]}".to_owned()),
        (
            "made-up labels",
            sequence(", \"num_labels\": 3, \"max_position_embeddings\": 514, \"model_type\": \"roberta\""),
        ),
        ("two labels of three", sequence(", \"id2label\": {\"0\": \"a\", \"1\": \"b\"}")),
        ("a gap", sequence(", \"id2label\": {\"0\": \"a\", \"2\": \"b\", \"3\": \"c\"}")),
        ("regression", sequence(", \"num_labels\": 3, \"problem_type\": \"regression\"")),
        ("problem type", sequence(", \"num_labels\": 3, \"problem_type\": \"ranking\"")),
        (
            "activation",
            sequence(", \"num_labels\": 1, \"sbert_ce_default_activation_function\": \"torch.nn.Tanh\""),
        ),
    ] {
        let _ = writeln!(all, "# {name}\n{}", told(&committed("hf/classifier", &[("config.json", &text)])));
    }
    let module = |kind: &str| {
        format!(
            "[{{\"path\": \"\", \"type\": \"sentence_transformers.models.Transformer\"}}, {{\"path\": \"1_Pooling\", \"type\": \"x.{kind}\"}}]"
        )
    };
    for (name, file, text) in [
        ("dense", "modules.json", module("Dense")),
        ("no pooling", "modules.json", module("Normalize")),
        (
            "two modes",
            "1_Pooling/config.json",
            "{\"pooling_mode_cls_token\": true, \"pooling_mode_max_tokens\": true}".to_owned(),
        ),
        ("last token", "1_Pooling/config.json", "{\"pooling_mode\": \"lasttoken\"}".to_owned()),
        ("new spelling", "1_Pooling/config.json", "{\"pooling_mode\": \"max\"}".to_owned()),
        (
            "prompt",
            "config_sentence_transformers.json",
            "{\"prompts\": {\"q\": \"query: \"}, \"default_prompt_name\": \"q\"}".to_owned(),
        ),
        (
            "prompts",
            "config_sentence_transformers.json",
            "{\"prompts\": {\"q\": \"query: \", \"d\": \"\"}, \"default_prompt_name\": null}".to_owned(),
        ),
        (
            "lower case",
            "sentence_bert_config.json",
            "{\"max_seq_length\": null, \"do_lower_case\": true}".to_owned(),
        ),
        ("left", "tokenizer_config.json", "{\"truncation_side\": \"left\"}".to_owned()),
        ("own limit", "tokenizer_config.json", "{\"model_max_length\": 20}".to_owned()),
        ("model.toml", "model.toml", "artifact = 'onnx/model.onnx'\n[text]\npooling = 'max'\n".to_owned()),
    ] {
        let _ = writeln!(all, "# {name}\n{}", told(&committed("hf/embedder-mean", &[(file, &text)])));
    }
    for (name, gone) in [
        ("no tokenizer", "tokenizer.json"),
        ("no export", "onnx/model.onnx"),
        ("no modules", "modules.json"),
        ("no pooling file", "1_Pooling/config.json"),
    ] {
        let folder = committed("hf/embedder-mean", &[]);
        std::fs::remove_file(folder.path().join("m/it").join(gone)).unwrap();
        let _ = writeln!(all, "# {name}\n{}", told(&folder));
    }
    for exports in [&["onnx/model_int8.onnx"][..], &["onnx/b.onnx", "a.onnx"]] {
        let folder = committed("hf/embedder-mean", &[]);
        let root = folder.path().join("m/it");
        for to in exports {
            std::fs::copy(root.join("onnx/model.onnx"), root.join(to)).unwrap();
        }
        std::fs::remove_file(root.join("onnx/model.onnx")).unwrap();
        let _ = writeln!(all, "# {}\n{}", exports.join(" "), told(&folder));
    }
    assert_golden("format_huggingface", &all);
}

#[test]
fn the_corpora_are_refused_or_read_but_never_panic() {
    for (corpus, kind, least) in [("config_pbtxt", "config.pbtxt", 15), ("mlmodel", "MLmodel", 10)] {
        let mut seen = 0;
        for entry in std::fs::read_dir(tests("corpus").join(corpus)).unwrap() {
            let path = entry.unwrap().path();
            let folder = Folder::new().with_model("m/1/model.onnx", "housing");
            folder.write(&format!("m/{kind}"), &std::fs::read(&path).unwrap());
            if kind == "MLmodel" {
                folder.write("m/model.onnx", &std::fs::read(crate::support::model("housing")).unwrap());
                std::fs::remove_dir_all(folder.path().join("m/1")).unwrap();
            }
            let text = told(&folder);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(
                text.contains("m/1 ") || text.contains("note: "),
                name.starts_with("ok-"),
                "{name}: {text}"
            );
            assert!(text.len() < 20_000 && !text.contains('\u{1b}'), "{name}: {text}");
            seen += 1;
        }
        assert!(seen >= least, "{kind}: the corpus is gone: {seen} files");
    }
}

proptest! {
    #[test]
    fn arbitrary_configurations_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        "name", "input", "output", "dims", "data_type", "TYPE_FP32", ":", "{", "}", "[", "]", "1", "-1", "\"input\"",
        "max_batch_size", "version_policy", "latest", "reshape", "shape", "label_filename", ",", "\n", "platform",
    ]), 0..40)) {
        told(&triton("housing", &words.join(" ")));
    }
}

#[test]
fn layouts_within_layouts() {
    let mut all = String::new();
    // Versions of a Hugging Face model, each a folder of its own; shared by a model.toml.
    let versions = Folder::new();
    for to in ["m/it/1", "m/it/2"] {
        copy(&tests("formats/hf/classifier"), &versions, to);
    }
    let _ = writeln!(all, "# versions\n{}", told(&versions));
    // Leftovers of one layout in another.
    let stray = committed("hf/classifier", &[("1/README.md", "")]);
    let _ = writeln!(all, "# a stray folder\n{}", told(&stray));
    let inner =
        triton("housing", "max_batch_size: 2").with("m/1/config.json", "{}").with("m/1/tokenizer.json", "{}");
    let _ = writeln!(all, "# a tokenizer in a version\n{}", told(&inner));
    let flat = Folder::new().with("m/config.pbtxt", "").with_model("m/model.onnx", "housing");
    let _ = writeln!(all, "# no version folder\n{}", told(&flat));
    let plain = Folder::new().with("m/config.json", "{}").with_model("m/model.onnx", "housing");
    let _ = writeln!(all, "# somebody's config.json\n{}", told(&plain));
    assert_golden("format_nested", &all);
}

/// A draft says what the folder said: beside it, the model is the same but for its notes.
#[test]
fn a_draft_of_another_layout_means_the_same() {
    let mut all = String::new();
    let config = "name: \"Houses\"\nmax_batch_size: 16\ndefault_model_filename: \"net.onnx\"\ninput { name: \"input\" data_type: TYPE_FP32 dims: 8 }\noutput { name: \"probabilities\" dims: 2 label_filename: \"l.txt\" }\nresponse_cache { enable: true }";
    let triton = Folder::new()
        .with("m/it/config.pbtxt", config)
        .with("m/it/l.txt", "low\nhigh\n")
        .with_model("m/it/2/net.onnx", "housing");
    let mut cases = vec![("triton".to_owned(), triton)];
    for name in
        ["mlflow/columns", "mlflow/tensor", "hf/classifier", "hf/reranker", "hf/embedder-mean", "hf/tagger"]
    {
        cases.push((name.to_owned(), committed(name, &[])));
    }
    for (name, folder) in cases {
        let root = folder.path().join("m/it");
        let one = |manifest: bool| {
            let found = discover(&root).complete().unwrap();
            assert_eq!(found[0].manifest.is_some(), manifest, "{name}");
            load(&found[0]).map_err(|p| folder.told(&p)).unwrap().spec
        };
        let before = one(false);
        let text = draft(&root, None).map_err(|p| folder.told(&p)).unwrap();
        folder.write("m/it/model.toml", text.as_bytes());
        let after = one(true);
        let same = |s: &ModelSpec| {
            (
                s.name.clone(),
                s.version.clone(),
                s.task,
                s.labels.clone(),
                s.limits.clone(),
                s.cache.clone(),
                s.text.clone(),
                s.columns,
                s.signature.clone(),
            )
        };
        assert_eq!(same(&before), same(&after), "{name}:\n{text}");
        if !matches!(name.as_str(), "triton" | "mlflow/tensor") {
            assert_eq!((&before.schema, &before.digest), (&after.schema, &after.digest), "{name}:\n{text}");
        }
        let _ = writeln!(all, "## {name}\n{text}");
    }
    assert_golden("format_drafts", &all);
}

#[test]
fn tritons_batching_is_ours() {
    let config = r#"
name: "m"
backend: "onnxruntime"
max_batch_size: 16
dynamic_batching {
  max_queue_delay_microseconds: 100
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { max_queue_size: 50 timeout_action: DELAY }
}
instance_group [ { count: 1 kind: KIND_CPU }, { count: 2 } ]
parameters { key: "intra_op_thread_count" value { string_value: "4" } }
"#;
    let folder = triton("housing", config);
    let found = discover(&folder.path().join("m")).complete().unwrap();
    let spec = load(&found[0]).unwrap().spec;
    let expected = BatchingTable {
        max_rows: Some(16),
        max_delay: "100us".parse().unwrap(),
        priority_levels: 3,
        default_priority: Some(2),
        queue: Some(50),
        instances: Some(3),
        threads: Some(4),
        ..BatchingTable::default()
    };
    assert_eq!(spec.batching, expected);
    assert!(spec.notes.iter().any(|n| n.contains("`timeout_action` has no effect")), "{:?}", spec.notes);
}
