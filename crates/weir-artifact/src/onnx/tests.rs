//! The gate against good, broken and hostile files.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weir_types::{DType, Dim};

use super::{proto::*, *};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn housing() -> Vec<u8> {
    std::fs::read(repository().join("examples/models/housing/model.onnx")).unwrap()
}

fn limits() -> GateLimits {
    GateLimits::default()
}

fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = |d: &Option<i64>| Dimension { value: d.map(DimensionValue::Value) };
    let tensor = TensorTypeProto {
        elem_type: 1,
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

fn node(op: &str, domain: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        domain: domain.into(),
        input: input.iter().map(|s| (*s).to_owned()).collect(),
        output: output.iter().map(|s| (*s).to_owned()).collect(),
        ..Default::default()
    }
}

fn import(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version }
}

fn floats(name: &str, dims: &[i64], n: usize) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: vec![0.5; n],
        ..Default::default()
    }
}

/// `y = x + w`, correct in every way.
fn small() -> ModelProto {
    let graph = GraphProto {
        node: vec![node("Add", "", &["x", "w"], &["y"])],
        initializer: vec![floats("w", &[2], 2)],
        input: vec![value("x", &[None, Some(2)])],
        output: vec![value("y", &[None, Some(2)])],
        ..Default::default()
    };
    ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![import("", 17)], ..Default::default() }
}

fn check(model: &ModelProto) -> Result<OnnxModel, Vec<String>> {
    read(&model.encode_to_vec(), &limits())
}

/// The problems of `small()` after `change`.
fn problems(change: impl FnOnce(&mut GraphProto)) -> Vec<String> {
    let mut model = small();
    change(model.graph.as_mut().unwrap());
    check(&model).unwrap_err()
}

#[test]
fn the_housing_model_reads_as_its_card_says() {
    let read = read(&housing(), &limits()).unwrap();
    let shown: Vec<_> =
        read.signature.inputs.iter().chain(&read.signature.outputs).map(ToString::to_string).collect();
    assert_eq!(shown, ["input: float32[?, 8]", "label: int64[?]", "probabilities: float32[?, 2]"]);
    assert_eq!(read.producer, "skl2onnx 1.20.0");
    assert_eq!(read.opsets, [(String::new(), 17), ("ai.onnx.ml".into(), 1)]);
    assert_eq!(read.class_labels, Some(vec!["0".into(), "1".into()]));
    assert!(read.is_classic && read.unsupported_ops_for_native.is_empty() && read.notes.is_empty());
    assert_eq!(read_shared(&housing().into(), &limits()), Ok(read));
}

#[test]
fn initializers_are_not_inputs_and_dims_keep_their_names() {
    let mut model = small();
    let graph = model.graph.as_mut().unwrap();
    graph.input.push(value("w", &[Some(2)]));
    let mut named = value("s", &[]);
    if let Some(TypeValue::Tensor(t)) = &mut named.r#type.as_mut().unwrap().value {
        t.elem_type = 7;
    }
    graph.input.push(named);
    let mut odd = value("odd", &[Some(-1), None, None]);
    if let Some(TypeValue::Tensor(t)) = &mut odd.r#type.as_mut().unwrap().value {
        t.shape.as_mut().unwrap().dim[1].value = Some(DimensionValue::Param("?".into()));
        t.shape.as_mut().unwrap().dim[2].value = Some(DimensionValue::Param("p2o.DynamicDimension.0".into()));
    }
    graph.input.push(odd);
    let inputs = check(&model).unwrap().signature.inputs;
    assert_eq!(inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x", "s", "odd"]);
    assert_eq!((inputs[1].dtype, inputs[1].shape.len()), (DType::Int64, 0));
    assert_eq!(
        inputs[2].shape,
        [Dim::Any(None), Dim::Any(None), Dim::Any(Some("p2o.DynamicDimension.0".into()))]
    );
}

