//! Text models over an encoder made for the purpose, which shows what it was given.

use std::sync::{Arc, Mutex};

use weir_artifact::{Aggregation, Pooling, Task, TextSpec};
use weir_engine::{
    Context, Cost, Engine, EngineError, EngineInfo, Payload, Prepared,
    text::{TextEngine, TextLimits},
};
use weir_types::{Batch, DType, Dim, Outputs, Signature, Tensor, TensorData, TensorSpec};

use crate::support::answer;

/// Hidden size of the encoder.
const HIDDEN: usize = 2;
const PAD: i64 = 3;

/// Answers `[id, -10 * id]` for each token and NaN for padding, so that padding which
/// leaks into an answer shows; and keeps the shape of each call.
struct Fake {
    info: EngineInfo,
    signature: Signature,
    calls: Mutex<Vec<Vec<usize>>>,
}

fn ints(tensor: &Tensor) -> Vec<i64> {
    match tensor.data() {
        TensorData::Int64(v) => v.clone(),
        TensorData::Int32(v) => v.iter().map(|&v| v.into()).collect(),
        other => panic!("{other:?}"),
    }
}

impl Engine for Fake {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cost(&self) -> Cost {
        Cost::Heavy
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        for (spec, tensor) in self.signature.inputs.iter().zip(&batch.inputs) {
            assert_eq!(tensor.dtype(), spec.dtype);
        }
        Ok(Prepared { rows: batch.rows, length: 1, payload: Payload::Tensors(batch.inputs) })
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        assert_eq!(context.outputs, Some(vec![0]));
        let [Prepared { rows, payload: Payload::Tensors(inputs), .. }] = work else { panic!("{work:?}") };
        let of =
            |name: &str| ints(&inputs[self.signature.inputs.iter().position(|i| i.name == name).unwrap()]);
        let (ids, mask) = (of("input_ids"), of("attention_mask"));
        assert!(of("token_type_ids").iter().all(|&t| t == 0));
        self.calls.lock().unwrap().push(inputs[0].shape().to_vec());
        let length = inputs[0].shape()[1];
        let vector = |(&id, &mask): (&i64, &i64)| match mask {
            1 => [id as f32, -10.0 * id as f32],
            _ if id == PAD => [f32::NAN; HIDDEN],
            _ => panic!("padding is {id}"),
        };
        let tokens: Vec<f32> = ids.iter().zip(&mask).flat_map(vector).collect();
        let tensor = match self.signature.outputs[0].shape.len() {
            3 => Tensor::new(vec![*rows, length, HIDDEN], TensorData::Float32(tokens)),
            _ => {
                let first = tokens.chunks(length * HIDDEN).flat_map(|row| row[..HIDDEN].to_vec());
                Tensor::new(vec![*rows, HIDDEN], TensorData::Float32(first.collect()))
            }
        };
        Ok(Outputs { rows: *rows, tensors: vec![tensor.unwrap()] })
    }
}

fn any() -> Dim {
    Dim::Any(None)
}

/// What an encoder takes and gives; tests change parts of it.
fn signature() -> Signature {
    let input = |name: &str| TensorSpec { name: name.into(), dtype: DType::Int64, shape: vec![any(), any()] };
    let output = TensorSpec {
        name: "last_hidden_state".into(),
        dtype: DType::Float32,
        shape: vec![any(), any(), Dim::Fixed(HIDDEN)],
    };
    Signature {
        inputs: ["input_ids", "attention_mask", "token_type_ids"].map(input).to_vec(),
        outputs: vec![output],
    }
}

/// Words `a` = 10 … `d` = 13 between two special tokens, and settings that must not count:
/// the file pads to 9 with id 3 on the left and cuts at 4.
const TOKENIZER: &str = r#"{
    "version": "1.0",
    "truncation": {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 1},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 3, "pad_type_id": 1, "pad_token": "[PAD]"},
    "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 10, "b": 11, "c": 12, "d": 13}, "unk_token": "[UNK]"}
}"#;

fn spec(pooling: Pooling) -> TextSpec {
    TextSpec {
        tokenizer: TOKENIZER.as_bytes().into(),
        pooling,
        normalize: false,
        head: None,
        multi_label: false,
        activation: None,
        aggregation: Aggregation::default(),
    }
}

fn build(
    signature: Signature,
    text: &TextSpec,
    task: Task,
    limits: TextLimits,
) -> (Arc<Fake>, Result<TextEngine, EngineError>) {
    let info = EngineInfo { name: "fake", version: "1".into(), reason: "a test".into() };
    let fake = Arc::new(Fake { info, signature: signature.clone(), calls: Mutex::default() });
    let engine = TextEngine::new(Arc::clone(&fake) as Arc<dyn Engine>, &signature, text, (task, &[]), limits);
    (fake, engine)
}

