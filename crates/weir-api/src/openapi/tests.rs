//! Golden documents. `WEIR_BLESS=1 cargo test -p weir-api openapi` writes them anew; read
//! the difference before it is committed.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use weir_artifact::{EngineChoice, ModelLimits, ModelSpec, Sample, Task};
use weir_codec::BodyShape;
use weir_types::{Answer, DType, Dim, Extra, Field, InputSlot, Scalar, Schema, Signature, TensorSpec};

use super::document;
use crate::{
    config::{ParameterConfig, RouteMethod},
    operation::{Builtin, Operation, OperationKind, ResponseTemplate, Word},
    v2::rest::ENDPOINTS,
};

mod state;

fn golden(name: &str, operations: &[Operation]) {
    golden_of(name, operations, false);
}

fn golden_of(name: &str, operations: &[Operation], idempotency: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = serde_json::to_string_pretty(&document(operations, idempotency, "0.0.0")).unwrap() + "\n";
    #[allow(clippy::disallowed_methods)] // a switch of this test, not of the crate
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{} differs: run with WEIR_BLESS=1 and read the diff", path.display());
}

fn spec(name: &str, task: Task, fields: Vec<Field>, outputs: &[(&str, DType, Vec<Dim>)]) -> ModelSpec {
    let slot =
        InputSlot { name: "input".into(), dtype: fields[0].dtype, row_shape: vec![Dim::Fixed(fields.len())] };
    let output = |(name, dtype, row): &(&str, DType, Vec<Dim>)| TensorSpec {
        name: (*name).into(),
        dtype: *dtype,
        shape: std::iter::once(Dim::Any(None)).chain(row.iter().cloned()).collect(),
    };
    ModelSpec {
        name: name.parse().unwrap(),
        version: "1".parse().unwrap(),
        artifact: "model.onnx".into(),
        artifact_bytes: 1,
        modified: None,
        digest: "00".into(),
        description: None,
        signature: Signature { inputs: Vec::new(), outputs: outputs.iter().map(output).collect() },
        schema: Schema { fields, inputs: vec![slot], ..Schema::default() },
        task,
        labels: Vec::new(),
        answers: Vec::new(),
        text: None,
        graph: None,
        engine: EngineChoice::Auto,
        limits: ModelLimits::default(),
        batching: weir_artifact::BatchingTable::default(),
        cache: None,
        deterministic: true,
        stateful: false,
        sequence: None,
        columns: false,
        lookups: Default::default(),
        samples: Vec::new(),
        notes: Vec::new(),
    }
}

fn sample(input: Value, prediction: Value) -> Sample {
    Sample { line: 1, input: input.to_string().into_bytes(), prediction: Some(prediction), tolerance: 1e-6 }
}

fn housing() -> ModelSpec {
    let mut income = Field::new("MedInc", DType::Float32, 0, 0);
    income.rules.ge = Some(0.0);
    income.description = Some("median income, in tens of thousands of US dollars".into());
    income.example = Some(Scalar::Float(4.375));
    let mut latitude = Field::new("Latitude", DType::Float32, 0, 1);
    latitude.alias = vec!["lat".into()];
    (latitude.rules.ge, latitude.rules.le) = (Some(-90.0), Some(90.0));
    latitude.example = Some(Scalar::Float(34.18));
    let outputs = [("label", DType::Int64, vec![]), ("probabilities", DType::Float32, vec![Dim::Fixed(2)])];
    let mut spec = spec("housing", Task::Classification, vec![income, latitude], &outputs);
    let labels = vec!["low".to_owned(), "high".to_owned()];
    spec.description = Some("Is the median house value of a block group high?".into());
    spec.answers = vec![
        ("prediction".into(), Answer::Number { output: 1, column: 1 }),
        ("label".into(), Answer::Label { output: 1, labels: labels.clone() }),
        ("scores".into(), Answer::ScoreMap { output: 1, labels: labels.clone() }),
        ("probability:high".into(), Answer::Number { output: 1, column: 1 }),
    ];
    spec.labels = labels;
    spec.samples = vec![
        sample(json!({"MedInc": 9.8413, "Latitude": 34.22}), json!(0.9993)),
        sample(json!({"MedInc": 4.375, "Latitude": 34.18}), json!(0.2207)),
        sample(json!({"MedInc": 3.5909, "Latitude": 37.5}), json!(0.1)),
    ];
    spec
}

