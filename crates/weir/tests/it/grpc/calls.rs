//! What is the same for all methods: codes, ports, metadata, metrics.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use tonic::{Code, Request};
use weir_api::grpc::wire::inference::*;

use super::client::{Client, HEALTH, INFERENCE, houses, raw};
use crate::{
    client::{Connection, ask, get, request},
    drain::serve,
    h2c,
    metrics::metric,
};

#[tokio::test(flavor = "multi_thread")]
async fn server_and_models_describe_themselves() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let live: ServerLiveResponse = client.ask("ServerLive", ServerLiveRequest {}).await.unwrap();
    let ready: ServerReadyResponse = client.ask("ServerReady", ServerReadyRequest {}).await.unwrap();
    assert!(live.live && ready.ready);
    let about: ServerMetadataResponse = client.ask("ServerMetadata", ServerMetadataRequest {}).await.unwrap();
    assert_eq!(about.name, "weir");
    assert!(about.extensions.contains(&"statistics".to_owned()), "{:?}", about.extensions);
    let of = |name: &str| (name.to_owned(), String::new());
    let (name, version) = of("housing");
    let asked = ModelMetadataRequest { name, version };
    let model: ModelMetadataResponse = client.ask("ModelMetadata", asked).await.unwrap();
    assert_eq!((model.inputs[0].datatype.as_str(), model.inputs[0].shape.as_slice()), ("FP32", &[-1, 8][..]));
    let (name, version) = of("housing");
    let config: ModelConfigResponse =
        client.ask("ModelConfig", ModelConfigRequest { name, version }).await.unwrap();
    let config = config.config.unwrap();
    assert_eq!(
        (config.input[0].data_type(), config.input[0].dims.as_slice()),
        (DataType::TypeFp32, &[8][..])
    );
    assert!(config.max_batch_size > 0 && config.scheduling_choice.is_none());
    let index: RepositoryIndexResponse =
        client.ask("RepositoryIndex", RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!((index.models[0].name.as_str(), index.models[0].state.as_str()), ("housing", "READY"));
    for (name, there) in [("housing", true), ("nothing", false)] {
        let asked = ModelReadyRequest { name: name.into(), version: String::new() };
        let answer: ModelReadyResponse = client.ask("ModelReady", asked).await.unwrap();
        assert_eq!(answer.ready, there, "{name}");
    }
    let (name, version) = of("nothing");
    let unknown: Result<ModelMetadataResponse, _> =
        client.ask("ModelMetadata", ModelMetadataRequest { name, version }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_and_metrics_count_calls() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    for _ in 0..3 {
        let _: ModelInferResponse = client.ask("ModelInfer", raw(&houses(5))).await.unwrap();
    }
    client.refused(ModelInferRequest { model_name: "nothing".into(), ..raw(&houses(1)) }).await;
    let stats: ModelStatisticsResponse =
        client.ask("ModelStatistics", ModelStatisticsRequest::default()).await.unwrap();
    let [stats] = stats.model_stats.as_slice() else { panic!("{stats:?}") };
    assert_eq!((stats.inference_count, stats.inference_stats.unwrap().success.unwrap().count), (15, 3));
    let path = format!("/{INFERENCE}/ModelInfer");
    let counter = |model: &str, version: &str, code: u16| {
        format!(
            "weir_requests_total{{method=\"gRPC\",route=\"{path}\",model=\"{model}\",version=\"{version}\",code=\"{code}\"}}"
        )
    };
    assert_eq!(metric(server.address, &counter("housing", "1", 200)), 3.0);
    // What is no model is no label.
    assert_eq!(metric(server.address, &counter("", "", 404)), 1.0);
    let wrong = ModelInferRequest { inputs: Vec::new(), raw_input_contents: Vec::new(), ..raw(&houses(1)) };
    client.refused(wrong).await;
    assert_eq!(metric(server.address, &counter("housing", "1", 400)), 1.0);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_h2c_and_grpc_share_a_port() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    assert_eq!(get(server.address, "/readyz").status, 200);
    let live: ServerLiveResponse = client.ask("ServerLive", ServerLiveRequest {}).await.unwrap();
    assert!(live.live);
    // gRPC over HTTP/1.1 has no trailers to put its status into.
    let grpc = [("Content-Type".to_owned(), "application/grpc".to_owned())];
    let mut connection = Connection::open(server.address).unwrap();
    let path = format!("/{INFERENCE}/ServerLive");
    connection.send(&request("POST", &path, &grpc, Some(b"\0\0\0\0\0"))).unwrap();
    assert_eq!(connection.receive(false).unwrap().status, 505);
    assert_eq!(ask(server.address, "POST", &path, Some(b"{}")).status, 404, "JSON is not gRPC");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_may_have_a_port_of_its_own() {
    let settings = "grpc_listen = \"127.0.0.1:0\"";
    let (_place, mut server) = serve(&["examples/models/housing"], settings);
    let line = server.await_line(&regex::Regex::new("gRPC on 127").unwrap());
    let address =
        regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap().find(&line).unwrap().as_str().parse().unwrap();
    let live: ServerLiveResponse =
        Client::connect(address).await.ask("ServerLive", ServerLiveRequest {}).await.unwrap();
    assert!(live.live);
    assert_eq!(get(server.address, "/readyz").status, 200);
    let public = Client::connect(server.address).await;
    let elsewhere: Result<ServerLiveResponse, _> = public.ask("ServerLive", ServerLiveRequest {}).await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::Unimplemented);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_those_of_the_protocol() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let code = async |service: &str, method: &str, headers: &[(&'static str, &'static str)]| {
        let mut question = Request::new(ServerLiveRequest {});
        for (name, value) in headers {
            let value = HeaderValue::from_static(value).to_str().unwrap().parse().unwrap();
            question.metadata_mut().insert(*name, value);
        }
        let answer: Result<ServerLiveResponse, _> = client.call(service, method, question).await;
        answer.map_or_else(|s| s.code(), |_| Code::Ok)
    };
    let mut seen = BTreeSet::new();
    for (service, method, headers, want) in [
        (INFERENCE, "ServerLive", &[][..], Code::Ok),
        (INFERENCE, "SystemSharedMemoryStatus", &[], Code::Unimplemented),
        ("inference.Other", "ServerLive", &[], Code::Unimplemented),
        (INFERENCE, "ServerLive", &[("grpc-encoding", "snappy")], Code::Unimplemented),
        (INFERENCE, "ServerLive", &[("grpc-timeout", "soon")], Code::InvalidArgument),
        (INFERENCE, "ServerLive", &[("request-timeout", "soon")], Code::InvalidArgument),
        // A grpc-timeout of its own would be tonic's to keep: it may give up before we do.
        (
            INFERENCE,
            "ServerLive",
            &[("grpc-timeout", "10S"), ("request-timeout", "0")],
            Code::DeadlineExceeded,
        ),
        (HEALTH, "Check", &[], Code::Ok),
    ] {
        assert_eq!(code(service, method, headers).await, want, "{method} {headers:?}");
        seen.insert(want as i32);
    }
    assert_eq!(seen.len(), 4);
    server.stop();
}

/// By hand: tonic obeys `grpc-timeout` itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_callers_timeout_is_obeyed() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let sender = h2c::connect(server.address).await;
    for (timeout, status) in [("1n", "4"), ("10S", "0"), ("99999999H", "0"), ("ten", "3")] {
        let mut sender = sender.clone();
        sender.ready().await.unwrap();
        let call = http::Request::post(format!("http://weir.test/{INFERENCE}/ServerLive"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
            .unwrap();
        let (head, body) = sender.send_request(call).await.unwrap().into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or(head.headers);
        assert_eq!(trailers["grpc-status"], status, "{timeout}");
    }
    server.stop();
}

/// What tonic hands on is what error-detail crates read.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_try_again_is_told_when() {
    let (_place, server) = serve(&["examples/models/housing"], "model_control = \"explicit\"");
    let client = Client::connect(server.address).await;
    let unload = RepositoryModelUnloadRequest { model_name: "housing".into(), ..Default::default() };
    let _: RepositoryModelUnloadResponse = client.ask("RepositoryModelUnload", unload).await.unwrap();
    let answer: Result<ModelInferResponse, _> = client.ask("ModelInfer", raw(&houses(1))).await;
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
    let name = b"type.googleapis.com/google.rpc.RetryInfo";
    assert!(status.details().windows(name.len()).any(|part| part == name), "{:?}", status.details());
    server.stop();
}
