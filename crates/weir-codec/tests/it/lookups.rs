//! Rows that name an entity instead of carrying what is known of it.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};
use weir_codec::{Absent, BodyShape, DecodeLimits, Decoded, Rejection, RowDecoder};
use weir_types::{DType, Dim, EntityKey, FeatureSource, Field, InputSlot, Scalar, Schema, TensorData};

/// Fields `a` (by `user`), `b` (by `user`, default 7), `c` (by `shop`), `d` (never looked up).
fn schema() -> Schema {
    let source = |key| Some(FeatureSource { view: "v".into(), feature: "f".into(), key, max_age: None });
    let field = |name, offset, key: Option<usize>| Field {
        source: key.and_then(source),
        ..Field::new(name, DType::Float32, 0, offset)
    };
    let mut fields =
        vec![field("a", 0, Some(0)), field("b", 1, Some(0)), field("c", 2, Some(1)), field("d", 3, None)];
    fields[0].rules.le = Some(100.0);
    fields[1].default = Some(Scalar::Float(7.0));
    let key = |name: &str, dtype, alias: &[&str]| EntityKey {
        name: name.into(),
        alias: alias.iter().map(|a| (*a).into()).collect(),
        dtype,
        description: None,
        example: None,
    };
    let keys = vec![key("user", DType::Int64, &["uid"]), key("shop", DType::String, &[])];
    let slot = InputSlot { name: "x".into(), dtype: DType::Float32, row_shape: vec![Dim::Fixed(4)] };
    Schema { fields, keys, inputs: vec![slot], ..Schema::default() }
}

fn decoder(shape: BodyShape) -> RowDecoder {
    let schema = schema();
    schema.check().unwrap();
    RowDecoder::looking_up(Arc::new(schema), shape, DecodeLimits::default()).unwrap()
}

fn rows() -> RowDecoder {
    decoder(BodyShape::Rows { key: "rows".into() })
}

/// What a store that knows everything would say: a number that only entity and field decide.
fn known(entity: &Scalar, field: usize) -> f64 {
    match entity {
        Scalar::Int(n) => (*n % 50) as f64 + field as f64 / 8.0,
        Scalar::String(text) => text.len() as f64 + field as f64 / 8.0,
        _ => f64::NAN,
    }
}

fn answers(decoded: &Decoded) -> Vec<Result<Scalar, Absent>> {
    let lookups = &decoded.lookups;
    let value = |w: &weir_codec::Wanted| {
        let key = usize::from(w.field == 2);
        Ok(Scalar::Float(known(&lookups.entity(key, w.row).unwrap(), w.field)))
    };
    lookups.wanted.iter().map(value).collect()
}

fn floats(batch: &weir_types::Batch) -> Vec<f32> {
    batch.inputs[0].as_f32().unwrap().to_vec()
}

