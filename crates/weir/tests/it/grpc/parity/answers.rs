//! What is asked over gRPC besides inference, its answers as REST has them.

use serde_json::{Value, json};
use tonic::Status;
use weir_api::grpc::wire::inference::*;

use super::Step;
use crate::grpc::client::Client;

/// Asks what `step` asks.
pub(super) async fn ask(step: &Step, client: &Client) -> Result<Value, Status> {
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
    let batch = |b: &InferBatchStatistics| {
        json!({
            "batch_size": b.batch_size, "compute_input": count(b.compute_input),
            "compute_infer": count(b.compute_infer), "compute_output": count(b.compute_output),
        })
    };
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
            "batch_stats": s.batch_stats.iter().map(batch).collect::<Vec<_>>(),
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
