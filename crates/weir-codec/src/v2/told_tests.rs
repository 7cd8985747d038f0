//! Answers that are true, and answers that lie.

use std::time::Duration;

use proptest::prelude::*;
use weir_types::{Batch, DType, Dim};

use super::*;
use crate::v2::{datatype, write_raw, write_request};

fn spec(name: &str, dtype: DType, inner: &[usize]) -> TensorSpec {
    let rows = std::iter::once(Dim::Any(None));
    TensorSpec { name: name.into(), dtype, shape: rows.chain(inner.iter().map(|n| Dim::Fixed(*n))).collect() }
}

fn signature() -> Signature {
    let outputs = vec![spec("a", DType::Float32, &[2]), spec("t", DType::String, &[])];
    Signature { inputs: Vec::new(), outputs }
}

fn json(text: &str) -> Result<Outputs, String> {
    read_response(&signature(), 1, "7", None, text.as_bytes())
}

const T: &str = r#"{"name":"t","datatype":"BYTES","shape":[1],"data":["x"]}"#;

#[test]
fn outputs_are_put_in_the_models_order_by_name() {
    let text = format!(
        r#"{{"id":"7","extra":1,"outputs":[{T},{{"name":"a","datatype":"FP32","shape":[1,2],"data":[[1,"NaN"]]}}]}}"#
    );
    let outputs = json(&text).unwrap();
    assert_eq!(outputs.tensors[1].as_strings().unwrap(), ["x"]);
    assert!(outputs.tensors[0].as_f32().unwrap()[1].is_nan());
}

