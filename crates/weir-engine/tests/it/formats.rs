//! Folders of Triton, MLflow and Hugging Face, served as they are: found, read and loaded as
//! the server does it, and compared with what onnxruntime answered without Weir
//! (`crates/weir-artifact/tests/formats/make.py`).

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use weir_artifact::{Aggregation, Format, LoadedModel, Task, discover, load};
use weir_engine::{Context, Engine, EngineOptions};
use weir_types::{Batch, DType, Dim, InputSlot, Outputs, Schema, Tensor, TensorData, TensorSpec};

use crate::support::{Fixture, answer, location, repository, sentiment};

fn formats() -> PathBuf {
    repository().join("crates/weir-artifact/tests/formats")
}

/// The one model at `path`, and its engine on ONNX Runtime where that is what serves it.
fn serve(path: &Path) -> (LoadedModel, Arc<dyn Engine>) {
    let found = discover(path).complete().unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(found.len(), 1, "{found:?}");
    let model = load(&found[0]).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
    let options = EngineOptions { ort: location(), ..EngineOptions::default() };
    let engine = weir_engine::load(&model, &options).unwrap();
    (model, engine)
}

/// Rows as JSON objects, laid out by the schema.
fn batch(schema: &Schema, rows: &[Value]) -> Batch {
    let input = |(i, slot): (usize, &InputSlot)| {
        let mut cells = Vec::new();
        for row in rows {
            assert_eq!(row.as_object().unwrap().len(), schema.fields.len(), "{row}");
            let mut fields: Vec<_> = schema.fields.iter().filter(|f| f.input == i).collect();
            fields.sort_by_key(|f| f.offset);
            fields.iter().for_each(|f| flatten(&row[&f.name], &mut cells));
        }
        let mut shape = vec![rows.len()];
        shape.extend(slot.row_shape.iter().map(|d| d.fixed().unwrap()));
        Tensor::new(shape, data(slot.dtype, &cells)).unwrap()
    };
    Batch { rows: rows.len(), inputs: schema.inputs.iter().enumerate().map(input).collect() }
}

fn flatten<'a>(value: &'a Value, cells: &mut Vec<&'a Value>) {
    match value.as_array() {
        Some(items) => items.iter().for_each(|v| flatten(v, cells)),
        None => cells.push(value),
    }
}

fn data(dtype: DType, cells: &[&Value]) -> TensorData {
    match dtype {
        DType::Float32 => TensorData::Float32(cells.iter().map(|v| v.as_f64().unwrap() as f32).collect()),
        DType::String => TensorData::String(cells.iter().map(|v| v.as_str().unwrap().to_owned()).collect()),
        other => panic!("no answers for {other}"),
    }
}

/// The largest difference of the first float output from what is recorded.
fn gap(name: &str, path: &Path) -> (LoadedModel, f64) {
    let (model, engine) = serve(path);
    let answers = fs::read(formats().join("answers.json")).unwrap();
    let answers: Value = serde_json::from_slice(&answers).unwrap();
    let case = &answers[name];
    let rows = case["rows"].as_array().unwrap();
    assert!(rows.len() >= 3, "{name}");
    let outputs = answer(&*engine, batch(&model.spec.schema, rows)).unwrap();
    let got = outputs.tensors.iter().find_map(Tensor::as_f32).unwrap();
    let mut want = Vec::new();
    flatten(&case["answers"], &mut want);
    assert_eq!(got.len(), want.len(), "{name}");
    let pairs = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w.as_f64().unwrap()).abs());
    (model, pairs.fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) }))
}

#[test]
fn hugging_face_folders_answer_as_onnxruntime_does() {
    for (name, task) in [
        ("hf/classifier", Task::TextClassification),
        ("hf/multi-label", Task::TextClassification),
        ("hf/reranker", Task::Rerank),
        ("hf/embedder-mean", Task::Embedding),
        ("hf/embedder-cls", Task::Embedding),
        ("hf/embedder-max", Task::Embedding),
    ] {
        let (model, gap) = gap(name, &formats().join(name));
        assert!(gap <= 1e-6, "{name}: {gap:e}");
        assert_eq!(model.spec.task, task, "{name}");
    }
}

#[test]
fn a_reranker_takes_two_texts_a_row_and_keeps_its_rows_apart() {
    let (model, engine) = serve(&formats().join("hf/reranker"));
    let strings = |list: &[&str]| {
        let texts = list.iter().map(|t| (*t).to_owned()).collect();
        Tensor::new(vec![list.len()], TensorData::String(texts)).unwrap()
    };
    for inputs in
        [vec![strings(&["a"])], vec![strings(&["a"]), strings(&["b", "c"])], vec![strings(&["a"]); 3]]
    {
        let error = engine.prepare(Batch { rows: 1, inputs }).unwrap_err().to_string();
        assert!(error.contains("`query: string[N]` and `text: string[N]`"), "{error}");
    }
    let long = Batch { rows: 1, inputs: vec![strings(&[&"x".repeat(100_001)]), strings(&["b"])] };
    assert!(engine.prepare(long).unwrap_err().to_string().contains("at most 100000"));
    let row = |query: &str, text: &str| serde_json::json!({"query": query, "text": text});
    let rows = [row("a film", "good"), row("good", "a film"), row("", "not at all, not at all")];
    let scores = |rows: &[Value]| {
        let outputs = answer(&*engine, batch(&model.spec.schema, rows)).unwrap();
        assert_eq!(outputs.tensors[0].shape(), [rows.len(), 1]);
        outputs.tensors[0].as_f32().unwrap().to_vec()
    };
    let together = scores(&rows);
    assert_ne!(together[0], together[1], "query and text are told apart");
    for (row, score) in rows.iter().zip(together) {
        assert!((scores(std::slice::from_ref(row))[0] - score).abs() <= 1e-6, "{row}");
    }
}