fn sentiment() -> ModelSpec {
    let mut text = Field::new("text", DType::String, 0, 0);
    text.rules.max_length = Some(20_000);
    text.example = Some(Scalar::String("I love you!".into()));
    let outputs = [("scores", DType::Float32, vec![Dim::Fixed(2)])];
    let mut spec = spec("sentiment", Task::TextClassification, vec![text], &outputs);
    let labels = vec!["NEGATIVE".to_owned(), "POSITIVE".to_owned()];
    let scores = Answer::LabelScores { output: 0, labels: labels.clone() };
    spec.answers = vec![("prediction".into(), scores.clone()), ("labels".into(), scores)];
    spec.labels = labels;
    spec.cache = Some(weir_artifact::CacheTable::default());
    let told = json!([{"label": "NEGATIVE", "score": 0.08}, {"label": "POSITIVE", "score": 0.92}]);
    spec.samples = vec![sample(json!({"text": "I love you!"}), told)];
    spec
}

/// A field of every kind, with every rule.
fn everything() -> ModelSpec {
    let field = |name: &str, dtype| Field::new(name, dtype, 0, 0);
    let mut nullable = field("nullable", DType::Float64);
    nullable.nullable = true;
    (nullable.rules.gt, nullable.rules.lt) = (Some(-1.0), Some(5.0));
    let mut small = field("small_int", DType::Int8);
    small.default = Some(Scalar::Int(3));
    let mut ranged = field("ranged", DType::Int64);
    (ranged.rules.ge, ranged.rules.lt) = (Some(0.0), Some(1e3));
    let mut text = field("text", DType::String);
    (text.nullable, text.default) = (true, Some(Scalar::String("ax".into())));
    (text.rules.min_length, text.rules.max_length) = (Some(1), Some(3));
    text.rules.pattern = Some("^a".into());
    let mut either = field("either", DType::String);
    either.rules.one_of = Some(vec![Scalar::String("a".into()), Scalar::String("b".into())]);
    let mut only = field("only", DType::Int32);
    only.rules.one_of = Some(vec![Scalar::Int(1)]);
    let mut vector = field("vector", DType::Float32);
    vector.shape = vec![Dim::Any(None), Dim::Fixed(3)];
    let mut pair = field("pair", DType::Float64);
    (pair.shape, pair.nullable) = (vec![Dim::Fixed(2), Dim::Fixed(1)], true);
    (pair.default, pair.example) = (Some(Scalar::Float(0.5)), Some(Scalar::Float(1.5)));
    let fields = vec![
        nullable,
        small,
        ranged,
        text,
        either,
        only,
        vector,
        pair,
        field("flag", DType::Bool),
        field("big", DType::Uint64),
        field("half", DType::Float16),
    ];
    let outputs = [
        ("value", DType::Float32, vec![Dim::Fixed(1)]),
        ("embedding", DType::Float32, vec![Dim::Any(None), Dim::Fixed(2)]),
        ("count", DType::Int64, vec![]),
    ];
    let mut spec = spec("every-thing", Task::Raw, fields, &outputs);
    spec.schema.extra = Extra::Ignore;
    spec.limits.max_rows = 7;
    spec.answers = vec![("prediction".into(), Answer::Raw { output: 0 })];
    spec
}

fn operation(method: RouteMethod, path: &str, tag: &str, kind: OperationKind) -> Operation {
    Operation { path: path.into(), method, tag: tag.into(), summary: String::new(), kind }
}

