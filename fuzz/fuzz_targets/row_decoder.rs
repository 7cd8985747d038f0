//! A request body of any kind, against every shape and schemas that use every type and rule.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use weir_codec::{BodyShape, DecodeLimits, Rejection, RowDecoder};
use weir_types::{Batch, Coercion, DType, Dim, Extra, Field, InputSlot, Rules, Scalar, Schema};

/// Small, so that the bounds are reached.
const LIMITS: DecodeLimits = DecodeLimits { max_rows: 50, max_depth: 16, max_errors: 10, max_echo_bytes: 64 };

/// Most bytes of an error answer: one error repeats a bounded value, path and message.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

static DECODERS: LazyLock<Vec<RowDecoder>> = LazyLock::new(decoders);

fuzz_target!(|body: &[u8]| DECODERS.iter().for_each(|decoder| check(decoder, body)));

fn check(decoder: &RowDecoder, body: &[u8]) {
    let full = decoder.decode_fully(body);
    if let Some(fast) = decoder.decode_fast(body) {
        let full = full.as_ref().unwrap_or_else(|r| panic!("only the fast path accepts: {r:?}"));
        // As text: a missing value is NaN, which equals nothing.
        assert_eq!(format!("{fast:?}"), format!("{full:?}"));
    }
    match full {
        Ok(batch) => check_batch(decoder, &batch),
        Err(rejection) => check_rejection(&rejection),
    }
}

fn check_batch(decoder: &RowDecoder, batch: &Batch) {
    assert!(batch.rows <= LIMITS.max_rows);
    assert_eq!(batch.inputs.len(), decoder.schema().inputs.len());
    for (tensor, slot) in batch.inputs.iter().zip(&decoder.schema().inputs) {
        assert_eq!((tensor.rows(), tensor.dtype()), (batch.rows, slot.dtype));
    }
}

fn check_rejection(rejection: &Rejection) {
    if let Rejection::Invalid(errors) = rejection {
        assert!((1..=LIMITS.max_errors).contains(&errors.len()), "{} errors", errors.len());
    }
    let mut answer = Vec::new();
    rejection.write_body(&mut answer);
    assert!(answer.len() <= MOST_ANSWER_BYTES, "{} bytes of errors", answer.len());
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&answer);
    assert!(parsed.is_ok(), "not JSON: {}", String::from_utf8_lossy(&answer));
}

fn decoders() -> Vec<RowDecoder> {
    let rows = || BodyShape::Rows { key: "rows".into() };
    let columns = BodyShape::Columns { keys: vec![("text".into(), 0)] };
    let strict = Schema { extra: Extra::Ignore, coerce: Coercion::Strict, ..mixed() };
    [
        (mixed(), BodyShape::Row),
        (mixed(), rows()),
        (strict.clone(), BodyShape::Instances),
        (strict, BodyShape::Row),
        (texts(), columns),
        (texts(), rows()),
    ]
    .into_iter()
    .map(|(schema, shape)| RowDecoder::new(Arc::new(schema), shape, LIMITS).expect("the schema is sound"))
    .collect()
}

fn slot(name: &str, dtype: DType, width: usize) -> InputSlot {
    InputSlot { name: name.into(), dtype, row_shape: vec![Dim::Fixed(width)] }
}

fn texts() -> Schema {
    let mut text = Field::new("text", DType::String, 0, 0);
    text.rules.max_length = Some(20);
    Schema { fields: vec![text], inputs: vec![slot("text", DType::String, 1)], ..Schema::default() }
}

/// Every type that has a JSON form, every rule, defaults, aliases and a list.
fn mixed() -> Schema {
    let mut bounded = Field::new("latitude", DType::Float32, 0, 0);
    bounded.alias = vec!["lat".into()];
    bounded.rules = Rules { ge: Some(-90.0), le: Some(90.0), ..Rules::default() };
    let mut missing = Field::new("rate", DType::Float32, 0, 1);
    missing.nullable = true;
    missing.default = Some(Scalar::Float(0.5));
    let mut list = Field::new("list", DType::Float32, 0, 2);
    list.shape = vec![Dim::Fixed(3)];
    list.rules.allow_inf_nan = true;
    let mut count = Field::new("count", DType::Int64, 1, 0);
    count.rules = Rules { gt: Some(0.0), lt: Some(1e15), ..Rules::default() };
    let tiny = Field::new("tiny", DType::Uint8, 2, 0);
    let flag = Field::new("flag", DType::Bool, 3, 0);
    let mut code = Field::new("code", DType::String, 4, 0);
    code.rules = Rules { min_length: Some(2), pattern: Some("^[a-z]+$".into()), ..Rules::default() };
    let mut colour = Field::new("colour", DType::String, 4, 1);
    colour.rules.one_of = Some(vec![Scalar::String("red".into()), Scalar::String("blå".into())]);
    let exact = Field::new("exact", DType::Float64, 5, 0);
    Schema {
        fields: vec![bounded, missing, list, count, tiny, flag, code, colour, exact],
        inputs: vec![
            slot("floats", DType::Float32, 5),
            slot("ints", DType::Int64, 1),
            slot("bytes", DType::Uint8, 1),
            slot("flags", DType::Bool, 1),
            slot("texts", DType::String, 2),
            slot("doubles", DType::Float64, 1),
        ],
        ..Schema::default()
    }
}
