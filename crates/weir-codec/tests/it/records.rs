//! Records: features that are put, events of a stream.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use weir_codec::{DecodeLimits, Record, RecordDecoder, RecordPart, RecordShape, Rejection};
use weir_types::Scalar;

fn events() -> RecordDecoder {
    RecordDecoder::new(RecordShape::OneOrList("events"), true, DecodeLimits::default())
}

fn put() -> RecordDecoder {
    RecordDecoder::new(RecordShape::Nameless, false, DecodeLimits::default())
}

fn told(result: Result<weir_codec::Records, Rejection>) -> Vec<(String, Value)> {
    let mut body = Vec::new();
    result.unwrap_err().write_body(&mut body);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let one = |e: &Value| (e["type"].as_str().unwrap().to_owned(), e["loc"].clone());
    body["detail"].as_array().unwrap().iter().map(one).collect()
}

fn time(written: Value) -> Result<Option<i64>, Rejection> {
    let body = json!({"values": {"a": 1}, "event_time": written}).to_string();
    put().decode(body.as_bytes()).map(|all| all.records[0].event_time_micros)
}

#[test]
fn one_and_many_are_read() {
    let body = br#"{"entity": 42, "event_time": "2026-01-31T12:00:00.5Z", "id": "x",
                    "values": {"amount": 3, "ok": true, "s": "\u00e9", "f": 0.5}}"#;
    let one = events().decode(body).unwrap();
    let record = Record {
        entity: Some(Scalar::Int(42)),
        event_time_micros: Some(1_769_860_800_500_000),
        id: Some("x".into()),
        values: vec![
            ("amount".into(), Scalar::Int(3)),
            ("ok".into(), Scalar::Bool(true)),
            ("s".into(), Scalar::String("é".into())),
            ("f".into(), Scalar::Float(0.5)),
        ],
    };
    assert_eq!((one.listed, &one.records[..]), (false, &[record][..]));
    let many = events().decode(br#"{"events": [{"entity": "a"}, {"entity": "b", "values": {}}]}"#).unwrap();
    assert!(many.listed && many.records.len() == 2 && many.records[0].values.is_empty());
}

#[test]
fn a_whole_number_names_an_entity_however_it_is_written() {
    let entity = |written: &str| {
        let read = events().decode(format!(r#"{{"entity": {written}}}"#).as_bytes());
        read.map(|all| all.records[0].entity.clone().unwrap())
    };
    for written in ["42", "42.0", "4.2e1"] {
        assert_eq!(entity(written), Ok(Scalar::Int(42)), "{written}");
    }
    for none in ["42.5", "1e19", "1e999", "-1e19", "NaN"] {
        assert!(entity(none).is_err(), "{none}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let body = br#"{"events": [{"values": {"a": null, "b": [1]}, "extra": 1}, 3,
                    {"entity": 1.5, "id": 7, "event_time": "yesterday", "values": 1},
                    {"entity": 99999999999999999999, "values": {"x": NaN, "y": "\ud800"}}], "more": 1}"#;
    let at = |kind: &str, loc: Value| {
        let mut whole = vec![json!("body")];
        whole.extend(loc.as_array().unwrap().iter().cloned());
        (kind.to_owned(), Value::from(whole))
    };
    let want = [
        at("missing", json!(["events", 0, "entity"])),
        at("scalar_type", json!(["events", 0, "values", "a"])),
        at("scalar_type", json!(["events", 0, "values", "b"])),
        at("extra_forbidden", json!(["events", 0, "extra"])),
        at("model_attributes_type", json!(["events", 1])),
        at("string_type", json!(["events", 2, "entity"])),
        at("datetime_parsing", json!(["events", 2, "event_time"])),
        at("string_type", json!(["events", 2, "id"])),
        at("dict_type", json!(["events", 2, "values"])),
        at("int_parsing_size", json!(["events", 3, "entity"])),
        at("finite_number", json!(["events", 3, "values", "x"])),
        at("string_unicode", json!(["events", 3, "values", "y"])),
        at("extra_forbidden", json!(["more"])),
    ];
    assert_eq!(told(events().decode(body)), want);
}

#[test]
fn bodies_of_another_shape_are_refused() {
    let bulk = RecordDecoder::new(RecordShape::List("rows"), false, DecodeLimits::default());
    let missing = ("missing".to_owned(), json!(["body", "rows"]));
    assert_eq!(told(bulk.decode(br#"{"entity": 1, "values": {}}"#)), [missing]);
    assert_eq!(told(put().decode(b"[]"))[0].0, "model_attributes_type");
    assert_eq!(told(put().decode(b"{}")), [("missing".to_owned(), json!(["body", "values"]))]);
    let entity = ("extra_forbidden".to_owned(), json!(["body", "entity"]));
    assert_eq!(told(put().decode(br#"{"values": {"a": 1}, "entity": 1}"#)), [entity]);
    let most = DecodeLimits { max_rows: 1, ..DecodeLimits::default() };
    let few = RecordDecoder::new(RecordShape::List("rows"), false, most);
    assert_eq!(told(few.decode(br#"{"rows": [{}, {}]}"#))[0].0, "too_long");
    assert_eq!(put().decode(&[0xff]), Err(Rejection::Unparsable));
}

#[test]
fn event_times_are_rfc_3339_or_seconds() {
    assert_eq!(time(json!("1970-01-01T01:00:00+01:00")), Ok(Some(0)));
    assert_eq!(time(json!(1.5)), Ok(Some(1_500_000)));
    assert_eq!(time(json!(-2)), Ok(Some(-2_000_000)));
    for bad in
        [json!("1970-01-01T00:00:00"), json!("x"), json!(true), json!(null), json!(1e300), json!(i64::MAX)]
    {
        assert!(time(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn what_a_receiver_finds_is_told_in_the_same_form() {
    let error = events().error(true, (3, RecordPart::Value("x")), "is too much", Some(&Scalar::Float(2.0)));
    let mut body = Vec::new();
    Rejection::Invalid(vec![error]).write_body(&mut body);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let want = json!([{"type": "value_error", "loc": ["body", "events", 3, "values", "x"],
        "msg": "Value error, is too much", "input": 2.0, "ctx": {"error": {}}}]);
    assert_eq!(body["detail"], want);
    let whole = put().error(false, (0, RecordPart::Entity), "is none", None);
    assert_eq!(whole.loc.len(), 2);
}

/// Pieces of bodies: more of them are nearly right than random bytes are.
const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"events\"",
    "\"entity\"",
    "\"values\"",
    "\"event_time\"",
    "\"id\"",
    "\"x\"",
    "1",
    "1e999",
    "-0",
    "null",
    "true",
    "\"2026-01-31T12:00:00Z\"",
    "\"\\ud800\"",
    "99999999999999999999",
    "{\"entity\":1}",
    "{\"events\":[",
    "{\"entity\":\"a\",\"values\":{\"x\":",
    "]}",
];

proptest! {
    /// Whatever comes, it is read or told within bounds.
    #[test]
    fn no_body_is_too_odd(pieces in vec(select(&PIECES[..]), 0..24)) {
        let body = pieces.concat();
        for decoder in [events(), put()] {
            match decoder.decode(body.as_bytes()) {
                Ok(all) => prop_assert!(all.records.len() <= DecodeLimits::default().max_rows),
                Err(Rejection::Unparsable) => {}
                Err(Rejection::Invalid(errors)) => prop_assert!((1..=100).contains(&errors.len())),
            }
        }
    }
}