#[test]
fn entities_are_those_of_transformers_own_pipeline() {
    let recorded: Value =
        serde_json::from_slice(&fs::read(formats().join("entities.json")).unwrap()).unwrap();
    let rows: Vec<Value> =
        recorded["texts"].as_array().unwrap().iter().map(|text| serde_json::json!({"text": text})).collect();
    let options = EngineOptions { ort: location(), ..EngineOptions::default() };
    let (mut compared, mut gap) = (0, 0f64);
    for name in ["hf/tagger", "hf/tagger-bpe", "hf/tagger-unigram"] {
        let (mut model, _) = serve(&formats().join(name));
        assert_eq!(model.spec.task, Task::TokenClassification);
        for aggregation in [
            Aggregation::None,
            Aggregation::Simple,
            Aggregation::First,
            Aggregation::Average,
            Aggregation::Max,
        ] {
            model.spec.text.as_mut().unwrap().aggregation = aggregation;
            let engine = weir_engine::load(&model, &options).unwrap();
            let outputs = answer(&*engine, batch(&model.spec.schema, &rows)).unwrap();
            assert_eq!(outputs.tensors[0].shape(), [rows.len()]);
            let want = &recorded["answers"][name][aggregation.as_str()];
            for (row, json) in outputs.tensors[0].as_strings().unwrap().iter().enumerate() {
                let got: Vec<Value> = serde_json::from_str(json).unwrap();
                let want = want[row].as_array().unwrap();
                let place = format!("{name} {} {}", aggregation.as_str(), rows[row]);
                assert_eq!(got.len(), want.len(), "{place}: {json}");
                for (got, want) in got.iter().zip(want) {
                    for key in ["entity", "start", "end", "word"] {
                        assert_eq!(got[key], want[key], "{place}: {got} {want}");
                    }
                    gap = gap.max((got["score"].as_f64().unwrap() - want["score"].as_f64().unwrap()).abs());
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 800 && gap <= 1e-6, "{compared} entities, {gap:e}");
}

#[test]
fn entities_of_merged_requests_are_each_requests_own() {
    let (model, engine) = serve(&formats().join("hf/tagger"));
    let request = |texts: &[&str]| {
        let rows: Vec<Value> = texts.iter().map(|text| serde_json::json!({"text": text})).collect();
        engine.prepare(batch(&model.spec.schema, &rows)).unwrap()
    };
    let requests = [
        request(&["films", "the film was not good at all, it was bad bad bad"]),
        request(&[]),
        request(&["", "not at all", "a"]),
    ];
    let tokens = requests.each_ref().map(|r| r.tokens().unwrap());
    assert_eq!(tokens.each_ref().map(Vec::len), [2, 0, 3]);
    assert_eq!(tokens.map(|rows| rows.iter().sum::<u32>()), [19, 0, 10]);
    let work: Vec<_> = requests.iter().collect();
    let merged = engine.execute(&work, &mut Context::default()).unwrap();
    let parts = merged.split(&[2, 0, 3]).unwrap();
    for (request, part) in requests.iter().zip(&parts) {
        let alone = engine.execute(&[request], &mut Context::default()).unwrap();
        let strings = |outputs: &Outputs| outputs.tensors[0].as_strings().unwrap().to_vec();
        let scores = |json: &String| {
            let entities: Vec<Value> = serde_json::from_str(json).unwrap();
            entities.iter().map(|e| e["score"].as_f64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(strings(&alone).len(), request.rows);
        for (alone, merged) in strings(&alone).iter().zip(&strings(part)) {
            // Padding may change the last bit of a score, and nothing else.
            let pairs = scores(alone).into_iter().zip(scores(merged));
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-6), "{alone} {merged}");
            assert_eq!(scores(alone).len(), scores(merged).len());
        }
    }
    assert_eq!(parts[2].tensors[0].as_strings().unwrap()[0], "[]");
    let unwanted =
        engine.execute(&work, &mut Context { outputs: Some(vec![]), ..Context::default() }).unwrap();
    assert_eq!((unwanted.rows, unwanted.tensors[0].row_width()), (5, 0));
}

#[test]
fn the_layout_of_all_minilm_is_served_as_sentence_transformers_does() {
    sentiment("encoder.onnx");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("all-MiniLM-L6-v2");
    for path in ["onnx", "1_Pooling"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    let cache = repository().join(".cache/sentiment");
    fs::copy(cache.join("encoder.onnx"), root.join("onnx/model.onnx")).unwrap();
    fs::copy(cache.join("tokenizer.json"), root.join("tokenizer.json")).unwrap();
    for file in [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "tokenizer_config.json",
    ] {
        fs::copy(formats().join("minilm").join(file), root.join(file)).unwrap();
    }
    let (model, gap) = gap("minilm", &root);
    assert!(gap <= 1e-6, "{gap:e}");
    assert_eq!((model.spec.name.as_str(), model.spec.limits.max_tokens), ("all-minilm-l6-v2", 256));
}

#[test]
fn mlflow_folders_answer_as_onnxruntime_does() {
    for name in ["mlflow/columns", "mlflow/tensor"] {
        let (model, gap) = gap(name, &formats().join(name));
        assert!(gap <= 1e-6, "{name}: {gap:e}");
        assert_eq!(model.spec.columns, name == "mlflow/columns");
    }
    let (model, _) = serve(&formats().join("mlflow/columns"));
    let names: Vec<_> = model.spec.schema.fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["sepal length (cm)", "sepal width (cm)", "number of petals"]);
}

/// `config.pbtxt` as Triton's users write it for a graph.
fn config(name: &str, model: &weir_artifact::onnx::OnnxModel) -> String {
    let mut out = format!("name: \"{name}\"\nplatform: \"onnxruntime_onnx\"\nmax_batch_size: 64\n");
    let side = |out: &mut String, what: &str, specs: &[TensorSpec]| {
        for spec in specs {
            let dims: Vec<String> =
                spec.shape[1..].iter().map(|d| d.fixed().map_or("-1".into(), |n| n.to_string())).collect();
            let dtype = match spec.dtype {
                DType::Float32 => "TYPE_FP32".to_owned(),
                DType::Float64 => "TYPE_FP64".to_owned(),
                other => format!("TYPE_{}", other.as_str().to_uppercase()),
            };
            let name = spec.name.replace('"', "\\\"");
            let _ = writeln!(
                out,
                "{what} [ {{ name: \"{name}\" data_type: {dtype} dims: [ {} ] }} ]",
                dims.join(", ")
            );
        }
    };
    side(&mut out, "input", &model.signature.inputs);
    side(&mut out, "output", &model.signature.outputs);
    out + "instance_group [ { kind: KIND_CPU count: 2 } ]\n"
}

/// Whether Triton could serve the graph: any number of rows in and out.
fn batches(specs: &[TensorSpec]) -> bool {
    specs.iter().all(|s| matches!(s.shape.first(), Some(Dim::Any(_))))
}

#[test]
fn triton_repositories_answer_as_onnxruntime_does() {
    let mut served = 0;
    for fixture in Fixture::all() {
        let Ok(graph) = fixture.gate() else { continue };
        let takes_rows = batches(&graph.signature.inputs) && batches(&graph.signature.outputs);
        // Maps (`ZipMap`) are no output that Triton has.
        let outputs = fixture.case["outputs"].as_array();
        let tensors = outputs.is_some_and(|all| all.iter().all(|o| o["shape"].is_array()));
        if fixture.refused() || fixture.must_fail() || !takes_rows || !tensors {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(&fixture.name);
        fs::create_dir_all(root.join("1")).unwrap();
        fs::write(root.join("config.pbtxt"), config(&fixture.name, &graph)).unwrap();
        fs::write(root.join("1/model.onnx"), &fixture.bytes).unwrap();
        let (model, engine) = serve(&root);
        assert_eq!(model.spec.limits.max_rows, 64);
        let outputs = answer(&*engine, fixture.batch(&graph)).unwrap();
        let gap = fixture.difference(&graph, &outputs);
        assert!(gap <= 1e-6, "{}: {gap:e}", fixture.name);
        served += 1;
    }
    assert!(served >= 100, "only {served} fixtures");
}

#[test]
fn a_triton_repository_serves_the_versions_of_its_policy() {
    let fixture = Fixture::load("mlp");
    let folder = tempfile::tempdir().unwrap();
    for version in ["1", "2", "3"] {
        fs::create_dir_all(folder.path().join("mlp").join(version)).unwrap();
        fs::write(folder.path().join("mlp").join(version).join("model.onnx"), &fixture.bytes).unwrap();
    }
    for (policy, versions) in [
        ("", "3"),
        ("version_policy: { latest { num_versions: 2 } }", "2 3"),
        ("version_policy: { all {} }", "1 2 3"),
        ("version_policy { specific: { versions: [1, 3] } }", "1 3"),
    ] {
        fs::write(folder.path().join("mlp/config.pbtxt"), policy).unwrap();
        let found = discover(folder.path()).complete().unwrap();
        let served: Vec<_> = found.iter().map(|c| c.version.as_str()).collect();
        assert_eq!(served.join(" "), versions, "{policy}");
        assert!(found.iter().all(|c| c.foreign.as_ref().is_some_and(|f| f.format == Format::Triton)));
    }
}
