//! `tests/scenarios/both/v2.yaml`: one suite, replayed over every form that a request has (JSON
//! and JSON with bytes over REST; typed, raw and streamed messages over gRPC), each against a
//! server of its own. What comes back must be the same: code, wording, tensors to the bit.

use std::{collections::BTreeMap, fs, net::SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};
use weir_api::grpc::wire::inference::*;

use super::{
    client::{Client, INFERENCE},
    tensors::{Tensor, bytes_of, typed_of, values_of},
};
use crate::{
    client::{Connection, Response, request},
    matching::text,
    server::{Server, root},
    v2clients,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// What the file shows.
    #[allow(dead_code)] // for the reader
    title: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    /// A model, with a version behind a slash where one is asked for.
    model: Option<String>,
    /// An inference request, as its JSON.
    infer: Option<Value>,
    /// Another question: `server`, `live`, `ready`, `metadata`, `config`, `statistics`,
    /// `index`, `load`, `unload`, `trace`, `logging`.
    ask: Option<String>,
    /// Settings to change.
    #[serde(default)]
    change: BTreeMap<String, Value>,
    /// The gRPC code.
    #[serde(default = "ok")]
    code: String,
    /// The message of an error: a pattern.
    message: Option<String>,
    /// What the answer holds: values of the outputs, or parts of an answer.
    expect: Option<Value>,
    /// Why the forms word this differently. Code and pattern hold for all of them still.
    worded: Option<String>,
}

fn ok() -> String {
    "OK".into()
}

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Binary,
    Typed,
    Raw,
    Streamed,
}

const FORMS: [Form; 5] = [Form::Json, Form::Binary, Form::Typed, Form::Raw, Form::Streamed];

/// What came back, whatever the form.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Tensors {
        model: String,
        version: String,
        id: String,
        outputs: Vec<Tensor>,
    },
    Answer(Value),
    Refused(Code, String),
    /// The form has no such thing: BF16 as JSON, FP16 as typed contents.
    Unsayable,
}

impl Step {
    fn target(&self) -> (&str, &str) {
        let model = self.model.as_deref().unwrap_or_default();
        model.split_once('/').unwrap_or((model, ""))
    }

    fn inputs(&self) -> Vec<Tensor> {
        let inputs = self.infer.as_ref().and_then(|i| i["inputs"].as_array()).into_iter().flatten();
        inputs.map(Tensor::from_json).collect()
    }
}

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

/// REST.
fn send(address: SocketAddr, method: &str, path: &str, body: &[u8], json: Option<usize>) -> Response {
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(json.map(|n| ("Inference-Header-Content-Length".to_owned(), n.to_string())));
    let mut connection = Connection::open(address).unwrap();
    let body = (method == "POST").then_some(body);
    connection.send(&request(method, path, &headers, body)).unwrap();
    connection.receive(false).unwrap()
}

fn over_rest(step: &Step, address: SocketAddr, form: Form) -> Outcome {
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

/// What does not depend on the clock, and not on how a transport writes numbers.
fn comparable(mut answer: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                for key in ["ns", "last_inference"] {
                    entries.remove(key);
                }
                entries.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut answer);
    answer
}

/// gRPC.
async fn over_grpc(step: &Step, client: &Client, form: Form) -> Outcome {
    if step.infer.is_some() {
        return infer_over_grpc(step, client, form).await;
    }
    match ask_over_grpc(step, client).await {
        Ok(answer) => Outcome::Answer(comparable(answer)),
        Err(status) => Outcome::Refused(status.code(), status.message().to_owned()),
    }
}

