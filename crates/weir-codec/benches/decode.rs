//! Nanoseconds a row of the decoder, beside serde_json into a struct that was written for
//! the purpose: `cargo bench -p weir-codec`.
//!
//! A plain program: medians over batches of a few milliseconds tell enough here, and cost
//! no dependency.

// A program for developers: it prints, and stops at the first surprise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{hint::black_box, sync::Arc, time::Instant};

use serde::Deserialize;
use weir_codec::{BodyShape, DecodeLimits, RowDecoder};
use weir_types::{DType, Dim, Field, InputSlot, Schema};

const ROW: &str = r#"{"MedInc":8.3252,"HouseAge":41.0,"AveRooms":6.984126984126984,"AveBedrms":1.0238095238095237,"Population":322.0,"AveOccup":2.5555555555555554,"Latitude":37.88,"Longitude":-122.23}"#;

/// The same row by hand: the floor for a decoder on serde_json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[allow(dead_code)] // only decoded
struct House {
    med_inc: f64,
    house_age: f64,
    ave_rooms: f64,
    ave_bedrms: f64,
    population: f64,
    ave_occup: f64,
    latitude: f64,
    longitude: f64,
}

#[derive(Deserialize)]
#[allow(dead_code)] // only decoded
struct Houses {
    houses: Vec<House>,
}

#[derive(Deserialize)]
#[allow(dead_code)] // only decoded
struct Texts {
    text: Vec<String>,
}

fn housing(shape: BodyShape) -> RowDecoder {
    let names =
        ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];
    let field = |(i, name): (usize, &&str)| {
        let mut field = Field::new(*name, DType::Float32, 0, i);
        field.rules.ge = Some(match *name {
            "Latitude" => -90.0,
            "Longitude" => -180.0,
            _ => 0.0,
        });
        field
    };
    let mut fields: Vec<_> = names.iter().enumerate().map(field).collect();
    fields[6].rules.le = Some(90.0);
    fields[7].rules.le = Some(180.0);
    let slot = InputSlot { name: "input".into(), dtype: DType::Float32, row_shape: vec![Dim::Fixed(8)] };
    decoder(Schema { fields, inputs: vec![slot], ..Schema::default() }, shape)
}

fn texts() -> RowDecoder {
    let slot = InputSlot { name: "text".into(), dtype: DType::String, row_shape: vec![] };
    let schema = Schema {
        fields: vec![Field::new("text", DType::String, 0, 0)],
        inputs: vec![slot],
        ..Schema::default()
    };
    decoder(schema, BodyShape::Columns { keys: vec![("text".into(), 0)] })
}

fn decoder(schema: Schema, shape: BodyShape) -> RowDecoder {
    RowDecoder::new(Arc::new(schema), shape, DecodeLimits::default()).unwrap()
}

/// Median nanoseconds of one call over 201 batches of about 1 ms.
fn median_ns(mut call: impl FnMut()) -> f64 {
    let mut batch = |n: u32| {
        let start = Instant::now();
        (0..n).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(n)
    };
    let calls = (1e6 / batch(200)).clamp(1.0, 1e6) as u32;
    let mut times: Vec<f64> = (0..201).map(|_| batch(calls)).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn compare(what: &str, rows: usize, body: &str, decoder: &RowDecoder, by_hand: impl Fn(&str)) {
    let bytes = body.as_bytes();
    assert!(decoder.decode_fast(bytes).is_some(), "{what} does not take the good path");
    let a_row = |ns: f64| ns / rows as f64;
    let good = a_row(median_ns(|| drop(black_box(decoder.decode(black_box(bytes))))));
    let complete = a_row(median_ns(|| drop(black_box(decoder.decode_fully(black_box(bytes))))));
    let typed = a_row(median_ns(|| by_hand(black_box(body))));
    println!("{what:<20} {good:>9.0} {complete:>9.0} {typed:>9.0}");
}

fn main() {
    println!("{:<20} {:>9} {:>9} {:>9}   ns/row, median", "", "decode", "complete", "serde");
    let row = housing(BodyShape::Row);
    let rows = housing(BodyShape::Rows { key: "houses".into() });
    let many = format!("{{\"houses\":[{}]}}", vec![ROW; 32].join(","));
    let text = r#"{"text":["a masterpiece of quiet restraint, and the best thing I have seen all year"]}"#;
    compare("housing, 1 row", 1, ROW, &row, |b| drop(black_box(serde_json::from_str::<House>(b))));
    compare("housing, 32 rows", 32, &many, &rows, |b| drop(black_box(serde_json::from_str::<Houses>(b))));
    compare("text, 1 row", 1, text, &texts(), |b| drop(black_box(serde_json::from_str::<Texts>(b))));
}
