//! Whatever the body, work and answer are bounded.

use std::sync::Arc;

use weir_codec::{BodyShape, CodecError, DecodeLimits, Rejection, RowDecoder};
use weir_types::{DType, Dim, Extra, Field, InputSlot, Scalar, Schema};

use crate::schemas;

fn answer(decoder: &RowDecoder, body: &str) -> String {
    let mut out = Vec::new();
    decoder.decode(body.as_bytes()).unwrap_err().write_body(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_million_levels_are_refused_even_in_an_ignored_field() {
    let lenient = schemas::decoder("lenient");
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        let deep = format!("{}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
        let body = format!("{{\"a\":1,\"c\":\"\",\"ignored\":{deep}}}");
        assert_eq!(lenient.decode(body.as_bytes()), Err(Rejection::Unparsable));
        assert_eq!(lenient.decode(deep.as_bytes()), Err(Rejection::Unparsable));
    }
}

#[test]
fn the_depth_limit_is_exact_on_both_paths() {
    let lenient = schemas::decoder("lenient");
    for (levels, ok) in [(63, true), (64, false)] {
        let body = format!("{{\"a\":1,\"c\":\"\",\"ignored\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(lenient.decode_fast(body.as_bytes()).is_some(), ok, "{levels}");
        assert_eq!(lenient.decode_fully(body.as_bytes()).is_ok(), ok, "{levels}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_refused_even_in_an_ignored_field() {
    let lenient = schemas::decoder("lenient");
    assert_eq!(lenient.decode(b"{\"a\":1,\"c\":\"\",\"d\":\"\xff\"}"), Err(Rejection::Unparsable));
}

#[test]
fn answers_to_large_bodies_stay_small() {
    let houses = schemas::decoder("many");
    let bodies = [
        format!("{{\"rows\":[{}]}}", vec!["{}"; 390].join(",")),
        format!("{{\"rows\":[{}]}}", vec!["1"; 100_000].join(",")),
        format!("{{\"rows\":[{{\"x\":\"{}\"}}]}}", "a".repeat(1_000_000)),
        format!("{{\"{}\":1}}", "k".repeat(1_000_000)),
        format!("{{{}}}", (0..50_000).map(|i| format!("\"k{i}\":0")).collect::<Vec<_>>().join(",")),
        format!("{{\"rows\":[{{\"x\":{},\"y\":1}}]}}", "9".repeat(4300)),
    ];
    for body in bodies {
        let text = answer(&houses, &body);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        assert!(text.len() < 100 * 1200, "{} bytes for {}", text.len(), &body[..60]);
    }
}

#[test]
fn the_limit_of_errors_holds() {
    let Err(Rejection::Invalid(errors)) =
        schemas::decoder("many").decode(format!("{{\"rows\":[{}]}}", vec!["{}"; 390].join(",")).as_bytes())
    else {
        panic!("accepted");
    };
    assert_eq!(errors.len(), 100);
}

fn text_field(default: Option<Scalar>, shape: Vec<Dim>) -> Result<RowDecoder, CodecError> {
    let mut field = Field::new("t", DType::String, 0, 0);
    field.default = default;
    field.shape = shape.clone();
    let slot = InputSlot { name: "t".into(), dtype: DType::String, row_shape: shape };
    let schema =
        Schema { fields: vec![field], inputs: vec![slot], extra: Extra::Forbid, ..Schema::default() };
    RowDecoder::new(Arc::new(schema), BodyShape::Row, DecodeLimits::default())
}

#[test]
fn what_cannot_be_decoded_is_told_when_the_decoder_is_built() {
    let wrong = text_field(Some(Scalar::Int(1)), vec![]).unwrap_err();
    assert_eq!(wrong.to_string(), "field `t`: default 1 is no string");
    let open = text_field(Some(Scalar::String("x".into())), vec![Dim::Any(None)]).unwrap_err();
    assert_eq!(open, CodecError::DefaultLength("t".into()));
    assert!(text_field(None, vec![Dim::Any(None)]).is_ok());
}