async fn ask_over_grpc(step: &Step, client: &Client) -> Result<Value, Status> {
    let (name, version) = step.target();
    let (name, version) = (name.to_owned(), version.to_owned());
    Ok(match step.ask.as_deref().unwrap() {
        "server" => {
            let a: ServerMetadataResponse = client.ask("ServerMetadata", ServerMetadataRequest {}).await?;
            json!({"name": a.name, "version": a.version, "extensions": a.extensions})
        }
        "live" => {
            let a: ServerLiveResponse = client.ask("ServerLive", ServerLiveRequest {}).await?;
            json!({"live": a.live})
        }
        "ready" if name.is_empty() => {
            let a: ServerReadyResponse = client.ask("ServerReady", ServerReadyRequest {}).await?;
            json!({"ready": a.ready})
        }
        "ready" => {
            let a: ModelReadyResponse = client.ask("ModelReady", ModelReadyRequest { name, version }).await?;
            json!({"ready": a.ready})
        }
        "metadata" => metadata(client.ask("ModelMetadata", ModelMetadataRequest { name, version }).await?),
        "config" => config(client.ask("ModelConfig", ModelConfigRequest { name, version }).await?),
        "statistics" => {
            statistics(client.ask("ModelStatistics", ModelStatisticsRequest { name, version }).await?)
        }
        "index" => index(client.ask("RepositoryIndex", RepositoryIndexRequest::default()).await?),
        "load" => {
            let parameters = step.change.keys().map(|k| (k.clone(), ModelRepositoryParameter::default()));
            let parameters = parameters.collect();
            let asked = RepositoryModelLoadRequest { model_name: name, parameters, ..Default::default() };
            let _: RepositoryModelLoadResponse = client.ask("RepositoryModelLoad", asked).await?;
            json!({})
        }
        "unload" => {
            let parameters = step.change.keys().map(|k| (k.clone(), ModelRepositoryParameter::default()));
            let parameters = parameters.collect();
            let asked = RepositoryModelUnloadRequest { model_name: name, parameters, ..Default::default() };
            let _: RepositoryModelUnloadResponse = client.ask("RepositoryModelUnload", asked).await?;
            json!({})
        }
        "trace" => trace(step, client, name).await?,
        "logging" => logging(step, client).await?,
        other => panic!("nobody asks for {other}"),
    })
}

fn metadata(a: ModelMetadataResponse) -> Value {
    let tensor = |t: &model_metadata_response::TensorMetadata| json!({"name": t.name, "datatype": t.datatype, "shape": t.shape});
    json!({
        "name": a.name, "versions": a.versions, "platform": a.platform,
        "inputs": a.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": a.outputs.iter().map(tensor).collect::<Vec<_>>(),
    })
}

fn config(a: ModelConfigResponse) -> Value {
    let c = a.config.unwrap();
    let policy = match c.version_policy.unwrap().policy_choice.unwrap() {
        model_version_policy::PolicyChoice::Specific(s) => s.versions,
        other => panic!("{other:?}"),
    };
    let input =
        |t: &ModelInput| json!({"name": t.name, "data_type": t.data_type().as_str_name(), "dims": t.dims});
    let output =
        |t: &ModelOutput| json!({"name": t.name, "data_type": t.data_type().as_str_name(), "dims": t.dims});
    json!({
        "name": c.name, "platform": c.platform, "backend": c.backend, "max_batch_size": c.max_batch_size,
        "input": c.input.iter().map(input).collect::<Vec<_>>(),
        "output": c.output.iter().map(output).collect::<Vec<_>>(),
        "version_policy": {"specific": {"versions": policy.iter().map(ToString::to_string).collect::<Vec<_>>()}},
    })
}

fn statistics(a: ModelStatisticsResponse) -> Value {
    let count = |d: Option<StatisticDuration>| json!({"count": d.unwrap().count});
    let one = |s: &ModelStatistics| {
        let i = s.inference_stats.unwrap();
        json!({
            "name": s.name, "version": s.version,
            "inference_count": s.inference_count, "execution_count": s.execution_count,
            "inference_stats": {
                "success": count(i.success), "fail": count(i.fail), "queue": count(i.queue),
                "compute_input": count(i.compute_input), "compute_infer": count(i.compute_infer),
                "compute_output": count(i.compute_output),
                "cache_hit": count(i.cache_hit), "cache_miss": count(i.cache_miss),
            },
            "batch_stats": [],
        })
    };
    json!({"model_stats": a.model_stats.iter().map(one).collect::<Vec<_>>()})
}

fn index(a: RepositoryIndexResponse) -> Value {
    let one = |m: &repository_index_response::ModelIndex| json!({"name": m.name, "version": m.version, "state": m.state, "reason": m.reason});
    a.models.iter().map(one).collect()
}

async fn trace(step: &Step, client: &Client, model_name: String) -> Result<Value, Status> {
    let value = |value: &Value| trace_setting_request::SettingValue {
        value: match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(|i| i.as_str().unwrap().to_owned()).collect(),
            Value::String(text) => vec![text.clone()],
            other => vec![other.to_string()],
        },
    };
    let settings = step.change.iter().map(|(name, v)| (name.clone(), value(v))).collect();
    let a: TraceSettingResponse =
        client.ask("TraceSetting", TraceSettingRequest { settings, model_name }).await?;
    let one = |(name, v): (&String, &trace_setting_response::SettingValue)| {
        let value = if name == "trace_level" { json!(v.value) } else { json!(v.value[0]) };
        (name.clone(), value)
    };
    Ok(a.settings.iter().map(one).collect())
}