fn predict(path: &str, spec: &Arc<ModelSpec>, shape: BodyShape, words: &[(&str, &str)]) -> Operation {
    let word = |word: &str| match word {
        "model" => Word::Model,
        "version" => Word::Version,
        word => Word::Answer(spec.answer(word).unwrap().clone()),
    };
    let entries = words.iter().map(|(key, w)| ((*key).to_owned(), word(w))).collect();
    let response = ResponseTemplate { entries, many: !matches!(shape, BodyShape::Row) };
    let kind = OperationKind::Predict {
        spec: spec.clone(),
        shape,
        response,
        selectable: false,
        cached: spec.cache.is_some(),
    };
    operation(RouteMethod::Post, path, "lab", kind)
}

fn parameter(name: &str, dtype: &str, required: bool) -> ParameterConfig {
    serde_json::from_value(json!({"name": name, "dtype": dtype, "required": required})).unwrap()
}

#[test]
fn the_demo() {
    let (housing, sentiment) = (Arc::new(housing()), Arc::new(sentiment()));
    let mut canonical = predict("/v1/models/housing:predict", &housing, BodyShape::Instances, &[]);
    let record = Answer::Record(
        housing.answers.iter().filter(|(w, _)| w == "label" || w == "scores").cloned().collect(),
    );
    if let OperationKind::Predict { response, selectable, .. } = &mut canonical.kind {
        response.entries = vec![("predictions".into(), Word::Answer(record))];
        *selectable = true;
    }
    let hello = OperationKind::Template {
        query: vec![parameter("name", "string", true)],
        path: Vec::new(),
        response: json!({"message": "Hello {name}"}),
    };
    let mut operations = vec![
        predict("/predict", &housing, BodyShape::Row, &[("prediction", "prediction")]),
        predict("/lab/predict", &housing, BodyShape::Row, &[("prediction", "prediction"), ("by", "model")]),
        predict(
            "/lab/bulk-predict",
            &housing,
            BodyShape::Rows { key: "houses".into() },
            &[("predictions", "prediction")],
        ),
        predict(
            "/project/predict",
            &sentiment,
            BodyShape::Columns { keys: vec![("text".into(), 0)] },
            &[("predictions", "labels")],
        ),
        operation(RouteMethod::Get, "/hello", "hello", hello),
        canonical,
    ];
    let builtins = [
        (Builtin::Health, "/health"),
        (Builtin::Live, "/livez"),
        (Builtin::Ready, "/readyz"),
        (Builtin::Startup, "/startupz"),
        (Builtin::Metrics, "/metrics"),
        (Builtin::Models, "/v1/models"),
        (Builtin::OpenApi, "/openapi.json"),
        (Builtin::Docs, "/docs"),
    ];
    operations.extend(
        builtins.map(|(b, path)| operation(RouteMethod::Get, path, "server", OperationKind::Builtin(b))),
    );
    golden("openapi-demo.json", &operations);
}

#[test]
fn the_tensor_face_of_the_demo() {
    let (housing, sentiment) = (Arc::new(housing()), Arc::new(sentiment()));
    let mut operations: Vec<Operation> = ENDPOINTS
        .into_iter()
        .map(|(endpoint, method, path)| operation(method, path, "v2", OperationKind::V2(endpoint)))
        .collect();
    for spec in [&housing, &sentiment] {
        let path = format!("/v1/models/{}:predict", spec.name);
        let mut predict = predict(&path, spec, BodyShape::Instances, &[]);
        if let OperationKind::Predict { selectable, .. } = &mut predict.kind {
            *selectable = true;
        }
        operations.push(predict);
    }
    golden_of("openapi-v2.json", &operations, true);
}

/// A model that reads texts of at most `max_length` characters.
fn reader(name: &str, task: Task, max_length: usize, output: (&str, DType, Vec<Dim>)) -> ModelSpec {
    let mut text = Field::new("text", DType::String, 0, 0);
    text.rules.max_length = Some(max_length);
    spec(name, task, vec![text], &[output])
}

