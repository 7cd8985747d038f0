//! Fixtures, the ONNX Runtime library and the demo model, for the tests of the runtimes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use weir_artifact::onnx::{GateLimits, OnnxModel, read};
use weir_engine::{
    Context, Cost, Engine, EngineError,
    onnx::{LibraryHints, OrtEngine, OrtLibrary, OrtLocation, RtenEngine, candidates},
};
use weir_types::{Batch, DType, Outputs, Tensor, TensorData};

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where the tests' ONNX Runtime is.
pub(crate) fn location() -> OrtLocation {
    let lib = repository().join(".cache/venvs/onnxruntime/lib");
    let pythons = fs::read_dir(&lib).into_iter().flatten().flatten();
    let site_packages = pythons.map(|p| p.path().join("site-packages")).collect();
    let candidates = candidates(&LibraryHints { folders: Vec::new(), site_packages });
    assert!(!candidates.is_empty(), "no ONNX Runtime under {}: run `make venvs`", lib.display());
    OrtLocation { explicit: None, candidates }
}

/// The tests' ONNX Runtime.
pub(crate) fn library() -> &'static OrtLibrary {
    OrtLibrary::find(&location()).unwrap()
}

/// A file of the sentiment demo.
pub(crate) fn sentiment(file: &str) -> Vec<u8> {
    let path = repository().join(".cache/sentiment").join(file);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run `make fetch`", path.display()))
}

/// A model that passed the gate and what it must answer.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) case: Value,
}

impl Fixture {
    pub(crate) fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let read = |ending: &str| {
            let path = folder.join(format!("{name}.{ending}"));
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let case = serde_json::from_slice(&read("json")).unwrap();
        Self { name: name.to_owned(), bytes: read("onnx"), case }
    }

    /// Every fixture, by name.
    pub(crate) fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
            .collect();
        names.sort();
        assert!(names.len() > 150, "the fixtures are missing: {} found", names.len());
        names.iter().map(|n| Self::load(n)).collect()
    }

    /// What the gate says.
    pub(crate) fn gate(&self) -> Result<OnnxModel, Vec<String>> {
        read(&self.bytes, &GateLimits::default())
    }

    pub(crate) fn model(&self) -> OnnxModel {
        self.gate().unwrap_or_else(|e| panic!("{}: {e:?}", self.name))
    }

    pub(crate) fn must_fail(&self) -> bool {
        self.case["error"] == true
    }

    pub(crate) fn refused(&self) -> bool {
        self.case["refuse"] == true
    }

    /// The inputs, in signature order.
    pub(crate) fn batch(&self, model: &OnnxModel) -> Batch {
        let given = self.case["inputs"].as_array().unwrap();
        let inputs: Vec<Tensor> = model
            .signature
            .inputs
            .iter()
            .map(|spec| tensor(given.iter().find(|i| i["name"] == *spec.name).unwrap()))
            .collect();
        Batch { rows: inputs.first().map_or(0, Tensor::rows), inputs }
    }

    /// The largest difference of `outputs` from what onnxruntime answered in Python,
    /// relative to 1 or the value's size. Panics where anything but a number differs.
    pub(crate) fn difference(&self, model: &OnnxModel, outputs: &Outputs) -> f64 {
        let expected = self.case["outputs"].as_array().unwrap();
        let pairs = model.signature.outputs.iter().zip(&outputs.tensors);
        pairs
            .map(|(spec, got)| {
                let want = tensor(expected.iter().find(|o| o["name"] == *spec.name).unwrap());
                difference(&self.name, got, &want)
            })
            .fold(0.0, f64::max)
    }
}

/// The largest relative difference of two tensors.
pub(crate) fn difference(name: &str, got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.shape(), want.shape(), "{name}");
    let pair = |a: f64, b: f64| match a == b || (a.is_nan() && b.is_nan()) {
        true => 0.0,
        false => (a - b).abs() / b.abs().max(1.0),
    };
    let worst =
        |d: Vec<f64>| d.into_iter().fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { b.max(a) });
    match (got.data(), want.data()) {
        (TensorData::Float32(a), TensorData::Float32(b)) => {
            worst(a.iter().zip(b).map(|(&a, &b)| pair(a.into(), b.into())).collect())
        }
        (TensorData::Float64(a), TensorData::Float64(b)) => {
            worst(a.iter().zip(b).map(|(&a, &b)| pair(a, b)).collect())
        }
        (a, b) => {
            assert_eq!(a, b, "{name}");
            0.0
        }
    }
}

/// A tensor of a fixture.
fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> =
        json["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let data = json["data"].as_array().unwrap();
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap());
    let int = |v: &Value| v.as_i64().unwrap();
    let data = match json["dtype"].as_str().unwrap().parse().unwrap() {
        DType::Float32 => TensorData::Float32(data.iter().map(|v| number(v) as f32).collect()),
        DType::Float64 => TensorData::Float64(data.iter().map(number).collect()),
        DType::Int64 => TensorData::Int64(data.iter().map(int).collect()),
        DType::Int32 => TensorData::Int32(data.iter().map(|v| int(v) as i32).collect()),
        DType::Bool => TensorData::Bool(data.iter().map(|v| v.as_bool().unwrap()).collect()),
        DType::String => TensorData::String(data.iter().map(|v| v.as_str().unwrap().to_owned()).collect()),
        other => panic!("fixtures have no {other}"),
    };
    Tensor::new(shape, data).unwrap()
}

/// A model on ONNX Runtime.
pub(crate) fn ort(bytes: &[u8], model: &OnnxModel) -> Result<Arc<dyn Engine>, EngineError> {
    let engine = OrtEngine::load(library(), bytes, model, Cost::Heavy, 1, "a test".into())?;
    Ok(Arc::new(engine))
}

/// A model on rten.
pub(crate) fn rten(bytes: &[u8], model: &OnnxModel) -> Result<Arc<dyn Engine>, EngineError> {
    let engine = RtenEngine::load(bytes, model, Cost::Heavy, 1, "a test".into())?;
    Ok(Arc::new(engine))
}

/// Prepares and executes one batch.
pub(crate) fn answer(engine: &dyn Engine, batch: Batch) -> Result<Outputs, EngineError> {
    let prepared = engine.prepare(batch)?;
    engine.execute(&[&prepared], &mut Context::default())
}