async fn logging(step: &Step, client: &Client) -> Result<Value, Status> {
    use log_settings_request::setting_value::ParameterChoice as Asked;
    use log_settings_response::setting_value::ParameterChoice as Answered;
    let value = |value: &Value| log_settings_request::SettingValue {
        parameter_choice: Some(match value {
            Value::Bool(on) => Asked::BoolParam(*on),
            Value::Number(n) => Asked::Uint32Param(n.as_u64().unwrap() as u32),
            Value::String(text) => Asked::StringParam(text.clone()),
            other => panic!("{other}"),
        }),
    };
    let settings = step.change.iter().map(|(name, v)| (name.clone(), value(v))).collect();
    let a: LogSettingsResponse = client.ask("LogSettings", LogSettingsRequest { settings }).await?;
    let one = |(name, v): (&String, &log_settings_response::SettingValue)| {
        let value = match v.parameter_choice.as_ref().unwrap() {
            Answered::BoolParam(on) => json!(on),
            Answered::Uint32Param(n) => json!(n),
            Answered::StringParam(text) => json!(text),
        };
        (name.clone(), value)
    };
    Ok(a.settings.iter().map(one).collect())
}

async fn infer_over_grpc(step: &Step, client: &Client, form: Form) -> Outcome {
    let Some(question) = message_of(step, form) else { return Outcome::Unsayable };
    let answer = if form == Form::Streamed {
        let stream = tokio_stream::iter([question]);
        let mut answers: tonic::Streaming<ModelStreamInferResponse> =
            client.stream(INFERENCE, "ModelStreamInfer", stream).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert!(answers.message().await.unwrap().is_none(), "the stream ends OK behind its answer");
        match answer.error_message.as_str() {
            "" => Ok(answer.infer_response.unwrap()),
            // A stream's error has no code of its own.
            text => Err(Status::new(Code::Unknown, text)),
        }
    } else {
        client.ask("ModelInfer", question).await
    };
    match answer {
        Ok(answer) => tensors_of_grpc(answer),
        Err(status) => Outcome::Refused(status.code(), status.message().to_owned()),
    }
}

fn message_of(step: &Step, form: Form) -> Option<ModelInferRequest> {
    let (model_name, model_version) = step.target();
    let body = step.infer.as_ref().unwrap();
    let mut message = ModelInferRequest {
        model_name: model_name.to_owned(),
        model_version: model_version.to_owned(),
        id: body["id"].as_str().unwrap_or_default().to_owned(),
        parameters: parameters(&body["parameters"]),
        ..Default::default()
    };
    for tensor in step.inputs() {
        let contents = match form {
            Form::Typed => Some(typed_of(&tensor)?),
            _ => {
                message.raw_input_contents.push(bytes_of(&tensor)?.into());
                None
            }
        };
        message.inputs.push(model_infer_request::InferInputTensor {
            name: tensor.name,
            datatype: tensor.datatype,
            shape: tensor.shape,
            contents,
            ..Default::default()
        });
    }
    for output in body["outputs"].as_array().into_iter().flatten() {
        message.outputs.push(model_infer_request::InferRequestedOutputTensor {
            name: output["name"].as_str().unwrap().to_owned(),
            parameters: parameters(&output["parameters"]),
        });
    }
    Some(message)
}

fn parameters(json: &Value) -> BTreeMap<String, InferParameter> {
    use infer_parameter::ParameterChoice;
    let one = |(name, value): (&String, &Value)| {
        let choice = match value {
            Value::Bool(b) => ParameterChoice::BoolParam(*b),
            Value::String(s) => ParameterChoice::StringParam(s.clone()),
            other => match other.as_i64() {
                Some(n) => ParameterChoice::Int64Param(n),
                None => ParameterChoice::DoubleParam(other.as_f64().unwrap()),
            },
        };
        (name.clone(), InferParameter { parameter_choice: Some(choice) })
    };
    json.as_object().into_iter().flatten().map(one).collect()
}

