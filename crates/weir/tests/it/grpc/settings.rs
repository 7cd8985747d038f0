//! What trace and log settings do, not what they say.

use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;
use serde_json::{Value, json};
use weir_api::grpc::wire::inference::{
    LogSettingsRequest, LogSettingsResponse, ModelInferRequest, ModelInferResponse, TraceSettingRequest,
    TraceSettingResponse, log_settings_request, trace_setting_request,
};

use super::client::{Client, houses, raw};
use crate::{
    client::{ask, get},
    drain::serve,
    metrics::{await_metric, metric},
};

const HOUSE: &[u8] = br#"{"id": "rest", "inputs": [{"name": "input", "shape": [1, 8], "datatype": "FP32", "data": [4, 38, 5.4, 1, 828, 3, 34, -118]}]}"#;

async fn trace(client: &Client, settings: &[(&str, &str)]) {
    let value = |value: &str| trace_setting_request::SettingValue { value: vec![value.to_owned()] };
    let settings = settings.iter().map(|(name, v)| ((*name).to_owned(), value(v))).collect();
    let asked = TraceSettingRequest { settings, model_name: "housing".into() };
    let _: TraceSettingResponse = client.ask("TraceSetting", asked).await.unwrap();
}

/// The traces of a file: by the request's id, the names and times of its stages.
fn read(file: &Path) -> BTreeMap<String, Vec<(String, u64)>> {
    let objects: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let about = objects.iter().filter(|o| o.get("model_name").is_some());
    about
        .map(|about| {
            assert_eq!((&about["model_name"], &about["model_version"]), (&json!("housing"), &json!(1)));
            let own = |o: &&Value| o["id"] == about["id"] && o.get("timestamps").is_some();
            let stamps = objects.iter().find(own).unwrap()["timestamps"].as_array().unwrap();
            let stamp = |s: &Value| (s["name"].as_str().unwrap().to_owned(), s["ns"].as_u64().unwrap());
            (about["request_id"].as_str().unwrap_or_default().to_owned(), stamps.iter().map(stamp).collect())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_traced_says_when_each_stage_was_reached() {
    let settings = "model_control = \"explicit\"\ntrace_file = \"traces.json\"";
    let (place, server) = serve(&["examples/models/housing"], settings);
    let client = Client::connect(server.address).await;
    trace(&client, &[("trace_level", "TIMESTAMPS"), ("trace_rate", "1")]).await;
    let _: ModelInferResponse =
        client.ask("ModelInfer", ModelInferRequest { id: "grpc".into(), ..raw(&houses(3)) }).await.unwrap();
    assert_eq!(ask(server.address, "POST", "/v2/models/HOUSING/infer", Some(HOUSE)).status, 200);
    let refused =
        ModelInferRequest { id: "refused".into(), outputs: vec![Default::default()], ..raw(&houses(1)) };
    client.refused(refused).await;
    trace(&client, &[("trace_level", "OFF")]).await;
    let untraced = ModelInferRequest { id: "untraced".into(), ..raw(&houses(1)) };
    let _: ModelInferResponse = client.ask("ModelInfer", untraced).await.unwrap();
    await_metric(server.address, "weir_traces_total", |n| n == 3.0);
    assert_eq!(metric(server.address, "weir_traces_dropped_total"), 0.0);
    server.stop();

    let traces = read(&place.path().join("traces.json"));
    let names = |id: &str| traces[id].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    let stages = [
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "REQUEST_END",
    ];
    assert_eq!(names("rest"), [&["HTTP_RECV_START", "HTTP_RECV_END"][..], &stages].concat());
    assert_eq!(names("grpc"), [&["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"][..], &stages].concat());
    // Refused before it had a turn, or a name in the trace.
    assert_eq!(names(""), ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "REQUEST_START", "REQUEST_END"]);
    assert_eq!(traces.len(), 3, "{traces:?}");
    for (id, stamps) in &traces {
        assert!(stamps.is_sorted_by_key(|(_, ns)| ns), "{id}: {stamps:?}");
        let took = stamps.last().unwrap().1 - stamps[0].1;
        assert!(took > 0 && took < 60_000_000_000, "{id}: {took} ns");
    }
    let engine = |id: &str| {
        let at = |name: &str| traces[id].iter().find(|(n, _)| n == name).unwrap().1;
        at("COMPUTE_END") - at("COMPUTE_START")
    };
    assert!(engine("rest") > 0 && engine("grpc") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_changes_at_once() {
    let settings = "model_control = \"explicit\"\naccess_log = true";
    let (_place, mut server) = serve(&["examples/models/housing"], settings);
    let client = Client::connect(server.address).await;
    let log_info = async |on: bool| {
        use log_settings_request::setting_value::ParameterChoice::BoolParam;
        let value = log_settings_request::SettingValue { parameter_choice: Some(BoolParam(on)) };
        let asked = LogSettingsRequest { settings: [("log_info".to_owned(), value)].into() };
        let _: LogSettingsResponse = client.ask("LogSettings", asked).await.unwrap();
    };
    log_info(false).await;
    assert_eq!(get(server.address, "/livez").status, 200);
    log_info(true).await;
    assert_eq!(get(server.address, "/startupz").status, 200);
    server.await_line(&Regex::new("startupz").unwrap());
    let log = server.log();
    assert!(!log.contains("livez"), "{log}");
    server.stop();
}