#[test]
fn entities_and_embeddings() {
    let mut tagger = reader("ner", Task::TokenClassification, 50, ("entities", DType::String, vec![]));
    let names = vec!["PER".to_owned(), "LOC".to_owned()];
    tagger.answers = vec![("entities".into(), Answer::Entities { output: 0, names })];
    let embedder = |name, max, size| {
        Arc::new(reader(name, Task::Embedding, max, ("embedding", DType::Float32, vec![Dim::Fixed(size)])))
    };
    let (tagger, models) = (Arc::new(tagger), vec![embedder("large", 900, 768), embedder("small", 100, 384)]);
    let embeddings = |models| OperationKind::Embeddings { models, cached: true };
    golden_of(
        "openapi-text.json",
        &[
            predict("/entities", &tagger, BodyShape::Row, &[("found", "entities")]),
            operation(RouteMethod::Post, "/v1/embeddings", "models", embeddings(models)),
        ],
        true,
    );
    let none = operation(RouteMethod::Post, "/v1/embeddings", "models", embeddings(vec![]));
    assert_eq!(document(&[none], false, "0")["paths"], json!({}), "described where there is a model to ask");
}

#[test]
fn every_rule_and_every_parameter() {
    let everything = Arc::new(everything());
    let mut other_version = ModelSpec::clone(&everything);
    other_version.version = "2".parse().unwrap();
    other_version.schema.fields.truncate(1);
    let mut choice = parameter("choice", "string", true);
    choice.one_of = Some(vec![json!("a"), json!("b")]);
    choice.default = Some(json!("a"));
    let mut ratio = parameter("ratio", "float64", false);
    (ratio.ge, ratio.lt) = (Some(0.0), Some(1.0));
    ratio.description = Some("a share".into());
    let mut text = parameter("text", "string", false);
    (text.min_length, text.max_length, text.pattern) = (Some(1), Some(5), Some("^[a-z]+$".into()));
    let template = OperationKind::Template {
        query: vec![choice, ratio, text, parameter("count", "uint64", false)],
        path: vec![parameter("id", "int32", true)],
        response: json!({"id": "{id}", "nested": {"list": [1, "{ratio}"], "n": null, "x": 1.5, "i": 1, "b": true}}),
    };
    golden(
        "openapi-rules.json",
        &[
            predict("/row", &everything, BodyShape::Row, &[("a", "prediction"), ("v", "version")]),
            predict(
                "/rows",
                &Arc::new(other_version),
                BodyShape::Rows { key: "rows".into() },
                &[("a", "prediction")],
            ),
            operation(RouteMethod::Put, "/items/{id}/{name}", "", template),
            operation(
                RouteMethod::Get,
                "/fixed",
                "",
                OperationKind::Template { query: vec![], path: vec![], response: json!({"status": "ok"}) },
            ),
        ],
    );
}

#[test]
fn paths_that_spell_the_same_id_get_different_ones() {
    let fixed = || OperationKind::Template { query: vec![], path: vec![], response: json!({}) };
    let operations = ["/a-b", "/a_b", "/a.b"].map(|path| operation(RouteMethod::Get, path, "", fixed()));
    let document = document(&operations, false, "0");
    let ids: Vec<_> =
        document["paths"].as_object().unwrap().values().map(|p| p["get"]["operationId"].clone()).collect();
    assert_eq!(ids, ["a_b_get", "a_b_get_2", "a_b_get_3"]);
}

#[test]
fn the_admin_listener() {
    golden("openapi-admin.json", &crate::admin::operations());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(entries) => entries.iter().for_each(|(key, value)| match value {
                Value::String(target) if key == "$ref" => found.push(target),
                value => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let spec = Arc::new(housing());
    let shapes = [BodyShape::Row, BodyShape::Instances, BodyShape::Rows { key: "rows".into() }];
    let operations: Vec<_> = shapes
        .into_iter()
        .enumerate()
        .map(|(i, shape)| predict(&format!("/{i}"), &spec, shape, &[("p", "prediction")]))
        .collect();
    let document = document(&operations, false, "0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for target in found {
        assert!(document.pointer(&target[1..]).is_some(), "{target}");
    }
}