fn tensors_of_grpc(answer: ModelInferResponse) -> Outcome {
    let raw = &answer.raw_output_contents;
    let output = |(i, o): (usize, &model_infer_response::InferOutputTensor)| Tensor {
        name: o.name.clone(),
        datatype: o.datatype.clone(),
        shape: o.shape.clone(),
        values: match &o.contents {
            Some(contents) => values_of(&o.datatype, contents),
            None => Tensor::values_from_bytes(&o.datatype, &raw[i]),
        },
    };
    Outcome::Tensors {
        model: answer.model_name.clone(),
        version: answer.model_version.clone(),
        id: answer.id.clone(),
        outputs: answer.outputs.iter().enumerate().map(output).collect(),
    }
}

/// What one form got, step by step, and what of it is not as the suite says.
async fn replay(suite: &Suite, form: Form) -> (Vec<Outcome>, Vec<String>) {
    let place = TempDir::new().unwrap();
    v2clients::lay_out(place.path());
    let server = Server::start(place.path(), &["--config".into(), "weir.toml".into()]);
    let client = Client::connect(server.address).await;
    let (mut outcomes, mut problems) = (Vec::new(), Vec::new());
    for step in &suite.steps {
        let outcome = match form {
            Form::Json | Form::Binary => over_rest(step, server.address, form),
            _ => over_grpc(step, &client, form).await,
        };
        problems.extend(check(step, &outcome, form).map(|p| format!("{form:?}: {}: {p}", step.name)));
        outcomes.push(outcome);
    }
    server.stop();
    (outcomes, problems)
}

fn check(step: &Step, outcome: &Outcome, form: Form) -> Option<String> {
    match outcome {
        Outcome::Unsayable => None,
        Outcome::Refused(code, message) => {
            let known = form == Form::Streamed && *code == Code::Unknown;
            if !known && step.code != code_name(*code) {
                return Some(format!("{code:?} {message:?}, expected {}", step.code));
            }
            if step.code == "OK" {
                return Some(format!("refused: {message}"));
            }
            text(&format!("re:{}", step.message.as_deref().unwrap_or_default()), message)
        }
        _ if step.code != "OK" => Some(format!("{outcome:?}, expected {}", step.code)),
        Outcome::Answer(answer) => {
            let rules = crate::matching::Rules { partial: true, approx: 0.0 };
            let wanted = step.expect.as_ref()?;
            let found = crate::matching::differences(wanted, answer, rules);
            (!found.is_empty()).then(|| found.join("; "))
        }
        Outcome::Tensors { outputs, .. } => {
            let wanted = step.expect.as_ref()?;
            let got: Value = outputs.iter().map(|o| (o.name.clone(), json!(o.values))).collect();
            (*wanted != got).then(|| format!("{got}, expected {wanted}"))
        }
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "another code",
    }
}

/// How what two forms got differs.
fn difference(step: &Step, a: &Outcome, b: &Outcome) -> Option<String> {
    match (a, b) {
        (Outcome::Unsayable, _) | (_, Outcome::Unsayable) => None,
        // Codes were checked against the suite's.
        (Outcome::Refused(_, _), Outcome::Refused(_, _)) if step.worded.is_some() => None,
        (Outcome::Refused(_, one), Outcome::Refused(_, other)) if one == other => None,
        _ if a == b => None,
        _ => Some(format!("{a:?}\n      and {b:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_has_the_same_answers() {
    let path = root().join("tests/scenarios/both/v2.yaml");
    let suite: Suite = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut problems, mut replayed) = (Vec::new(), Vec::new());
    for form in FORMS {
        let (outcomes, wrong) = replay(&suite, form).await;
        problems.extend(wrong);
        replayed.push(outcomes);
    }
    for (i, step) in suite.steps.iter().enumerate() {
        let said: Vec<usize> = (0..FORMS.len()).filter(|f| replayed[*f][i] != Outcome::Unsayable).collect();
        assert!(said.len() >= 2, "`{}` was compared with nothing", step.name);
        for f in &said[1..] {
            let found = difference(step, &replayed[said[0]][i], &replayed[*f][i]);
            problems.extend(found.map(|d| {
                format!("{:?} and {:?} differ: {}:\n      {d}", FORMS[said[0]], FORMS[*f], step.name)
            }));
        }
    }
    assert!(problems.is_empty(), "{} problems\n  {}", problems.len(), problems.join("\n  "));
    println!("{} steps over {} forms", suite.steps.len(), FORMS.len());
}