fn embedder(pooling: Pooling) -> (Arc<Fake>, TextEngine) {
    let (fake, engine) = build(signature(), &spec(pooling), Task::Embedding, TextLimits::default());
    (fake, engine.unwrap())
}

pub(crate) fn texts(texts: &[&str]) -> Batch {
    let data = TensorData::String(texts.iter().map(|&t| t.to_owned()).collect());
    Batch { rows: texts.len(), inputs: vec![Tensor::new(vec![texts.len()], data).unwrap()] }
}

fn floats(engine: &TextEngine, list: &[&str]) -> Vec<f32> {
    answer(engine, texts(list)).unwrap().tensors[0].as_f32().unwrap().to_vec()
}

#[test]
fn pooling_sees_the_tokens_of_a_text_and_no_padding() {
    // [CLS] a [SEP] = 1 10 2; [CLS] a b c d [SEP] = 1 10 11 12 13 2
    let list = ["a", "a b c d"];
    let both = |x: f32, y: f32| vec![x, -10.0 * x, y, -10.0 * y];
    let mean = floats(&embedder(Pooling::Mean).1, &list);
    let expected = both(13.0 / 3.0, 49.0 / 6.0);
    assert!(mean.iter().zip(expected).all(|(got, want)| (got - want).abs() < 1e-5), "{mean:?}");
    assert_eq!(floats(&embedder(Pooling::Cls).1, &list), both(1.0, 1.0));
    assert_eq!(floats(&embedder(Pooling::Max).1, &list), [10.0, -10.0, 13.0, -10.0]);
}

#[test]
fn the_files_own_padding_and_cut_do_not_count() {
    let (fake, engine) = embedder(Pooling::Mean);
    let prepared = engine.prepare(texts(&["a b c d a b c", "a"])).unwrap();
    assert_eq!((prepared.rows, prepared.length), (2, 9));
    let Payload::Tokens(tokens) = &prepared.payload else { panic!() };
    assert_eq!(tokens.ids, [vec![1, 10, 11, 12, 13, 10, 11, 12, 2], vec![1, 10, 2]]);
    engine.execute(&[&prepared], &mut Context::default()).unwrap();
    assert_eq!(*fake.calls.lock().unwrap(), [[2, 9]]);
}

#[test]
fn a_text_is_cut_to_the_limit_special_tokens_included() {
    let limits = TextLimits { max_tokens: 4, ..TextLimits::default() };
    let (_, engine) = build(signature(), &spec(Pooling::Mean), Task::Embedding, limits);
    let prepared = engine.unwrap().prepare(texts(&["a b c d"])).unwrap();
    let Payload::Tokens(tokens) = prepared.payload else { panic!() };
    assert_eq!(tokens.ids, [[1, 10, 11, 2]]);
    let limits = TextLimits { max_tokens: 2, ..limits };
    let error = build(signature(), &spec(Pooling::Mean), Task::Embedding, limits).1.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("max_tokens is 2"), "{error}");
}

