//! Requests against a version that gives back what it was asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weir_artifact::{EngineChoice, ModelLimits, ModelSpec, Task};
use weir_codec::Decoded;
use weir_engine::EngineInfo;
use weir_serving::{
    Admission, Done, ExecuteFuture, Executor, Job, Sender, ServedVersion, ServingSnapshot, Stats, Took,
};
use weir_types::{
    Access, AllowLocal, Authorizer, Batch, Credentials, DType, Deadline, Dim, EntityKey, Error, ErrorCode,
    FeatureSource, Field, InputSlot, Outputs, Scalar, Schema, Signature, SystemClock, Tensor, TensorData,
    TensorSpec,
};

use super::*;
use crate::metrics::Metrics;

/// Gives its inputs back as outputs.
#[derive(Default)]
struct Echo(Stats);

impl Executor for Echo {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let Batch { rows, inputs } = job.batch;
        let late = job.deadline.is_past(Instant::now());
        let done = Done {
            outputs: Outputs { rows, tensors: inputs },
            tokens: None,
            cache: None,
            state: None,
            took: Took::default(),
        };
        let late_error = || Error::new(ErrorCode::DeadlineExceeded, "late");
        Box::pin(std::future::ready(if late { Err(late_error()) } else { Ok(done) }))
    }

    fn stats(&self) -> &Stats {
        &self.0
    }
}

fn tensor_spec(name: &str, dtype: DType, row: &[usize]) -> TensorSpec {
    let rows = std::iter::once(Dim::Any(None));
    TensorSpec { name: name.into(), dtype, shape: rows.chain(row.iter().map(|n| Dim::Fixed(*n))).collect() }
}

/// A view of a version that echoes `inputs`, whose rows are `fields`.
fn view(inputs: Vec<TensorSpec>, fields: Vec<Field>, columns: bool) -> ModelView {
    view_of(inputs, Schema { fields, ..Schema::default() }, columns)
}

/// A view of a version that echoes `inputs`, whose rows are what `schema` has them be.
fn view_of(inputs: Vec<TensorSpec>, schema: Schema, columns: bool) -> ModelView {
    let slot = |s: &TensorSpec| InputSlot {
        name: s.name.clone(),
        dtype: s.dtype,
        row_shape: s.shape.iter().skip(1).cloned().collect(),
    };
    let schema = Schema { inputs: inputs.iter().map(slot).collect(), ..schema };
    let spec = ModelSpec {
        name: "echo".parse().unwrap(),
        version: "1".parse().unwrap(),
        artifact: "model.onnx".into(),
        artifact_bytes: 1,
        modified: None,
        digest: "00".into(),
        description: None,
        signature: Signature { outputs: inputs.clone(), inputs },
        schema,
        task: Task::Raw,
        labels: vec!["low".into(), "high".into()],
        answers: Vec::new(),
        text: None,
        graph: None,
        engine: EngineChoice::Auto,
        limits: ModelLimits { max_rows: 4, ..ModelLimits::default() },
        batching: weir_artifact::BatchingTable::default(),
        cache: None,
        deterministic: true,
        stateful: false,
        sequence: None,
        columns,
        lookups: Default::default(),
        samples: Vec::new(),
        notes: Vec::new(),
    };
    let engine = EngineInfo { name: "test", version: "1".into(), reason: "a test".into() };
    let version = ServedVersion {
        spec: Arc::new(spec),
        engine,
        executor: Arc::new(Echo::default()),
        lookup: None,
        members: Vec::new(),
    };
    let snapshot = Arc::new(Arc::new(ServingSnapshot::default()).into());
    ModelView::new(Arc::new(version), &Metrics::new(snapshot, Admission::new(0)))
}

fn table(columns: bool) -> ModelView {
    let mut latitude = Field::new("lat", DType::Float32, 0, 1);
    latitude.rules.le = Some(90.0);
    latitude.default = Some(Scalar::Int(1));
    latitude.alias = vec!["latitude".into()];
    let fields = vec![latitude, Field::new("age", DType::Float32, 0, 0)];
    view(vec![tensor_spec("x", DType::Float32, &[2])], fields, columns)
}

