//! What a batch looks like, shape by shape.

use std::sync::Arc;

use weir_codec::{BodyShape, DecodeLimits, Rejection, RowDecoder};
use weir_types::{DType, Dim, Extra, Field, InputSlot, Scalar, Schema, TensorData};

use crate::schemas;

fn house(body: &str) -> Vec<f32> {
    let batch = schemas::decoder("house").decode(body.as_bytes()).unwrap();
    assert_eq!(batch.inputs[0].shape(), [1, 8]);
    batch.inputs[0].as_f32().unwrap().to_vec()
}

const VALUES: [f32; 8] = [8.3252, 41.0, 6.984, 1.0238, 322.0, 2.5556, 37.88, -122.23];

#[test]
fn fields_of_one_input_lie_side_by_side_in_declared_order() {
    let declared = r#"{"MedInc":8.3252,"HouseAge":41,"AveRooms":6.984,"AveBedrms":1.0238,"Population":322,"AveOccup":2.5556,"Latitude":37.88,"Longitude":-122.23}"#;
    let shuffled = r#"{"Longitude":"-122.23","Latitude":37.88,"MedInc":8.3252,"AveOccup":2.5556,"HouseAge":41,"AveRooms":6.984,"Population":322.0,"AveBedrms":1.0238}"#;
    assert_eq!((house(declared), house(shuffled)), (VALUES.to_vec(), VALUES.to_vec()));
}

#[test]
fn floats_round_correctly_through_double() {
    // Nearest double, then nearest float32, as numpy has it from Python's float.
    let body = |x: &str| format!(r#"{{"x": {x}}}"#);
    for x in [
        "0.1",
        "1.00000017881393432617187499",
        "1e-45",
        "3.4028235677973362e38",
        "16777217",
        "9007199254740993",
    ] {
        let batch = schemas::decoder("nothing").decode(body(x).as_bytes()).unwrap();
        assert_eq!(batch.inputs[0].as_f32(), Some(&[x.parse::<f64>().unwrap() as f32][..]), "{x}");
    }
}

#[test]
fn absent_and_null_values_have_their_stand_ins() {
    let batch = schemas::decoder("nothing").decode(b"{}").unwrap();
    assert_eq!(batch.inputs[0].as_f32(), Some(&[1.0][..]));
    let body = br#"{"rows":[{"flag":true,"int":1,"float":null,"text":"a","list":[1,2]}]}"#;
    let batch = schemas::decoder("strict").decode(body).unwrap();
    assert!(matches!(batch.inputs[2].data(), TensorData::Float64(v) if v[0].is_nan()));
}

#[test]
fn the_request_decides_open_dimensions() {
    let row = r#"{"pair":[1,2],"grid":[[1,2,3],[4,5,6]],"open":[1,2,3,4],"table":[[1,2]],"holes":[null,1,2],"words":["a"]}"#;
    let batch = schemas::decoder("lists").decode(format!(r#"{{"items":[{row},{row}]}}"#).as_bytes()).unwrap();
    let shapes: Vec<_> = batch.inputs.iter().map(|t| t.shape().to_vec()).collect();
    assert_eq!(
        shapes,
        [vec![2, 2], vec![2, 2, 3], vec![2, 4], vec![2, 1, 2], vec![2, 3], vec![2, 1], vec![2, 2]]
    );
    let none = schemas::decoder("lists").decode(br#"{"items":[]}"#).unwrap();
    assert_eq!((none.rows, none.inputs[3].shape()), (0, &[0, 0, 2][..]));
}

fn instances(extra: Extra, key: &str) -> RowDecoder {
    let field = Field::new(key, DType::Int64, 0, 0);
    let slot = InputSlot { name: "x".into(), dtype: DType::Int64, row_shape: vec![Dim::Fixed(1)] };
    let schema = Schema { fields: vec![field], inputs: vec![slot], extra, ..Schema::default() };
    RowDecoder::new(Arc::new(schema), BodyShape::Instances, DecodeLimits::default()).unwrap()
}

#[test]
fn instances_are_a_row_or_a_list_of_rows() {
    let rows = |decoder: &RowDecoder, body: &str| decoder.decode(body.as_bytes()).map(|b| b.rows);
    let forbid = instances(Extra::Forbid, "x");
    assert_eq!(rows(&forbid, r#"{"x": 1}"#), Ok(1));
    assert_eq!(rows(&forbid, r#"{"instances": [{"x": 1}, {"x": 2}]}"#), Ok(2));
    assert_eq!(rows(&forbid, r#"{"instances": []}"#), Ok(0));
    assert_eq!(rows(&instances(Extra::Ignore, "x"), r#"{"x": 1, "instances": [{"x": 1}, {"x": 2}]}"#), Ok(2));
    let Err(Rejection::Invalid(errors)) = forbid.decode(br#"{"x": 1, "instances": [{"y": 1}]}"#) else {
        panic!()
    };
    let kinds: Vec<_> = errors.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["missing", "extra_forbidden", "extra_forbidden"]);
    // A field of that name is a field.
    assert_eq!(rows(&instances(Extra::Forbid, "instances"), r#"{"instances": 5}"#), Ok(1));
}

#[test]
fn columns_fill_rows_and_defaults_the_rest() {
    let body = br#"{"texts":["a","b"],"tags":["a","b"],"weights":[1,2.5]}"#;
    let batch = schemas::decoder("columns").decode(body).unwrap();
    assert_eq!(batch.inputs[0].data(), &TensorData::Float64(vec![1.0, 2.5]));
    assert_eq!(batch.inputs[1].as_strings().unwrap(), ["a", "b"]);
    assert_eq!(batch.inputs[3].as_f32(), Some(&[0.5, 0.5][..]));
}

#[test]
fn every_column_needs_a_field_and_every_field_a_source() {
    let schema = Arc::clone(schemas::decoder("columns").schema());
    let build = |keys: &[(&str, usize)]| {
        let keys = keys.iter().map(|&(k, f)| (k.to_owned(), f)).collect();
        RowDecoder::new(Arc::clone(&schema), BodyShape::Columns { keys }, DecodeLimits::default())
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(build(&[("a", 9)]), Err("column `a` fills field 9, which there is not".into()));
    assert_eq!(build(&[("a", 0), ("a", 1)]), Err("column `a` or its field is named twice".into()));
    let missing = "field `tag` has neither a column in the request nor a default";
    assert_eq!(build(&[("a", 0), ("b", 1)]), Err(missing.into()));
}

#[test]
fn enums_and_bounds_of_other_dtypes_hold_too() {
    let mut flag = Field::new("flag", DType::Bool, 0, 0);
    flag.rules.one_of = Some(vec![Scalar::Bool(true)]);
    let slot = InputSlot { name: "flag".into(), dtype: DType::Bool, row_shape: vec![] };
    let schema = Schema { fields: vec![flag], inputs: vec![slot], ..Schema::default() };
    let decoder = RowDecoder::new(Arc::new(schema), BodyShape::Row, DecodeLimits::default()).unwrap();
    assert!(decoder.decode(br#"{"flag": "yes"}"#).is_ok());
    let Err(Rejection::Invalid(errors)) = decoder.decode(br#"{"flag": false}"#) else { panic!() };
    assert_eq!((errors[0].kind, errors[0].msg.as_str()), ("enum", "Input should be True"));
}
