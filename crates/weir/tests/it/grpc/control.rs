//! Loading and unloading models.

use tonic::{Code, Status};
use weir_api::grpc::wire::inference::*;

use super::client::{Client, houses, raw};
use crate::drain::serve;

async fn load(client: &Client, model: &str) -> Result<RepositoryModelLoadResponse, Status> {
    let asked = RepositoryModelLoadRequest { model_name: model.into(), ..Default::default() };
    client.ask("RepositoryModelLoad", asked).await
}

async fn unload(client: &Client, model: &str) -> Result<RepositoryModelUnloadResponse, Status> {
    let asked = RepositoryModelUnloadRequest { model_name: model.into(), ..Default::default() };
    client.ask("RepositoryModelUnload", asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_load_and_unload_where_they_may() {
    let (_place, server) = serve(&["examples/models/housing"], "model_control = \"explicit\"");
    let client = Client::connect(server.address).await;
    unload(&client, "housing").await.unwrap();
    assert_eq!(client.refused(raw(&houses(1))).await.0, Code::Unavailable);
    load(&client, "housing").await.unwrap();
    let answer: ModelInferResponse = client.ask("ModelInfer", raw(&houses(1))).await.unwrap();
    assert_eq!(answer.model_name, "housing");
    assert_eq!(load(&client, "nothing").await.unwrap_err().code(), Code::NotFound);
    let config = ModelRepositoryParameter {
        parameter_choice: Some(model_repository_parameter::ParameterChoice::StringParam("{}".into())),
    };
    let asked = RepositoryModelLoadRequest {
        model_name: "housing".into(),
        parameters: [("config".to_owned(), config)].into(),
        ..Default::default()
    };
    let refused: Result<RepositoryModelLoadResponse, _> = client.ask("RepositoryModelLoad", asked).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_nothing_is_changed() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    assert_eq!(load(&client, "housing").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(unload(&client, "housing").await.unwrap_err().code(), Code::PermissionDenied);
    let trace: Result<TraceSettingResponse, _> =
        client.ask("TraceSetting", TraceSettingRequest::default()).await;
    assert_eq!(trace.unwrap_err().code(), Code::PermissionDenied);
    let log: Result<LogSettingsResponse, _> = client.ask("LogSettings", LogSettingsRequest::default()).await;
    assert_eq!(log.unwrap_err().code(), Code::PermissionDenied);
    server.stop();
}
