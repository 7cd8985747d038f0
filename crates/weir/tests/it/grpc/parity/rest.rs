//! Questions over REST.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tonic::Code;

use super::{Form, Outcome, Step, comparable};
use crate::{
    client::{Connection, Response, request},
    grpc::tensors::{Tensor, bytes_of},
};

/// The code that a status means, from the one table.
fn code_of(status: u16) -> Code {
    match status {
        400 | 415 | 422 => Code::InvalidArgument,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        413 => Code::ResourceExhausted,
        500 => Code::Internal,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        408 | 504 => Code::DeadlineExceeded,
        other => panic!("{other} is not in the table"),
    }
}

fn send(address: SocketAddr, method: &str, path: &str, body: &[u8], json: Option<usize>) -> Response {
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(json.map(|n| ("Inference-Header-Content-Length".to_owned(), n.to_string())));
    let mut connection = Connection::open(address).unwrap();
    let body = (method == "POST").then_some(body);
    connection.send(&request(method, path, &headers, body)).unwrap();
    connection.receive(false).unwrap()
}

/// Asks what `step` asks.
pub(super) fn ask(step: &Step, address: SocketAddr, form: Form) -> Outcome {
    let (model, version) = step.target();
    let of = match version {
        "" => format!("/v2/models/{model}"),
        version => format!("/v2/models/{model}/versions/{version}"),
    };
    if step.infer.is_some() {
        return infer_over_rest(step, address, &format!("{of}/infer"), form);
    }
    let scope = if model.is_empty() { "/v2".to_owned() } else { of.clone() };
    let word = step.ask.as_deref().unwrap();
    let verb = if step.change.is_empty() { "GET" } else { "POST" };
    let (method, path) = match word {
        "server" => ("GET", "/v2".to_owned()),
        "live" => ("GET", "/v2/health/live".to_owned()),
        "ready" if model.is_empty() => ("GET", "/v2/health/ready".to_owned()),
        "ready" => ("GET", format!("{of}/ready")),
        "metadata" => ("GET", of),
        "config" => ("GET", format!("{of}/config")),
        "statistics" if model.is_empty() => ("GET", "/v2/models/stats".to_owned()),
        "statistics" => ("GET", format!("{of}/stats")),
        "index" => ("POST", "/v2/repository/index".to_owned()),
        "load" | "unload" => ("POST", format!("/v2/repository/models/{model}/{word}")),
        "trace" => (verb, format!("{scope}/trace/setting")),
        "logging" => (verb, "/v2/logging".to_owned()),
        other => panic!("nobody asks for {other}"),
    };
    let body = match word {
        "load" | "unload" => json!({"parameters": step.change}),
        _ => json!(step.change),
    };
    let response = send(address, method, &path, body.to_string().as_bytes(), None);
    match (word, response.status) {
        // gRPC has a flag where REST has a status.
        ("ready", status) => Outcome::Answer(json!({"ready": status == 200})),
        (_, 200) => Outcome::Answer(comparable(response.json())),
        (_, status) => Outcome::Refused(code_of(status), message(&response)),
    }
}

fn message(response: &Response) -> String {
    response.json()["error"].as_str().unwrap().to_owned()
}

fn infer_over_rest(step: &Step, address: SocketAddr, path: &str, form: Form) -> Outcome {
    let mut body = step.infer.clone().unwrap();
    let inputs = step.inputs();
    let (mut blobs, mut length) = (Vec::new(), None);
    if form == Form::Binary {
        for (json, tensor) in body["inputs"].as_array_mut().into_iter().flatten().zip(&inputs) {
            let Some(bytes) = bytes_of(tensor) else { return Outcome::Unsayable };
            json.as_object_mut().unwrap().remove("data");
            json["parameters"]["binary_data_size"] = bytes.len().into();
            blobs.extend(bytes);
        }
        body["parameters"]["binary_data_output"] = true.into();
    } else if inputs.iter().any(|t| t.datatype == "BF16") {
        return Outcome::Unsayable;
    }
    let mut bytes = body.to_string().into_bytes();
    if form == Form::Binary {
        length = Some(bytes.len());
        bytes.extend(blobs);
    }
    let response = send(address, "POST", path, &bytes, length);
    if response.status != 200 {
        return Outcome::Refused(code_of(response.status), message(&response));
    }
    tensors_of_rest(&response)
}

fn tensors_of_rest(response: &Response) -> Outcome {
    let length = response.header("inference-header-content-length").next().map(|n| n.parse().unwrap());
    let (json, mut blobs) = response.body.split_at(length.unwrap_or(response.body.len()));
    let answer: Value = serde_json::from_slice(json).unwrap();
    let output = |output: &Value| match output["parameters"]["binary_data_size"].as_u64() {
        Some(size) => {
            let (own, rest) = blobs.split_at(size as usize);
            blobs = rest;
            Tensor::from_bytes(output, own)
        }
        None => Tensor::from_json(output),
    };
    let outputs = answer["outputs"].as_array().unwrap().iter().map(output).collect();
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Outcome::Tensors { model: word("model_name"), version: word("model_version"), id: word("id"), outputs }
}