fn errors(rejection: Rejection) -> Vec<(String, Value)> {
    let mut body = Vec::new();
    rejection.write_body(&mut body);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let one = |e: &Value| (e["type"].as_str().unwrap().to_owned(), e["loc"].clone());
    body["detail"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_a_row_does_not_carry_is_wanted_by_its_key() {
    let body = br#"{"rows": [{"user": 5, "shop": "x", "d": 1}, {"a": 2, "c": 3, "d": 4, "user": 6}]}"#;
    let decoded = rows().decode_rows(body).unwrap();
    assert_eq!(rows().decode_rows_fast(body).as_ref(), Some(&decoded));
    let wanted: Vec<_> = decoded.lookups.wanted.iter().map(|w| (w.row, w.field)).collect();
    assert_eq!(wanted, [(0, 0), (0, 1), (0, 2), (1, 1)]);
    assert_eq!(decoded.lookups.entities[0], TensorData::Int64(vec![5, 6]));
    assert_eq!(decoded.lookups.entity(1, 0), Some(Scalar::String("x".into())));
    let found = answers(&decoded);
    let batch = rows().fill(decoded, found).unwrap();
    assert_eq!(floats(&batch), [5.0, 5.125, 1.25, 1.0, 2.0, 6.125, 3.0, 4.0]);
}

#[test]
fn explicit_rows_need_no_key() {
    let body = br#"{"rows": [{"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 1, "c": 3, "d": 4}]}"#;
    let batch = rows().decode(body).unwrap();
    assert_eq!(floats(&batch), [1.0, 2.0, 3.0, 4.0, 1.0, 7.0, 3.0, 4.0]);
}

#[test]
fn without_value_and_key_the_key_is_missing_once() {
    let told = errors(rows().decode_rows(br#"{"rows": [{"d": 1}, {"uid": "x", "c": 1}]}"#).unwrap_err());
    let missing = |row: usize, key: &str| ("missing".to_owned(), json!(["body", "rows", row, key]));
    let unreadable = ("int_parsing".to_owned(), json!(["body", "rows", 1, "uid"]));
    assert_eq!(told, [missing(0, "user"), missing(0, "shop"), missing(1, "d"), unreadable]);
}

#[test]
fn a_key_is_validated_as_any_field() {
    let of = |key: Value| {
        let body = json!({"rows": [{"a": 1, "b": 1, "d": 1, "shop": key}]}).to_string();
        rows().decode_rows(body.as_bytes()).map_err(|e| errors(e)[0].0.clone())
    };
    assert!(of(json!("x")).is_ok());
    assert_eq!(of(json!("")).unwrap_err(), "string_too_short");
    assert_eq!(of(json!("x".repeat(257))).unwrap_err(), "string_too_long");
    assert_eq!(of(json!(3)).unwrap_err(), "string_type");
    assert_eq!(of(json!(null)).unwrap_err(), "string_type");
}

#[test]
fn what_is_not_known_has_its_default_or_is_told_with_the_entity() {
    let decoded = rows().decode_rows(br#"{"rows": [{"user": 5, "c": 1, "d": 1}]}"#).unwrap();
    let absent = || Err(Absent { kind: "feature_missing", msg: "Nothing is known".into() });
    let batch = rows().fill(decoded.clone(), vec![Ok(Scalar::Int(1)), absent()]).unwrap();
    assert_eq!(floats(&batch), [1.0, 7.0, 1.0, 1.0]);
    let mut body = Vec::new();
    rows().fill(decoded, vec![absent(), absent()]).unwrap_err().write_body(&mut body);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let detail = json!([{
        "type": "feature_missing", "loc": ["body", "rows", 0, "a"], "msg": "Nothing is known", "input": 5
    }]);
    assert_eq!(body["detail"], detail);
}

#[test]
fn a_looked_up_value_obeys_the_fields_rules() {
    let decoded = rows().decode_rows(br#"{"rows": [{"user": 5, "b": 1, "c": 1, "d": 1}]}"#).unwrap();
    let told = errors(rows().fill(decoded, vec![Ok(Scalar::Float(100.5))]).unwrap_err());
    assert_eq!(told, [("less_than_equal".to_owned(), json!(["body", "rows", 0, "a"]))]);
}

/// The caller sent the entity and knows nothing of the value: both are named, and what can be done.
#[test]
fn a_looked_up_value_that_is_refused_is_named_with_its_feature_and_entity() {
    let instances = decoder(BodyShape::Instances);
    let row = r#"{"user": 60, "b": 1, "c": 1, "d": 1}"#;
    for (body, loc) in [
        (row.to_owned(), json!(["body", "a"])),
        (format!(r#"{{"instances": [{row}]}}"#), json!(["body", "instances", 0, "a"])),
    ] {
        let decoded = instances.decode_rows(body.as_bytes()).unwrap();
        assert_eq!(instances.decode_rows_fully(body.as_bytes()).as_ref(), Ok(&decoded));
        let refused = instances.fill(decoded, vec![Ok(Scalar::Float(100.5))]).unwrap_err();
        let mut told = Vec::new();
        refused.write_body(&mut told);
        let msg = "`v.f` of `user` 60 is 100.5: Input should be less than or equal to 100. \
                   Send `a`, or put another value of the feature";
        let detail =
            json!([{"type": "less_than_equal", "loc": loc, "msg": msg, "input": 60, "ctx": {"le": 100.0}}]);
        assert_eq!(serde_json::from_slice::<Value>(&told).unwrap()["detail"], detail);
    }
}

#[test]
fn other_decoders_take_explicit_rows_only() {
    let plain = RowDecoder::new(Arc::new(schema()), BodyShape::Row, DecodeLimits::default()).unwrap();
    assert!(plain.decode(br#"{"a": 1, "c": 3, "d": 4}"#).is_ok());
    let told = errors(plain.decode(br#"{"user": 1, "c": 3, "d": 4}"#).unwrap_err());
    assert_eq!(told.iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["missing", "extra_forbidden"]);
    let looking = decoder(BodyShape::Row);
    let told = errors(looking.decode(br#"{"user": 1, "c": 3, "d": 4}"#).unwrap_err());
    assert_eq!(told, [("missing".to_owned(), json!(["body", "a"]))]);
}

#[test]
fn a_column_of_keys_stands_for_columns_of_values() {
    let keys = vec![("users".into(), 4), ("c".into(), 2), ("d".into(), 3)];
    let columns = decoder(BodyShape::Columns { keys });
    let body = br#"{"users": [1, 2], "c": [1, 1], "d": [0, 0]}"#;
    let decoded = columns.decode_rows(body).unwrap();
    assert_eq!(columns.decode_rows_fully(body).as_ref(), Ok(&decoded));
    let wanted: Vec<_> = decoded.lookups.wanted.iter().map(|w| (w.row, w.field)).collect();
    assert_eq!(wanted, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    let short = BodyShape::Columns { keys: vec![("c".into(), 2), ("d".into(), 3)] };
    assert!(RowDecoder::looking_up(Arc::new(schema()), short, DecodeLimits::default()).is_err());
}

/// One row with some of its values, and its keys.
fn row() -> impl Strategy<Value = Map<String, Value>> {
    let number = || option::of((-90..90i32).prop_map(|n| json!(f64::from(n) / 4.0)));
    let lax = prop_oneof![
        (-9..99i64).prop_map(|n| json!(n)),
        (0..99i64).prop_map(|n| json!(n.to_string())),
        (0..9i64).prop_map(|n| json!(n as f64))
    ];
    let shop = prop_oneof!["[a-z]{1,6}".prop_map(Value::from), Just(json!("é\u{1f600}"))];
    let keys = (option::of(lax), option::of(shop), any::<bool>());
    (number(), number(), number(), number(), keys).prop_map(|(a, b, c, d, (user, shop, alias))| {
        let user_key = if alias { "uid" } else { "user" };
        let all = [("a", a), ("b", b), (user_key, user), ("c", c), ("shop", shop), ("d", d)];
        all.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect()
    })
}

proptest! {
    /// Both paths read the same, and a value that is looked up answers as one that is sent.
    #[test]
    fn looked_up_is_as_good_as_sent(list in vec(row(), 1..6)) {
        let body = json!({"rows": list}).to_string();
        let decoded = rows().decode_rows_fully(body.as_bytes());
        if let Some(fast) = rows().decode_rows_fast(body.as_bytes()) {
            prop_assert_eq!(Ok(&fast), decoded.as_ref());
        }
        let Ok(decoded) = decoded else { return Ok(()) };
        let found = answers(&decoded);
        let mut sent = list;
        for (wanted, value) in decoded.lookups.wanted.iter().zip(&found) {
            let Ok(Scalar::Float(x)) = value else { unreachable!() };
            sent[wanted.row].insert(["a", "b", "c", "d"][wanted.field].into(), json!(x));
        }
        for row in &mut sent {
            row.retain(|key, _| key.len() == 1);
        }
        let filled = rows().fill(decoded, found).unwrap();
        prop_assert_eq!(Ok(filled), rows().decode(json!({"rows": sent}).to_string().as_bytes()));
    }
}
