//! The sentiment demo on both runtimes, loaded as the server loads it.

use std::sync::{Arc, LazyLock};

use weir_artifact::{EngineChoice, LoadedModel, discover, load};
use weir_engine::{Context, Engine, EngineError, EngineOptions};
use weir_types::Tensor;

use crate::{
    support::{answer, location, repository, sentiment},
    text::texts,
};

fn model() -> LoadedModel {
    sentiment("encoder.onnx");
    let found = discover(&repository().join(".cache/sentiment")).complete().unwrap();
    load(&found[0]).unwrap()
}

fn engine(choice: EngineChoice) -> Arc<dyn Engine> {
    let mut model = model();
    model.spec.engine = choice;
    let options = EngineOptions { ort: location(), ..EngineOptions::default() };
    weir_engine::load(&model, &options).unwrap()
}

/// ONNX Runtime and rten.
static ENGINES: LazyLock<[Arc<dyn Engine>; 2]> =
    LazyLock::new(|| [EngineChoice::OnnxRuntime, EngineChoice::Rten].map(engine));

fn scores(engine: &dyn Engine, list: &[&str]) -> Vec<[f32; 2]> {
    let outputs = answer(engine, texts(list)).unwrap();
    let rows: Vec<[f32; 2]> = outputs.tensors[0].as_f32().unwrap().chunks(2).map(|r| [r[0], r[1]]).collect();
    assert_eq!((outputs.rows, rows.len()), (list.len(), list.len()));
    rows
}

fn gap(a: &[[f32; 2]], b: &[[f32; 2]]) -> f32 {
    assert_eq!(a.len(), b.len());
    let gaps = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, |worst, g| if g.is_nan() { f32::INFINITY } else { worst.max(g) })
}

/// Strings of every kind.
fn odd() -> Vec<String> {
    let mut list: Vec<String> = [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{fffd}",
        "😀🎉🎂❤️",
        "👩‍👩‍👧‍👦",
        "שלום עולם",
        "مرحبا",
        "\u{202e}abc",
        "谢谢",
        "e\u{301}\u{301}\u{301}",
        "\n\t\r",
        "[CLS] [SEP] [PAD] [MASK]",
        "I love you!",
        "I hate you!",
        "{\"a\": 1}",
        "\u{feff}x",
        "ﬃ",
        "İ",
    ]
    .map(String::from)
    .to_vec();
    list.push("word ".repeat(4000));
    list.push("x".repeat(20_000));
    list.push("😀".repeat(20_000));
    list.push("e\u{301}".repeat(10_000));
    list
}

#[test]
fn the_golden_rows_are_answered_on_both_runtimes() {
    let samples = model().spec.samples;
    assert_eq!(samples.len(), 12);
    for engine in ENGINES.iter() {
        for sample in &samples {
            let input: serde_json::Value = serde_json::from_slice(&sample.input).unwrap();
            let got = scores(&**engine, &[input["text"].as_str().unwrap()])[0];
            let want = sample.prediction.as_ref().unwrap();
            for (i, label) in ["NEGATIVE", "POSITIVE"].into_iter().enumerate() {
                assert_eq!(want[i]["label"], label);
                let difference = (f64::from(got[i]) - want[i]["score"].as_f64().unwrap()).abs();
                assert!(difference <= sample.tolerance, "line {}: {difference:e}", sample.line);
            }
        }
    }
}

#[test]
fn both_runtimes_agree_on_strings_of_every_kind() {
    let list = odd();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let [ort, rten] = &*ENGINES;
    let gap = gap(&scores(&**ort, &list), &scores(&**rten, &list));
    assert!(gap <= 1e-5, "{gap:e}");
}

#[test]
fn an_answer_does_not_depend_on_the_texts_beside_it() {
    let list = odd();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    for engine in ENGINES.iter() {
        let together = scores(&**engine, &list);
        let alone: Vec<_> = list.iter().map(|&text| scores(&**engine, &[text])[0]).collect();
        let gap = gap(&together, &alone);
        assert!(gap <= 1e-6, "{}: {gap:e}", engine.info().name);
    }
}

#[test]
fn merged_requests_are_answered_in_order() {
    for engine in ENGINES.iter() {
        let parts: [&[&str]; 4] =
            [&["I love you!"], &[], &["a very long and tedious text", "fine"], &["I hate you!"]];
        let works: Vec<_> = parts.iter().map(|part| engine.prepare(texts(part)).unwrap()).collect();
        let merged = engine.execute(&works.iter().collect::<Vec<_>>(), &mut Context::default()).unwrap();
        for (part, outputs) in parts.iter().zip(merged.split(&[1, 0, 2, 1]).unwrap()) {
            let got: Vec<[f32; 2]> =
                outputs.tensors[0].as_f32().unwrap().chunks(2).map(|r| [r[0], r[1]]).collect();
            assert!(gap(&got, &scores(&**engine, part)) <= 1e-6);
        }
    }
}

#[test]
fn no_texts_are_no_rows_and_too_long_a_text_is_refused() {
    for engine in ENGINES.iter() {
        let outputs = answer(&**engine, texts(&[])).unwrap();
        assert_eq!(outputs.tensors.iter().map(Tensor::shape).collect::<Vec<_>>(), [[0, 2]]);
        let error = engine.prepare(texts(&[&"x".repeat(20_001)])).unwrap_err();
        assert!(matches!(&error, EngineError::Input(text) if text.contains("at most 20000")), "{error}");
    }
}

#[test]
fn the_reason_says_why_this_engine_was_chosen() {
    let reason = |choice, ort| {
        let mut model = model();
        model.spec.engine = choice;
        let engine = weir_engine::load(&model, &EngineOptions { ort, ..EngineOptions::default() }).unwrap();
        (engine.info().name, engine.info().reason.clone())
    };
    let (name, why) = reason(EngineChoice::Auto, location());
    assert!(name == "onnxruntime" && why.contains("was found at"), "{name}: {why}");
    let (name, why) = reason(EngineChoice::Rten, location());
    assert!(name == "rten" && why.contains("engine = \"rten\""), "{name}: {why}");
}