#[test]
fn a_text_with_too_many_characters_is_refused_by_its_index() {
    let limits = TextLimits { max_chars: 5, ..TextLimits::default() };
    let engine = build(signature(), &spec(Pooling::Mean), Task::Embedding, limits).1.unwrap();
    assert!(engine.prepare(texts(&["a b c", "éééé😀"])).is_ok());
    match engine.prepare(texts(&["a", "éééé😀x"])) {
        Err(EngineError::Input(text)) => {
            assert!(text.contains("text 1 has 6 characters, at most 5"), "{text}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_of_all_lengths_come_back_in_their_order() {
    let (fake, engine) = embedder(Pooling::Max);
    let words = ["a", "b", "c", "d"];
    // Text i ends in word i % 4 and has 1, 8, 15, … words.
    let list: Vec<String> =
        (0..40).map(|i| format!("{}{}", "a ".repeat(i * 7 % 250), words[i % 4])).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let expected: Vec<f32> = (0..40).flat_map(|i| [10.0 + (i % 4) as f32, -10.0]).collect();
    assert_eq!(floats(&engine, &list), expected);
    let calls = fake.calls.lock().unwrap().clone();
    assert_eq!(calls.iter().map(|c| c[0]).sum::<usize>(), 40);
    assert!(calls.len() > 1 && calls.iter().all(|c| c[0] == 1 || c[0] * c[1] <= 512), "{calls:?}");

    let works: Vec<_> = list.chunks(7).map(|part| engine.prepare(texts(part)).unwrap()).collect();
    let merged = engine.execute(&works.iter().collect::<Vec<_>>(), &mut Context::default()).unwrap();
    assert_eq!(merged.tensors[0].as_f32().unwrap(), expected);
}

#[test]
fn no_texts_are_no_rows() {
    let (fake, engine) = embedder(Pooling::Mean);
    let outputs = answer(&engine, texts(&[])).unwrap();
    assert_eq!((outputs.rows, outputs.tensors[0].shape()), (0, &[0, HIDDEN][..]));
    assert!(fake.calls.lock().unwrap().is_empty());
}

#[test]
fn the_encoder_may_fix_its_length_take_int32_and_one_text_at_a_time() {
    let mut signature = signature();
    for input in &mut signature.inputs {
        input.shape = vec![Dim::Fixed(1), Dim::Fixed(5)];
        input.dtype = DType::Int32;
    }
    let (fake, engine) =
        build(signature.clone(), &spec(Pooling::Max), Task::Embedding, TextLimits::default());
    let list = ["a", "a b c d a b c d", "b"];
    assert_eq!(floats(&engine.unwrap(), &list), [10.0, -10.0, 12.0, -10.0, 11.0, -10.0]);
    assert_eq!(*fake.calls.lock().unwrap(), [[1, 5], [1, 5], [1, 5]]);
    signature.inputs[0].shape[0] = Dim::Fixed(4);
    let error = build(signature, &spec(Pooling::Max), Task::Embedding, TextLimits::default()).1.map(|_| ());
    assert!(error.unwrap_err().to_string().contains("takes 4 texts at once"));
}

#[test]
fn inputs_that_no_tokenizer_fills_are_refused_by_name() {
    for (name, dtype, words) in [
        ("position_ids", DType::Int64, "export it without"),
        ("pixel_values", DType::Float32, "`pixel_values: float32[?, ?]`"),
        ("attention_mask", DType::Float32, "not int64 or int32"),
    ] {
        let mut signature = signature();
        signature.inputs[1] = TensorSpec { name: name.into(), dtype, shape: vec![any(), any()] };
        let error =
            build(signature, &spec(Pooling::Mean), Task::Embedding, TextLimits::default()).1.map(|_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn logits_of_the_encoder_itself_become_scores() {
    let mut signature = signature();
    signature.outputs[0] =
        TensorSpec { name: "logits".into(), dtype: DType::Float32, shape: vec![any(), Dim::Fixed(HIDDEN)] };
    let mut spec = spec(Pooling::None);
    let engine = build(signature.clone(), &spec, Task::TextClassification, TextLimits::default()).1.unwrap();
    // The first token is 1: logits 1 and -10.
    let odds = (-11f64).exp();
    let close = |got: Vec<f32>, want: [f64; 2]| {
        assert!(got.iter().zip(want).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-7), "{got:?} {want:?}");
    };
    close(floats(&engine, &["a"]), [1.0 / (1.0 + odds), odds / (1.0 + odds)]);
    spec.multi_label = true;
    let engine = build(signature, &spec, Task::TextClassification, TextLimits::default()).1.unwrap();
    close(floats(&engine, &["a"]), [1.0 / (1.0 + (-1f64).exp()), 1.0 / (1.0 + 10f64.exp())]);
}

#[test]
fn a_cancelled_request_stops_between_calls_of_the_encoder() {
    let (fake, engine) = embedder(Pooling::Mean);
    let prepared = engine.prepare(texts(&["a", "b"])).unwrap();
    let mut context = Context::default();
    context.cancel.cancel();
    assert!(matches!(engine.execute(&[&prepared], &mut context), Err(EngineError::Cancelled)));
    assert!(fake.calls.lock().unwrap().is_empty());
}

#[test]
fn a_broken_tokenizer_is_an_error() {
    for json in ["", "{}", "[1]", "\u{0}", &TOKENIZER[..TOKENIZER.len() / 2]] {
        let spec = TextSpec { tokenizer: json.as_bytes().into(), ..spec(Pooling::Mean) };
        let error =
            build(signature(), &spec, Task::Embedding, TextLimits::default()).1.map(|_| ()).unwrap_err();
        assert!(matches!(&error, EngineError::Artifact(why) if why.starts_with("tokenizer.json")), "{error}");
    }
}

#[test]
fn the_version_names_the_tokenizer_of_the_lock_file() {
    let version = embedder(Pooling::Mean).1.info().version.clone();
    let (_, tokenizers) = version.split_once("+tokenizers.").unwrap();
    let lock = std::fs::read_to_string(crate::support::repository().join("Cargo.lock")).unwrap();
    let entry = format!("name = \"tokenizers\"\nversion = \"{tokenizers}\"\n");
    assert!(lock.contains(&entry), "update VERSION in src/text/tokenizer.rs: {entry}");
}