fn named(name: &str, shape: &[usize], data: Vec<f32>) -> NamedTensor {
    NamedTensor { name: name.into(), tensor: Tensor::new(shape.to_vec(), TensorData::Float32(data)).unwrap() }
}

fn message(result: Result<Decoded, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.message.len() < 300, "{error}");
    error.message.into_owned()
}

#[test]
fn tensors_must_be_those_of_the_signature() {
    let view = table(false);
    let Decoded { batch, lookups } = view.decode(vec![named("x", &[2, 2], vec![1., 2., 3., 4.])]).unwrap();
    assert!(lookups.is_empty());
    assert_eq!((batch.rows, batch.inputs.len()), (2, 1));
    let long = "n".repeat(1 << 20);
    let int = Tensor::new(vec![1, 2], TensorData::Int32(vec![1, 2])).unwrap();
    let cases = [
        (vec![], "`x` is missing"),
        (vec![named(&long, &[1, 2], vec![1., 2.])], "has no input"),
        (vec![named("x", &[1, 2], vec![1., 2.]), named("x", &[1, 2], vec![1., 2.])], "there twice"),
        (vec![named("x", &[1, 3], vec![1., 2., 3.])], "shape [-1, 2], -1 for any, got [1, 3]"),
        (vec![named("x", &[2], vec![1., 2.])], "shape"),
        (vec![named("x", &[1; 1000], vec![1.])], "shape"),
        (vec![NamedTensor { name: "x".into(), tensor: int }], "is FP32, got INT32"),
        (vec![named("x", &[2, 2], vec![1., 2., 3., 91.])], "field `lat` of row 1: 91 must be at most 90"),
    ];
    for (inputs, reason) in cases {
        let text = message(view.decode(inputs));
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn inputs_agree_on_the_rows() {
    let specs = vec![tensor_spec("a", DType::Float32, &[]), tensor_spec("b", DType::Float32, &[1])];
    let view = view(specs, Vec::new(), false);
    let text = message(view.decode(vec![named("b", &[3, 1], vec![1.; 3]), named("a", &[2], vec![1.; 2])]));
    assert!(text.contains("`b` has 3 rows and `a` has 2"), "{text}");
}

#[test]
fn columns_are_laid_where_the_typed_face_lays_its_rows() {
    let view = table(true);
    let shapes: Vec<_> = view.inputs().iter().map(|t| (t.name.as_str(), t.shape.clone())).collect();
    assert_eq!(shapes, [("lat", vec![-1, 1]), ("age", vec![-1, 1])]);
    let values = |inputs| view.decode(inputs).unwrap().batch.inputs[0].as_f32().unwrap().to_vec();
    let age = || named("age", &[2], vec![10., 20.]);
    assert_eq!(values(vec![named("lat", &[2, 1], vec![5., 6.]), age()]), [10., 5., 20., 6.]);
    assert_eq!(values(vec![age(), named("latitude", &[2], vec![5., 6.])]), [10., 5., 20., 6.]);
    assert_eq!(values(vec![age()]), [10., 1., 20., 1.], "a default stands in");
    let whole = |values: Vec<i64>| NamedTensor {
        name: "age".into(),
        tensor: Tensor::new(vec![values.len()], TensorData::Int64(values)).unwrap(),
    };
    assert_eq!(values(vec![whole(vec![10, 20])]), [10., 1., 20., 1.], "as pandas has whole numbers");
    let text = message(view.decode(vec![whole(vec![1, (1 << 24) + 1])]));
    assert!(text.contains("`age` is FP32, which 16777217 of row 1 is not"), "{text}");
    let cases = [
        (vec![named("lat", &[1], vec![5.])], "`age` is missing"),
        (vec![age(), named("lat", &[1], vec![5.])], "has 2 rows and `lat` has 1"),
        (vec![age(), named("lat", &[2, 2], vec![5.; 4])], "[rows, 1], got FP32 [2, 2]"),
        (vec![age(), named("lat", &[2], vec![5., 95.])], "must be at most 90"),
        (vec![age(), age()], "there twice"),
        (vec![named("x", &[1, 2], vec![1., 2.])], "it has: lat, age"),
        (vec![named("age", &[5], vec![1.; 5])], "5 rows in one request, the model takes 4"),
    ];
    for (inputs, reason) in cases {
        let text = message(view.decode(inputs));
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

/// The table, of which `lat` is looked up by `user` and `age` by `block`.
fn looking_up(columns: bool) -> ModelView {
    let key = |name: &str, dtype| EntityKey {
        name: name.into(),
        alias: vec![format!("{name}_id")],
        dtype,
        description: None,
        example: None,
    };
    let source = |feature: &str, key| {
        Some(FeatureSource { view: "v".into(), feature: feature.into(), key, max_age: None })
    };
    let mut fields = table(columns).version().spec.schema.fields.clone();
    (fields[0].source, fields[1].source) = (source("lat", 0), source("age", 1));
    let schema = Schema {
        fields,
        keys: vec![key("user", DType::String), key("block", DType::Int64)],
        ..Schema::default()
    };
    view_of(vec![tensor_spec("x", DType::Float32, &[2])], schema, columns)
}

#[test]
fn a_table_that_looks_up_has_its_keys_as_inputs() {
    let view = looking_up(true);
    let inputs = view.inputs().iter().map(|t| (t.name.as_str(), t.dtype, t.shape.clone()));
    let one = || vec![-1, 1];
    assert_eq!(
        inputs.collect::<Vec<_>>(),
        [
            ("lat", DType::Float32, one()),
            ("age", DType::Float32, one()),
            ("user", DType::String, one()),
            ("block", DType::Int64, one())
        ]
    );
    let user = |names: &[&str]| NamedTensor {
        name: "user_id".into(),
        tensor: Tensor::new(
            vec![names.len(), 1],
            TensorData::String(names.iter().map(|n| (*n).into()).collect()),
        )
        .unwrap(),
    };
    let block = |numbers: Vec<i32>| NamedTensor {
        name: "block".into(),
        tensor: Tensor::new(vec![numbers.len()], TensorData::Int32(numbers)).unwrap(),
    };
    let age = || named("age", &[2], vec![10., 20.]);
    let wanted =
        |decoded: &Decoded| decoded.lookups.wanted.iter().map(|w| (w.row, w.field)).collect::<Vec<_>>();
    let both = view.decode(vec![user(&["a", "b"]), block(vec![1, 2])]).unwrap();
    assert_eq!(wanted(&both), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    let entities = &both.lookups.entities;
    assert_eq!(entities[0], TensorData::String(vec!["a".into(), "b".into()]));
    assert_eq!(entities[1], TensorData::Int64(vec![1, 2]), "as clients with pandas send them");
    // What is there counts, and a default stands in where no key says of whom.
    assert_eq!(wanted(&view.decode(vec![age(), user(&["a", "b"])]).unwrap()), [(0, 0), (1, 0)]);
    let explicit = view.decode(vec![age(), block(vec![1, 2])]).unwrap();
    assert!(explicit.lookups.is_empty());
    assert_eq!(explicit.batch.inputs[0].as_f32().unwrap(), [10., 1., 20., 1.]);
    // A bound is not held against what is not there yet.
    assert!(view.decode(vec![user(&["a"]), named("age", &[1], vec![1.])]).is_ok());
    let cases = [
        (vec![user(&["a"])], "the input `age` is missing, and `block`, by which it is looked up"),
        (vec![user(&["a"]), block(vec![1, 2])], "`block` has 2 rows and `user` has 1"),
        (vec![user(&["a", ""]), age()], "1 to 256 characters, which row 1 has not"),
        (vec![user(&["a"]), user(&["a"])], "there twice"),
        (vec![named("block", &[1], vec![0.5])], "`block` is INT64, which 0.5 of row 0 is not"),
        (vec![named("y", &[1], vec![0.5])], "it has: lat, age, user, block"),
    ];
    for (inputs, reason) in cases {
        let text = message(view.decode(inputs));
        assert!(text.contains(reason), "{reason}: {text}");
    }
    // Its own tensors have no place for a key.
    let own = looking_up(false);
    assert_eq!(own.inputs().len(), 1);
    for key in [user(&["a"]), named("lat", &[1], vec![1.])] {
        let text = message(own.decode(vec![key]));
        assert!(text.contains("/v1/models/echo:predict") && text.contains("columns = true"), "{text}");
    }
}

async fn ask(view: &ModelView, request: InferRequest) -> Result<InferResponse, Error> {
    let grant = AllowLocal.authorize(Credentials::default(), Access::Read)?;
    let received = Instant::now();
    let admitted = Admission::new(1).admit(
        Sender::granted(grant),
        0,
        Deadline::after(received, Duration::from_secs(60)),
    )?;
    // A second ago: a timeout of less has passed.
    let mut line = Timeline::new(Arc::new(SystemClock), received - Duration::from_secs(1), None, None);
    Ok(infer(admitted, view, request, &mut line).await?)
}

fn outputs(names: &[(&str, Option<i64>)]) -> Vec<RequestedOutput> {
    let parameters = |top: &Option<i64>| {
        Parameters(top.iter().map(|n| ("classification".to_owned(), Parameter::Int(*n))).collect())
    };
    names.iter().map(|(n, top)| RequestedOutput { name: (*n).into(), parameters: parameters(top) }).collect()
}

#[tokio::test]
async fn the_answer_holds_what_was_asked_for_in_its_order() {
    let specs = vec![tensor_spec("a", DType::Float32, &[2]), tensor_spec("b", DType::Float32, &[2])];
    let view = view(specs, Vec::new(), false);
    let request = |outputs| InferRequest {
        id: Some("7".into()),
        inputs: vec![named("a", &[1, 2], vec![1., 2.]), named("b", &[1, 2], vec![4., 3.])],
        outputs,
        ..InferRequest::default()
    };
    let names = |r: &InferResponse| r.outputs.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    let all = ask(&view, request(vec![])).await.unwrap();
    assert_eq!((names(&all), all.id.as_deref()), (vec!["a".into(), "b".into()], Some("7")));
    let some = ask(&view, request(outputs(&[("b", Some(1)), ("a", None)]))).await.unwrap();
    assert_eq!(names(&some), ["b", "a"]);
    assert_eq!(some.outputs[0].tensor.as_strings().unwrap(), ["4:0:low"]);
    for bad in [outputs(&[("c", None)]), outputs(&[("a", None), ("a", None)]), outputs(&[("a", Some(-1))])] {
        assert_eq!(ask(&view, request(bad)).await.unwrap_err().code, ErrorCode::InvalidArgument);
    }
}

#[tokio::test]
async fn the_rows_are_bounded_and_the_callers_patience_counts() {
    let view = table(false);
    let request = |rows: usize| InferRequest {
        inputs: vec![named("x", &[rows, 2], vec![1.; rows * 2])],
        ..InferRequest::default()
    };
    assert!(ask(&view, request(4)).await.is_ok());
    assert_eq!(ask(&view, request(5)).await.unwrap_err().code, ErrorCode::InvalidArgument);
    let mut hasty = request(1);
    hasty.parameters.0.push(("timeout".into(), Parameter::Int(900_000)));
    assert_eq!(ask(&view, hasty).await.unwrap_err().code, ErrorCode::DeadlineExceeded);
    let mut patient = request(1);
    patient.parameters.0.push(("timeout".into(), Parameter::Int(30_000_000)));
    assert!(ask(&view, patient).await.is_ok());
}
