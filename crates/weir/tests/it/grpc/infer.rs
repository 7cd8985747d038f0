//! `ModelInfer`: answers, and what is refused.

use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, codec::CompressionEncoding};
use weir_api::grpc::wire::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
};

use super::client::{Client, houses, raw, typed};
use crate::{client::ask, drain::serve, server::Server};

fn housing() -> (tempfile::TempDir, Server) {
    serve(&["examples/models/housing"], "max_body = \"1MiB\"")
}

/// The probabilities of the typed face for the same rows.
fn by_json(server: &Server, rows: &[[f32; 8]]) -> Vec<f32> {
    let names =
        ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"];
    let row = |row: &[f32; 8]| -> Value {
        names
            .iter()
            .zip(row)
            .map(|(n, x)| ((*n).to_owned(), json!(x)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let body = json!({ "instances": rows }).to_string();
    let path = "/v1/models/housing:predict?outputs=output:probabilities";
    let answer = ask(server.address, "POST", path, Some(body.as_bytes()));
    assert_eq!(answer.status, StatusCode::OK.as_u16(), "{}", answer.text());
    let answer = answer.json();
    let rows = answer["predictions"].as_array().unwrap().iter();
    let values = rows.flat_map(|row| row["output:probabilities"].as_array().unwrap());
    values.map(|p| p.as_f64().unwrap() as f32).collect()
}

fn raw_floats(response: &ModelInferResponse, output: usize) -> Vec<f32> {
    let bytes = &response.raw_output_contents[output];
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_typed_and_json_have_the_same_answers() {
    let (_place, server) = housing();
    let client = Client::connect(server.address).await;
    for count in [1, 3, 100] {
        let rows = houses(count);
        let typed: ModelInferResponse = client.ask("ModelInfer", typed(&rows)).await.unwrap();
        let raw: ModelInferResponse = client.ask("ModelInfer", raw(&rows)).await.unwrap();
        assert_eq!((typed.model_name.as_str(), typed.id.as_str()), ("housing", "7"));
        assert!(typed.raw_output_contents.is_empty());
        assert_eq!(raw.outputs.len(), raw.raw_output_contents.len());
        assert!(raw.outputs.iter().all(|o| o.contents.is_none()));
        for (typed, raw) in typed.outputs.iter().zip(&raw.outputs) {
            assert_eq!((&typed.name, &typed.shape), (&raw.name, &raw.shape));
        }
        let at = typed.outputs.iter().position(|o| o.name == "probabilities").unwrap();
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let contents = &typed.outputs[at].contents.as_ref().unwrap().fp32_contents;
        assert_eq!(bits(contents), bits(&raw_floats(&raw, at)));
        assert_eq!(bits(contents), bits(&by_json(&server, &rows)), "{count} rows");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_answered_as_asked_for() {
    let (_place, server) = housing();
    let client = Client::connect(server.address).await;
    let all: ModelInferResponse = client.ask("ModelInfer", typed(&houses(2))).await.unwrap();
    let last = all.outputs.last().unwrap().clone();
    let output = |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
    let one = ModelInferRequest { outputs: vec![output(&last.name)], ..typed(&houses(2)) };
    let one: ModelInferResponse = client.ask("ModelInfer", one).await.unwrap();
    assert_eq!(one.outputs, [last]);
    let unknown = ModelInferRequest { outputs: vec![output("nothing")], ..typed(&houses(1)) };
    assert_eq!(client.refused(unknown).await.0, Code::InvalidArgument);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_reason() {
    let (_place, server) = housing();
    let client = Client::connect(server.address).await;
    let change = |with: fn(&mut ModelInferRequest)| {
        let mut request = raw(&houses(1));
        with(&mut request);
        request
    };
    let floats = |n: usize| InferTensorContents { fp32_contents: vec![1.0; n], ..Default::default() };
    let cases: Vec<(ModelInferRequest, Code, &str)> = vec![
        (change(|r| r.model_name = "nothing".into()), Code::NotFound, "no model"),
        (change(|r| r.model_name = "../x".into()), Code::NotFound, "no model"),
        (change(|r| r.model_version = "99".into()), Code::NotFound, "no such version"),
        (
            ModelInferRequest { raw_input_contents: raw(&houses(1)).raw_input_contents, ..typed(&houses(1)) },
            Code::InvalidArgument,
            "contents beside raw_input_contents",
        ),
        (change(|r| r.raw_input_contents.push(vec![0; 4].into())), Code::InvalidArgument, "one for each"),
        (
            change(|r| r.raw_input_contents[0] = vec![0; 31].into()),
            Code::InvalidArgument,
            "takes 32 bytes, got 31",
        ),
        (change(|r| r.inputs[0].shape = vec![-1, 8]), Code::InvalidArgument, "dimension -1"),
        (change(|r| r.inputs[0].shape = vec![1 << 62, 1 << 62]), Code::InvalidArgument, "more elements"),
        (change(|r| r.inputs[0].shape = vec![0; 100]), Code::InvalidArgument, "32 dimensions"),
        (change(|r| r.inputs[0].datatype = "FP64".into()), Code::InvalidArgument, "takes 64 bytes"),
        (change(|r| r.inputs[0].datatype = "FP128".into()), Code::InvalidArgument, "unknown datatype"),
        (change(|r| r.inputs[0].name = "x".into()), Code::InvalidArgument, "no input"),
        (change(|r| r.inputs = vec![r.inputs[0].clone(); 5000]), Code::InvalidArgument, "4096"),
        (ModelInferRequest { raw_input_contents: vec![], ..change(|_| {}) }, Code::InvalidArgument, "got 0"),
        (
            {
                let mut request = typed(&houses(1));
                request.inputs[0].contents = Some(floats(7));
                request
            },
            Code::InvalidArgument,
            "takes 8 elements of FP32, got 7",
        ),
        (
            change(|r| {
                let region = ParameterChoice::StringParam("r".into());
                let region = InferParameter { parameter_choice: Some(region) };
                r.inputs[0].parameters.insert("shared_memory_region".into(), region);
            }),
            Code::Unimplemented,
            "shared memory",
        ),
        (raw(&houses(40_000)), Code::ResourceExhausted, "limit of 1048576 bytes"),
    ];
    for (request, code, text) in cases {
        let (found, message) = client.refused(request).await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(text), "{message:?} without {text:?}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_have_compressed_answers() {
    let (_place, server) = housing();
    let plain: ModelInferResponse =
        Client::connect(server.address).await.ask("ModelInfer", raw(&houses(500))).await.unwrap();
    for coding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let client = Client::connect(server.address).await.compressing(coding);
        let answer: ModelInferResponse = client.ask("ModelInfer", raw(&houses(500))).await.unwrap();
        assert_eq!(answer, plain);
        // 8 MiB of zeros are 8 KiB on the way.
        let mut bomb = raw(&houses(1));
        bomb.raw_input_contents = vec![vec![0; 8 << 20].into()];
        let (code, message) = client.refused(bomb).await;
        assert_eq!(
            (code, message.contains("limit of 1048576 bytes")),
            (Code::ResourceExhausted, true),
            "{message}"
        );
    }
    server.stop();
}
