//! The good path and the complete path agree, whatever the bytes.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};
use weir_codec::{BodyShape, DecodeLimits, RowDecoder};
use weir_types::{Batch, Tensor, TensorData};

use crate::schemas;

/// Pieces that bodies are made of: more of them are nearly right than random bytes are.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\"",
    "\\",
    "\"x\"",
    "\"y\"",
    "\"rows\"",
    "\"a\"",
    "\"A\"",
    "\"b\"",
    "\"c\"",
    "\"open\"",
    "\"pair\"",
    "\"text\"",
    "\"instances\"",
    "1",
    "-0",
    "-0.0",
    "1.5",
    "1e999",
    "NaN",
    "null",
    "true",
    "\"1\"",
    "\"\\ud800\"",
    "[1,2]",
    "[]",
    "{}",
    "{\"x\":1,\"y\":2}",
    "{\"y\":2,\"x\":1}",
    "{\"x\":1,\"y\":2,\"x\":3}",
    "{\"rows\":[",
    "{\"a\":1,\"c\":\"é\"}",
    "{\"a\":1,\"c\":\"\",\"d\":",
    "99999999999999999999",
    "0.1",
    "\u{feff}",
    "]}",
    "\n",
];

/// The good path answers only as the complete path does.
pub(crate) fn agree(decoder: &RowDecoder, body: &[u8]) {
    let whole = decoder.decode_fully(body);
    if let Some(fast) = decoder.decode_fast(body) {
        assert!(
            whole.as_ref().is_ok_and(|w| same(w, &fast)),
            "{fast:?}, but the complete path has {whole:?}"
        );
    }
}

/// Equal to the bit, with all NaNs alike.
fn same(a: &Batch, b: &Batch) -> bool {
    let bits = |t: &Tensor| match t.data() {
        TensorData::Float32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        TensorData::Float64(v) => v.iter().map(|x| x.to_bits()).collect(),
        _ => Vec::new(),
    };
    let equal = |(x, y): (&Tensor, &Tensor)| {
        x.shape() == y.shape()
            && x.dtype() == y.dtype()
            && bits(x) == bits(y)
            && (x.dtype().is_float() || x == y)
    };
    a.rows == b.rows && a.inputs.len() == b.inputs.len() && a.inputs.iter().zip(&b.inputs).all(equal)
}

/// A valid row of the housing schema with its keys in any order.
fn house_row() -> impl Strategy<Value = String> {
    let number =
        prop_oneof![(0u32..90).prop_map(|n| n.to_string()), (0.0f64..90.0).prop_map(|x| format!("{x}"))];
    (
        Just([
            "MedInc",
            "HouseAge",
            "AveRooms",
            "AveBedrms",
            "Population",
            "AveOccup",
            "Latitude",
            "Longitude",
        ])
        .prop_shuffle(),
        vec(number, 8),
        any::<bool>(),
    )
        .prop_map(|(mut keys, values, declared)| {
            if declared {
                keys = [
                    "MedInc",
                    "HouseAge",
                    "AveRooms",
                    "AveBedrms",
                    "Population",
                    "AveOccup",
                    "Latitude",
                    "Longitude",
                ];
            }
            let pairs: Vec<_> = keys.iter().zip(values).map(|(k, v)| format!("\"{k}\":{v}")).collect();
            format!("{{{}}}", pairs.join(", "))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_pieces_of_json(pieces in vec(select(&PIECES[..]), 0..24)) {
        let body = pieces.concat();
        for (_, decoder) in decoders() {
            agree(decoder, body.as_bytes());
        }
    }

    #[test]
    fn on_any_bytes(body in vec(any::<u8>(), 0..64)) {
        for (_, decoder) in decoders() {
            agree(decoder, &body);
        }
    }

    #[test]
    fn the_good_path_takes_what_is_good(rows in vec(house_row(), 0..6)) {
        let body = format!("{{\"houses\": [{}]}}", rows.join(","));
        let (_, decoder) = decoders().iter().find(|(name, _)| name == "houses").unwrap();
        prop_assert_eq!(decoder.decode_fast(body.as_bytes()).map(|b| b.rows), Some(rows.len()));
        agree(decoder, body.as_bytes());
    }

    #[test]
    fn cut_and_changed_bodies_never_panic(row in house_row(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = row.into_bytes();
        let at = at.index(body.len());
        let (_, decoder) = decoders().iter().find(|(name, _)| name == "house").unwrap();
        agree(decoder, &body[..at]);
        body[at] = byte;
        agree(decoder, &body);
    }
}

fn decoders() -> &'static [(String, RowDecoder)] {
    static ALL: std::sync::OnceLock<Vec<(String, RowDecoder)>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = schemas::decoders();
        let schema = Arc::clone(schemas::decoder("lenient").schema());
        let instances = RowDecoder::new(schema, BodyShape::Instances, DecodeLimits::default()).unwrap();
        all.push(("instances".into(), instances));
        all
    })
}
