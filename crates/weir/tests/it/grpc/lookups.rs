//! Tables that name an entity instead of holding what is known of it: V2 over both transports looks up
//! what the typed face does.

use std::fs::{self, OpenOptions};
use std::io::Write;

use serde_json::{Value, json};
use tonic::{Code, Request};
use weir_api::grpc::wire::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    model_infer_request::InferInputTensor,
};

use super::client::{Client, INFERENCE};
use crate::{
    client::{Connection, Response, ask, get, request},
    server::Server,
    state::{folder, serve},
};

const INFER: &str = "/v2/models/housing/infer";
const FIELDS: [(&str, f32); 6] = [
    ("HouseAge", 38.0),
    ("AveRooms", 5.4),
    ("AveBedrms", 0.97),
    ("AveOccup", 3.49),
    ("Latitude", 34.18),
    ("Longitude", -118.17),
];
/// The fields that are looked up, with what is known of blocks 42 and 43.
const KNOWN: [(&str, [f32; 2]); 2] = [("MedInc", [4.375, 2.5]), ("Population", [828.0, 1200.0])];

/// A server whose housing model shows its fields as inputs, and that knows two blocks.
fn knowing() -> (tempfile::TempDir, Server) {
    let place = folder("");
    let manifest = place.path().join("housing/model.toml");
    let mut manifest = OpenOptions::new().append(true).open(manifest).unwrap();
    manifest.write_all(b"\n[v2]\ncolumns = true\n").unwrap();
    let server = serve(place.path());
    let put = |method, path: &str, body: Value| {
        let answer = ask(server.address, method, path, Some(body.to_string().as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for (i, block) in [42, 43].into_iter().enumerate() {
        let income = json!({"values": {"income": KNOWN[0].1[i]}, "event_time": "2026-11-01T00:00:00Z"});
        put("PUT", &format!("/v1/features/census/{block}"), income);
        put("POST", "/v1/events/arrivals", json!({"entity": block, "values": {"people": KNOWN[1].1[i]}}));
    }
    (place, server)
}

/// A column of JSON.
fn column(name: &str, datatype: &str, data: &Value) -> Value {
    json!({"name": name, "shape": [data.as_array().unwrap().len(), 1], "datatype": datatype, "data": data})
}

/// Two rows: what each of them has, without what is looked up.
fn rest() -> Vec<Value> {
    FIELDS.iter().map(|(name, value)| column(name, "FP32", &json!([value, value]))).collect()
}

fn blocks(numbers: [i64; 2]) -> Value {
    column("block_id", "INT64", &json!(numbers))
}

fn infer(server: &Server, inputs: &[Value]) -> Response {
    ask(server.address, "POST", INFER, Some(json!({ "inputs": inputs }).to_string().as_bytes()))
}

/// The values of each output: classes and probabilities.
fn values(response: &Response) -> Vec<Vec<f32>> {
    assert_eq!(response.status, 200, "{}", response.text());
    let json = response.json();
    let outputs = json["outputs"].as_array().unwrap().iter();
    let numbers =
        |data: &Value| data.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect();
    outputs.map(|output| numbers(&output["data"])).collect()
}

/// The answer to the explicit values.
fn expected(server: &Server) -> Vec<Vec<f32>> {
    let mut inputs = rest();
    inputs.extend(KNOWN.iter().map(|(name, known)| column(name, "FP32", &json!(known))));
    let answer = infer(server, &inputs);
    assert!(answer.header("weir-feature-asof").next().is_none(), "nothing was looked up");
    values(&answer)
}

#[test]
fn rows_are_completed_as_on_the_typed_face() {
    let (_place, server) = knowing();
    let described = get(server.address, "/v2/models/housing").json();
    let inputs = described["inputs"].as_array().unwrap();
    assert_eq!(inputs.len(), 9, "eight fields and a key");
    assert_eq!(inputs[8], json!({"name": "block_id", "datatype": "INT64", "shape": [-1, 1]}));
    let expected = expected(&server);
    let keyed = || [rest(), vec![blocks([42, 43])]].concat();
    let answer = infer(&server, &keyed());
    assert_eq!(values(&answer), expected);
    assert!(answer.header("weir-feature-asof").eq(["2026-11-01T00:00:00Z"]));
    // Half of it is sent: a value that is there counts.
    let income = column("MedInc", "FP32", &json!(KNOWN[0].1));
    assert_eq!(values(&infer(&server, &[keyed(), vec![income]].concat())), expected);
    // The key as bytes behind the JSON.
    let mut inputs = keyed();
    let key = inputs.last_mut().unwrap().as_object_mut().unwrap();
    key.remove("data");
    key.insert("parameters".into(), json!({"binary_data_size": 16}));
    let json = json!({ "inputs": inputs }).to_string();
    let body = [json.as_bytes(), &42i64.to_le_bytes(), &43i64.to_le_bytes()].concat();
    let length = [("Inference-Header-Content-Length".to_owned(), json.len().to_string())];
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&request("POST", INFER, &length, Some(&body))).unwrap();
    assert_eq!(values(&connection.receive(false).unwrap()), expected);
    // One look-up of each is told, as of every other stage.
    let metrics = get(server.address, "/metrics").text();
    assert!(
        metrics
            .contains(r#"weir_stage_duration_seconds_count{stage="features",model="housing",version="1"} 3"#),
        "{metrics}"
    );
    server.stop();
}

#[test]
fn what_is_not_known_is_told() {
    let (_place, server) = knowing();
    let unknown = infer(&server, &[rest(), vec![blocks([42, 7])]].concat());
    let text = unknown.text();
    assert_eq!(unknown.status, 422, "{text}");
    assert!(text.contains("`census.income` is not known of `block_id` 7: send `MedInc`"), "{text}");
    let keyless = infer(&server, &rest());
    assert_eq!(keyless.status, 400);
    assert!(keyless.text().contains("`MedInc` is missing, and `block_id`, by which"), "{}", keyless.text());
    server.stop();
    // Without columns, tensors hold every value.
    let place = folder("");
    let server = serve(place.path());
    let own = infer(&server, &[blocks([42, 43])]);
    assert_eq!(own.status, 400);
    assert!(own.text().contains("(input), which hold every value"), "{}", own.text());
    assert!(fs::read_to_string(place.path().join("housing/model.toml")).unwrap().contains("from ="));
    server.stop();
}

fn input(name: &str, datatype: &str, contents: InferTensorContents) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![2, 1],
        contents: Some(contents),
        ..Default::default()
    }
}

/// The two rows by their keys.
fn by_key(blocks: [i64; 2]) -> ModelInferRequest {
    let floats = |value: f32| InferTensorContents { fp32_contents: vec![value; 2], ..Default::default() };
    let mut inputs: Vec<_> = FIELDS.iter().map(|(name, value)| input(name, "FP32", floats(*value))).collect();
    let keys = InferTensorContents { int64_contents: blocks.into(), ..Default::default() };
    inputs.push(input("block_id", "INT64", keys));
    ModelInferRequest { model_name: "housing".into(), inputs, ..Default::default() }
}

/// The same with raw contents.
fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().unwrap();
        let floats = contents.fp32_contents.iter().flat_map(|x| x.to_le_bytes());
        let bytes: Vec<u8> =
            floats.chain(contents.int64_contents.iter().flat_map(|n| n.to_le_bytes())).collect();
        request.raw_input_contents.push(bytes.into());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_completed_too() {
    let (_place, server) = knowing();
    let expected = expected(&server);
    let client = Client::connect(server.address).await;
    let question = ModelMetadataRequest { name: "housing".into(), version: String::new() };
    let described: ModelMetadataResponse = client.ask("ModelMetadata", question).await.unwrap();
    let key = described.inputs.last().unwrap();
    assert_eq!(
        (key.name.as_str(), key.datatype.as_str(), &key.shape[..]),
        ("block_id", "INT64", &[-1, 1][..])
    );
    let typed = Request::new(by_key([42, 43]));
    let typed = client.respond::<_, ModelInferResponse>(INFERENCE, "ModelInfer", typed).await.unwrap();
    assert_eq!(typed.metadata().get("weir-feature-asof").unwrap(), "2026-11-01T00:00:00Z");
    let numbers = |contents: &InferTensorContents| -> Vec<f32> {
        let whole = contents.int64_contents.iter().map(|n| *n as f32);
        whole.chain(contents.fp32_contents.iter().copied()).collect()
    };
    let told = typed.get_ref().outputs.iter().map(|output| numbers(output.contents.as_ref().unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let answer: ModelInferResponse = client.ask("ModelInfer", raw(by_key([42, 43]))).await.unwrap();
    let told = answer.outputs.iter().zip(&answer.raw_output_contents).map(|(output, bytes)| -> Vec<f32> {
        match output.datatype.as_str() {
            "FP32" => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            _ => bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
        }
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let (code, message) = client.refused(by_key([42, 7])).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("`census.income` is not known of `block_id` 7"), "{message}");
    server.stop();
}