#[test]
fn a_zip_map_becomes_the_tensor_that_it_is_made_of() {
    let mut model = small();
    model.opset_import.push(import("ai.onnx.ml", 1));
    let graph = model.graph.as_mut().unwrap();
    let mut zip = node("ZipMap", "ai.onnx.ml", &["y"], &["z"]);
    zip.attribute.push(AttributeProto {
        name: "classlabels_strings".into(),
        strings: vec![b"no".to_vec(), b"yes".to_vec()],
        ..Default::default()
    });
    graph.node.push(zip);
    let scores = value("", &[]).r#type.map(Box::new);
    let map = TypeValue::Map(Box::new(MapTypeProto { key_type: 8, value_type: scores }));
    let item = Some(Box::new(TypeProto { value: Some(map) }));
    let sequence = TypeValue::Sequence(Box::new(SequenceTypeProto { elem_type: item }));
    graph.output =
        vec![ValueInfoProto { name: "z".into(), r#type: Some(TypeProto { value: Some(sequence) }) }];
    let read = check(&model).unwrap();
    assert_eq!(read.signature.outputs[0].to_string(), "z: float32[?, 2]");
    assert_eq!(read.class_labels, Some(vec!["no".into(), "yes".into()]));
}

#[test]
fn duplicate_imports_are_tolerated_and_told() {
    let mut model = small();
    model.opset_import = vec![import("", 17), import("ai.onnx.ml", 1), import("ai.onnx", 13)];
    let read = check(&model).unwrap();
    assert_eq!(read.opsets, [(String::new(), 13), ("ai.onnx.ml".into(), 1)]);
    assert!(read.notes[0].contains("twice"), "{:?}", read.notes);
    assert!(!read.is_classic);
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(|g| {
        g.initializer[0].dims = vec![3];
        g.node[0].input[0] = "nowhere".into();
        g.node.push(node("Run", "evil.corp", &["y"], &["y"]));
        g.output.push(value("gone", &[]));
    });
    let expected = [
        "shape [3] of float32 takes 3 entries, the file holds 2",
        "input `nowhere` is neither",
        "domain `evil.corp` need a library of code",
        "output `y` is made twice",
        "output `gone` is made by no node",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for part in expected {
        assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    let external = StringStringEntryProto { key: "location".into(), value: "../../etc/passwd".into() };
    let sub = |t: TensorProto| {
        let graph = GraphProto { initializer: vec![t], ..Default::default() };
        AttributeProto { name: "then_branch".into(), g: Some(Box::new(graph)), ..Default::default() }
    };
    let mut outside = floats("e", &[2], 0);
    outside.external_data.push(external);
    let as_attribute =
        AttributeProto { name: "value".into(), t: Some(Box::new(outside.clone())), ..Default::default() };
    let sparse = SparseTensorProto {
        values: Some(outside.clone()),
        indices: Some(floats("", &[0], 0)),
        dims: vec![2],
    };
    type Change = Box<dyn FnOnce(&mut GraphProto)>;
    let (initializer, deep) = (outside.clone(), sub(outside));
    let rules: Vec<(&str, Change)> = vec![
        ("initializer `e`: its data is in another file", Box::new(|g| g.initializer.push(initializer))),
        ("initializer `e`: its data is in another", Box::new(|g| g.node[0].attribute.push(deep))),
        ("attribute `value`: its data is in another", Box::new(|g| g.node[0].attribute.push(as_attribute))),
        ("initializer `e`: its data is in another", Box::new(|g| g.sparse_initializer.push(sparse))),
        ("is made only by a later node", Box::new(|g| g.node.insert(0, node("Neg", "", &["y"], &["q"])))),
        ("made only by a later node, or by", Box::new(|g| g.node[0].input[0] = "y".into())),
        ("names no operator", Box::new(|g| g.node[0].op_type.clear())),
        ("an initializer has no name", Box::new(|g| g.initializer[0].name.clear())),
        ("an input of the graph has no name", Box::new(|g| g.input[0].name.clear())),
        ("`w` is given twice", Box::new(|g| g.initializer.push(floats("w", &[2], 2)))),
        ("has no type", Box::new(|g| g.input[0].r#type = None)),
        ("no outputs", Box::new(|g| g.output.clear())),
        ("no version of it", Box::new(|g| g.node[0].domain = "com.microsoft".into())),
    ];
    for (part, change) in rules {
        let found = problems(change);
        assert!(found.iter().any(|f| f.contains(part)), "{part}: {found:#?}");
    }
    let mut functions = small();
    functions.functions.push(FunctionProto { name: "f".into(), ..Default::default() });
    assert!(check(&functions).unwrap_err()[0].contains("inline_local_functions"));
    assert!(check(&ModelProto::default()).is_err());
    let headless = ModelProto { ir_version: 8, ..Default::default() };
    assert!(check(&headless).unwrap_err()[0].contains("no graph"));
}

/// One forest over two columns, whose nodes name `features`; the last node is a leaf.
fn forest(features: &[i64]) -> Result<OnnxModel, Vec<String>> {
    let list = |name: &str| AttributeProto { name: name.into(), ..Default::default() };
    let mut model = small();
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![value("x", &[None, Some(2)])];
    graph.node =
        vec![node("Cast", "", &["x"], &["c"]), node("TreeEnsembleRegressor", "ai.onnx.ml", &["c"], &["y"])];
    let mut modes = vec![b"BRANCH_LEQ".to_vec(); features.len() - 1];
    modes.push(b"LEAF".to_vec());
    graph.node[1].attribute = vec![
        AttributeProto { ints: features.to_vec(), ..list("nodes_featureids") },
        AttributeProto { strings: modes, ..list("nodes_modes") },
    ];
    model.opset_import.push(import("ai.onnx.ml", 3));
    check(&model)
}

#[test]
fn a_forest_that_reads_beyond_its_row_is_refused() {
    forest(&[0, 1, 7]).expect("what a leaf says about features is not read");
    for beyond in [2, -1] {
        let found = forest(&[0, beyond, 0]).unwrap_err();
        assert!(found.iter().any(|f| f.contains(&format!("feature {beyond}"))), "{found:#?}");
    }
}

#[test]
fn subgraphs_see_outer_names_and_their_depth_is_bounded() {
    let nest = |levels: usize| {
        let mut inner = GraphProto { output: vec![value("x", &[])], ..Default::default() };
        for _ in 0..levels {
            let mut branch = node("If", "", &["x"], &["inner"]);
            branch.attribute.push(AttributeProto {
                name: "then_branch".into(),
                g: Some(Box::new(inner)),
                ..Default::default()
            });
            inner =
                GraphProto { node: vec![branch], output: vec![value("inner", &[])], ..Default::default() };
        }
        let mut model = small();
        model.graph.as_mut().unwrap().node.extend(inner.node);
        check(&model)
    };
    assert!(nest(8).is_ok(), "{:?}", nest(8));
    assert!(nest(9).unwrap_err()[0].contains("nested deeper than 8"));
}

#[test]
fn sizes_are_bounded() {
    let bytes = small().encode_to_vec();
    let few = GateLimits { max_bytes: bytes.len() - 1, ..limits() };
    assert!(read(&bytes, &few).unwrap_err()[0].contains("the limit is"));
    let few = GateLimits { max_tensors: 0, ..limits() };
    assert!(read(&bytes, &few).unwrap_err()[0].contains("more than 0 tensors"));
    assert!(read(&[], &limits()).unwrap_err()[0].contains("empty"));
    let mut noisy = small();
    noisy.graph.as_mut().unwrap().node = vec![node("", "", &[], &[]); 10_000];
    assert!(check(&noisy).unwrap_err().len() < 60);
}

#[test]
fn names_in_messages_are_bounded_and_harmless() {
    let found = problems(|g| g.node[0].input[0] = format!("\u{1b}[31m\n{}", "x".repeat(1 << 20)));
    assert!(found[0].len() < 400 && !found[0].contains(['\n', '\u{1b}']), "{found:?}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let whole = housing();
    for part in 0..64 {
        let cut = whole.len() * part / 64;
        assert!(read(&whole[..cut], &limits()).is_err(), "cut at {cut}");
    }
    let whole = small().encode_to_vec();
    for cut in 0..whole.len() {
        let _ = read(&whole[..cut], &limits());
    }
}

#[test]
fn flipped_bits_never_panic() {
    let whole = small().encode_to_vec();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&bytes, &limits());
    }
    let whole = housing();
    for n in 0..300 {
        let mut bytes = whole.clone();
        // A fixed walk over the file; the step is prime to its length in bits.
        let bit = n * 1_000_003 % (whole.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&bytes, &limits());
    }
}

/// A length-delimited protobuf field of a number below 16.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

/// `small()` with a constant that the file does not really hold.
fn with_constant(change: impl FnOnce(&mut TensorProto)) -> Vec<u8> {
    let mut model = small();
    change(&mut model.graph.as_mut().unwrap().initializer[0]);
    model.encode_to_vec()
}

/// Writes the seeds of the corpus. Files that a fuzzer found are added by hand.
#[test]
#[ignore = "writes tests/corpus/onnx: run it after changing a seed"]
fn write_corpus() {
    let nested = (0..40).fold(Vec::new(), |body, _| field(1, &field(5, &field(6, &body))));
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let mut twice = small();
    twice.opset_import.push(import("", 13));
    let mut scalar = small();
    scalar.graph.as_mut().unwrap().initializer[0] = floats("w", &[], 1);
    let mut cycle = small();
    cycle.graph.as_mut().unwrap().node[0].input[0] = "y".into();
    let mut custom = small();
    custom.graph.as_mut().unwrap().node[0].domain = "ai.onnx.contrib".into();
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("ok-add", small().encode_to_vec()),
        ("ok-duplicate-import", twice.encode_to_vec()),
        ("ok-rank-0", scalar.encode_to_vec()),
        ("bad-external-data", with_constant(|t| t.external_data = vec![entry("location", "../../secret")])),
        ("bad-external-flag", with_constant(|t| t.data_location = 1)),
        ("bad-wrapping-shape", with_constant(|t| t.dims = vec![1, (1 << 62) + 3])),
        ("bad-huge-shape", with_constant(|t| t.dims = vec![10_000_000_000, 10_000_000_000])),
        ("bad-negative-shape", with_constant(|t| t.dims = vec![-1, -2])),
        ("bad-short-data", with_constant(|t| t.dims = vec![1 << 30])),
        ("bad-unknown-type", with_constant(|t| t.data_type = 99)),
        ("bad-two-stores", with_constant(|t| t.int64_data = vec![1])),
        ("bad-cycle", cycle.encode_to_vec()),
        ("bad-custom-domain", custom.encode_to_vec()),
        ("bad-nested", field(7, &nested)),
        ("bad-empty-nodes", field(7, &field(1, &[]).repeat(5000))),
        ("bad-long-varint", vec![0xff; 16]),
        ("bad-group", vec![0x3b, 0x3c]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/onnx");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in seeds {
        std::fs::write(folder.join(format!("{name}.onnx")), bytes).unwrap();
    }
}

/// Every file of the corpus: `ok-*` passes, `bad-*` does not, and no cut of either panics.
/// The same files seed the fuzz target.
#[test]
fn the_corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/onnx");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 12, "the corpus is gone");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let expected = file.file_name().unwrap().to_str().unwrap().starts_with("ok-");
        assert_eq!(read(&bytes, &limits()).is_ok(), expected, "{file:?}");
        for part in 0..64 {
            let _ = read(&bytes[..bytes.len() * part / 64], &limits());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes, &limits());
    }

    #[test]
    fn spliced_models_never_panic(at in 0usize..1000, patch in proptest::collection::vec(any::<u8>(), 0..16)) {
        let mut bytes = small().encode_to_vec();
        let at = at % bytes.len();
        bytes.splice(at..at, patch);
        let _ = read(&bytes, &limits());
    }
}
