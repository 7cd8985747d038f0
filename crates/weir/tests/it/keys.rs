//! `Idempotency-Key` on the faces that other protocols have: V2 over REST, and OpenAI's embeddings.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::{
    client::{Connection, Response, request},
    drain::serve,
    metrics::metric,
    server::Server,
};

/// One request under `key`, with more headers.
fn under(server: &Server, path: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers: Vec<_> = [("Content-Type", "application/json"), ("Idempotency-Key", key)]
        .iter()
        .chain(headers)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&request("POST", path, &headers, Some(body))).unwrap();
    connection.receive(false).unwrap()
}

fn is_replayed(response: &Response) -> bool {
    response.header("idempotency-replayed").eq(["true"])
}

fn rows(server: &Server, model: &str) -> f64 {
    metric(server.address, &format!("weir_rows_total{{model=\"{model}\",version=\"1\"}}"))
}

const INFER: &str = "/v2/models/housing/infer";

fn houses(rows: usize) -> Vec<u8> {
    let row = [4.375, 38.0, 5.4, 0.97, 828.0, 3.49, 34.18, -118.17];
    let input = json!({"name": "input", "shape": [rows, 8], "datatype": "FP32", "data": vec![row; rows]});
    json!({ "inputs": [input] }).to_string().into_bytes()
}

#[test]
fn tensors_under_a_key_run_once() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let first = under(&server, INFER, "k-1", &[], &houses(300));
    assert_eq!((first.status, is_replayed(&first)), (200, false), "{}", first.text());
    let again = under(&server, INFER, "k-1", &[], &houses(300));
    assert_eq!((again.status, is_replayed(&again)), (200, true));
    assert_eq!(again.json(), first.json());
    assert!(again.header("x-weir-model").eq(["housing/1"]));
    // What is kept is not compressed: whoever asks again takes it as it likes.
    let small = under(&server, INFER, "k-1", &[("Accept-Encoding", "gzip")], &houses(300));
    assert!(is_replayed(&small) && small.header("content-encoding").eq(["gzip"]));
    let mut plain = String::new();
    GzDecoder::new(&*small.body).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, first.text());
    assert_eq!(rows(&server, "housing"), 300.0, "run once");
    // Other tensors, and the same bytes read otherwise.
    let raw = [("Inference-Header-Content-Length", "0")];
    for other in
        [under(&server, INFER, "k-1", &[], &houses(1)), under(&server, INFER, "k-1", &raw, &houses(300))]
    {
        assert_eq!(other.status, 422, "{}", other.text());
        assert!(other.json()["error"].as_str().unwrap().contains("Another request has used this key"));
    }
    server.stop();
}

#[test]
fn mistakes_in_tensors_are_kept_and_keys_are_checked() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    for body in [&b"{"[..], br#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}"#]
    {
        let key = format!("k-{}", body.len());
        let told = [under(&server, INFER, &key, &[], body), under(&server, INFER, &key, &[], body)];
        assert_eq!(told.each_ref().map(|t| (t.status, is_replayed(t))), [(400, false), (400, true)]);
        assert_eq!(told[0].json(), told[1].json());
    }
    let two = under(&server, INFER, "a", &[("Idempotency-Key", "b")], &houses(1));
    assert!(two.status == 400 && two.text().contains("more than one Idempotency-Key"), "{}", two.text());
    let none = under(&server, INFER, "a b", &[], &houses(1));
    assert!(none.status == 400 && none.text().contains("visible ASCII"), "{}", none.text());
    server.stop();
}

#[test]
fn texts_under_a_key_are_embedded_once() {
    let (_place, server) = serve(&["crates/weir-artifact/tests/formats/hf/embedder-mean"], "");
    let ask =
        |key: &str, body: &Value| under(&server, "/v1/embeddings", key, &[], body.to_string().as_bytes());
    let body = json!({"model": "embedder-mean", "input": ["a text", "another"]});
    let told = [ask("k-1", &body), ask("k-1", &body)];
    assert_eq!(told.each_ref().map(|t| (t.status, is_replayed(t))), [(200, false), (200, true)]);
    assert_eq!(told[0].json(), told[1].json());
    assert_eq!(rows(&server, "embedder-mean"), 2.0, "run once");
    let other = ask("k-1", &json!({"model": "embedder-mean", "input": "a text"}));
    assert_eq!((other.status, &other.json()["error"]["code"]), (422, &json!("validation_failed")));
    // A mistake of the request is kept, in OpenAI's form.
    let wrong = json!({"model": "embedder-mean", "input": "a text", "dimensions": 1});
    let told = [ask("k-2", &wrong), ask("k-2", &wrong)];
    assert_eq!(told.each_ref().map(|t| (t.status, is_replayed(t))), [(400, false), (400, true)]);
    assert_eq!(told[1].json()["error"]["param"], json!("dimensions"));
    server.stop();
}