#[test]
fn every_lie_is_told_apart() {
    let with = |a: &str| json(&format!(r#"{{"outputs":[{a}]}}"#)).unwrap_err();
    let a = |rest: &str| with(&format!(r#"{{"name":"a","datatype":"FP32",{rest}}},{T}"#));
    assert!(json("{").unwrap_err().contains("no inference response"));
    assert!(json(r#"{"id":"8","outputs":[]}"#).unwrap_err().contains(r#"answers the request "8""#));
    assert!(with(T).contains("`a` is missing"));
    assert!(with(&format!("{T},{T}")).contains("twice"));
    assert!(with(r#"{"name":"z","datatype":"FP32","shape":[1],"data":[]}"#).contains("nobody asked"));
    assert!(with(r#"{"name":"a","datatype":"FP64","shape":[1,2],"data":[1,2]}"#).contains("was float32"));
    assert!(with(r#"{"name":"a","datatype":"FP9","shape":[1,2],"data":[1,2]}"#).contains("unknown datatype"));
    for shape in ["[2,2]", "[1,3]", "[1]", "[1,2,1]", "[]"] {
        assert!(a(&format!(r#""shape":{shape},"data":[1,2]"#)).contains("for 1 rows"), "{shape}");
    }
    assert!(a(r#""shape":[1,-2],"data":[1,2]"#).contains("no inference response"));
    assert!(a(r#""shape":[1,2],"data":[1]"#).contains("1 elements"));
    assert!(a(r#""shape":[1,2],"data":[1,2,3]"#).contains("more than 2"));
    assert!(a(r#""shape":[1,2],"data":[1,"x"]"#).contains("not of the tensor's type"));
    assert!(a(r#""shape":[1,2],"data":[1,1e39]"#).contains("not of the tensor's type"));
    assert!(a(r#""shape":[1,2]"#).contains("neither"));
    assert!(a(r#""shape":[1,2],"data":[1,2],"parameters":{"binary_data_size":8}"#).contains("both"));
    assert!(a(r#""shape":[1,2],"parameters":{"binary_data_size":8}"#).contains("more bytes than there are"));
    let deep = format!(r#""shape":[1,2],"data":{}"#, "[".repeat(100_000));
    assert!(a(&deep).contains("no inference response"));
    let long = format!(r#""shape":[{}1],"data":[]"#, "1,".repeat(100_000));
    assert!(a(&long).contains("at most 16"));
}

#[test]
fn huge_claims_allocate_nothing() {
    let mut open = signature();
    open.outputs.truncate(1);
    open.outputs[0].shape[1] = Dim::Any(None);
    for (shape, data) in [
        ("[1,4611686018427387907]", r#""data":[1]"#),
        ("[1,1000000000000]", r#""data":[1]"#),
        ("[1,4611686018427387905]", r#""parameters":{"binary_data_size":4}"#),
    ] {
        let text = format!(r#"{{"outputs":[{{"name":"a","datatype":"FP32","shape":{shape},{data}}}]}}"#);
        let (length, mut body) = (text.len(), text.into_bytes());
        body.extend([0; 4]);
        let json = data.contains("binary").then_some(length);
        let body = if json.is_some() { &body[..] } else { &body[..length] };
        assert!(read_response(&open, 1, "", json, body).is_err());
    }
    assert!(read_response(&open, 1, "", Some(usize::MAX), b"{}").unwrap_err().contains("longer than"));
}

#[test]
fn bytes_behind_the_last_tensor_are_refused() {
    let mut one = signature();
    one.outputs.remove(0);
    let text = format!(r#"{{"outputs":[{T}]}}"#);
    let body = format!("{text}more");
    assert!(
        read_response(&one, 1, "", Some(text.len()), body.as_bytes()).unwrap_err().contains("4 bytes behind")
    );
}

/// Any data of any type, `n` elements.
fn data(dtype: DType, n: usize, seed: u64) -> TensorData {
    let number = |i: usize| seed.wrapping_mul(i as u64 * 2 + 1);
    if dtype == DType::String {
        return TensorData::String((0..n).map(|i| format!("ä\"{}\n", number(i))).collect());
    }
    let size = dtype.size_bytes().unwrap();
    let bytes: Vec<u8> = (0..n * size)
        .map(|i| if dtype == DType::Bool { number(i) as u8 & 1 } else { (number(i) >> 7) as u8 & 0x3f })
        .collect();
    read_raw(dtype, &[n], &bytes).unwrap()
}

proptest! {
    /// What is asked is answered by a server that echoes: the same tensor comes back, as bytes
    /// and as JSON.
    #[test]
    fn an_echo_comes_back(rows in 0usize..5, width in 1usize..4, kind in 0usize..14, seed in any::<u64>(), binary in any::<bool>()) {
        let dtype = DType::ALL[kind];
        prop_assume!(binary || dtype != DType::Bfloat16);
        let both = vec![spec("x", dtype, &[width])];
        let signature = Signature { inputs: both.clone(), outputs: both };
        let tensor = Tensor::new(vec![rows, width], data(dtype, rows * width, seed)).unwrap();
        let batch = Batch { rows, inputs: vec![tensor.clone()] };
        let request = write_request(&signature, &batch, "7", Duration::from_millis(5), binary).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&request.body[..request.json.unwrap_or(request.body.len())]).unwrap();
        prop_assert_eq!(&json["parameters"]["timeout"], 5_000);
        prop_assert_eq!(&json["inputs"][0]["datatype"], datatype(dtype));
        let mut blob = Vec::new();
        write_raw(tensor.data(), &mut blob);
        let echo = serde_json::json!({"id": "7", "outputs": json["inputs"]}).to_string();
        let length = echo.len();
        let mut body = echo.into_bytes();
        if binary {
            body.extend(&blob);
        }
        let outputs = read_response(&signature, rows, "7", binary.then_some(length), &body);
        prop_assert_eq!(outputs, Ok(Outputs { rows, tensors: vec![tensor] }));
    }

    /// Whatever comes, it is an answer or an error.
    #[test]
    fn noise_is_refused(body in prop::collection::vec(any::<u8>(), 0..200), json in prop::option::of(0usize..300)) {
        let _ = read_response(&signature(), 1, "7", json, &body);
    }

    /// One byte of a good answer changed: never a panic, never another number of rows.
    #[test]
    fn flipped_bytes_never_break_it(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let good = format!(r#"{{"id":"7","outputs":[{{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}},{T}]}}"#);
        let mut body = good.into_bytes();
        let at = at.index(body.len());
        body[at] = to;
        if let Ok(outputs) = read_response(&signature(), 1, "7", None, &body) {
            prop_assert!(outputs.rows == 1 && outputs.tensors.iter().all(|t| t.rows() == 1));
        }
    }
}
