//! The methods of `inference.GRPCInferenceService` that are not streams.

use std::time::Instant;

use hyper::body::Incoming;
use tokio::time::timeout_at;
use weir_serving::{ModelControl, Room};
use weir_types::{Access, Deadline, Error, ErrorCode, ModelName};

use super::{
    call::{Call, late},
    frame,
    generated::inference::*,
    messages,
    reply::Reply,
    weight,
};
use crate::{
    server::Shared,
    v2::core::{self, cut, datatype, repository_index},
};

/// Of `ServerLive`.
pub(super) fn live(_: &Shared, _: ServerLiveRequest) -> Result<ServerLiveResponse, Error> {
    Ok(ServerLiveResponse { live: true })
}

/// Whether every model can answer and the server goes on to.
pub(super) fn is_ready(shared: &Shared) -> bool {
    !shared.is_draining() && shared.face().snapshot.unavailable().next().is_none()
}

/// Of `ServerReady`.
pub(super) fn ready(shared: &Shared, _: ServerReadyRequest) -> Result<ServerReadyResponse, Error> {
    Ok(ServerReadyResponse { ready: is_ready(shared) })
}

/// Of `ModelReady`. What there is not is not ready: Triton's clients ask before they load.
pub(super) fn model_ready(shared: &Shared, asked: ModelReadyRequest) -> Result<ModelReadyResponse, Error> {
    let ready = shared.face().v2.view(&asked.name, Some(&asked.version)).is_ok();
    Ok(ModelReadyResponse { ready })
}

/// Of `ServerMetadata`.
pub(super) fn server_metadata(
    shared: &Shared,
    _: ServerMetadataRequest,
) -> Result<ServerMetadataResponse, Error> {
    let core::ServerMetadata { name, version, extensions } =
        core::server_metadata(shared.control().is_some());
    let extensions = extensions.iter().map(ToString::to_string).collect();
    Ok(ServerMetadataResponse { name: name.into(), version: version.into(), extensions })
}

/// Of `ModelMetadata`.
pub(super) fn model_metadata(
    shared: &Shared,
    asked: ModelMetadataRequest,
) -> Result<ModelMetadataResponse, Error> {
    let face = shared.face();
    let core::ModelMetadata { name, versions, platform, inputs, outputs } =
        face.v2.metadata(&asked.name, Some(&asked.version))?;
    let tensor = |t: core::TensorMetadata| model_metadata_response::TensorMetadata {
        name: t.name,
        datatype: datatype(t.dtype).to_owned(),
        shape: t.shape,
    };
    Ok(ModelMetadataResponse {
        name,
        versions,
        platform,
        inputs: inputs.into_iter().map(tensor).collect(),
        outputs: outputs.into_iter().map(tensor).collect(),
    })
}

/// Of `ModelConfig`.
pub(super) fn config(shared: &Shared, asked: ModelConfigRequest) -> Result<ModelConfigResponse, Error> {
    let face = shared.face();
    let config = face.v2.view(&asked.name, Some(&asked.version))?.config();
    Ok(ModelConfigResponse { config: Some(super::config::message(config)) })
}

/// Of `ModelStatistics`: of all models, of one, or of one version.
pub(super) fn statistics(
    shared: &Shared,
    asked: ModelStatisticsRequest,
) -> Result<ModelStatisticsResponse, Error> {
    let face = shared.face();
    let ModelStatisticsRequest { name, version } = asked;
    if !name.is_empty() {
        face.v2.view(&name, Some(&version))?;
    }
    let wanted = |v: &&std::sync::Arc<weir_serving::ServedVersion>| {
        (name.is_empty() || v.spec.name.as_str() == name)
            && (version.is_empty() || v.spec.version.as_str() == version)
    };
    let versions = face.snapshot.models().flat_map(|(_, model)| model.versions());
    let model_stats =
        versions.filter(wanted).map(|v| super::config::statistics(core::statistics(v))).collect();
    Ok(ModelStatisticsResponse { model_stats })
}

/// Of `RepositoryIndex`.
pub(super) fn index(
    shared: &Shared,
    asked: RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse, Error> {
    let entry = |e: core::RepositoryEntry| repository_index_response::ModelIndex {
        name: e.name,
        version: e.version,
        state: e.state.to_owned(),
        reason: e.reason,
    };
    let models = repository_index(&shared.face().snapshot, asked.ready).into_iter().map(entry).collect();
    Ok(RepositoryIndexResponse { models })
}

/// `ModelInfer`.
///
/// # Errors
/// Whatever stands in the way.
pub(super) async fn infer(call: Call, body: Incoming) -> Result<Reply, Error> {
    if call.deadline.is_past(call.shared.predictor.clock().now()) {
        return Err(late());
    }
    let mut room = call.shared.predictor.room();
    let messages = call.messages(body, call.shared.body_limits, Some(call.deadline));
    let message = messages.only(&mut room).await?;
    let question = read(message, &mut room)?;
    let answer = ask(&call, question, room, (call.received, call.deadline)).await?;
    call.reply(&answer)
}

/// Reads an inference request, after taking room for what it becomes.
///
/// # Errors
/// `InvalidArgument`, `Overloaded`.
pub(super) fn read(message: bytes::Bytes, room: &mut Room) -> Result<ModelInferRequest, Error> {
    room.hold(weight::of_request(&message)?)?;
    frame::decode(message)
}

/// Asks the model that `question` names; it was received and is of use until then.
///
/// # Errors
/// What is wrong with the question, and what the model says.
pub(super) async fn ask(
    call: &Call,
    mut question: ModelInferRequest,
    room: Room,
    (received, deadline): (Instant, Deadline),
) -> Result<ModelInferResponse, Error> {
    let clock = call.shared.predictor.clock();
    let start = clock.now();
    let (name, version) =
        (std::mem::take(&mut question.model_name), std::mem::take(&mut question.model_version));
    let model: ModelName = name.parse().map_err(|_| no_model(&name))?;
    let sender = call.sender(Access::Invoke(&model))?;
    let view = call.shared.face().v2.view(&name, Some(&version))?.clone();
    let admitted = room.admit(sender, deadline);
    admitted.would_run(view.version())?;
    let (request, form) = messages::request(question)?;
    let decoded = clock.now() - start;
    let answer = timeout_at(deadline.instant().into(), core::infer(admitted, &view, request, received));
    let answer = answer.await.map_err(|_| late())??;
    let start = clock.now();
    let message = messages::response(answer, form);
    let encoded = clock.now() - start;
    view.stages.decode.observe(decoded.as_secs_f64());
    view.stages.encode.observe(encoded.as_secs_f64());
    view.version().executor.stats().face(decoded, encoded);
    Ok(message)
}

fn no_model(name: &str) -> Error {
    Error::not_found(format!("there is no model {:?}", cut(name)))
}

/// `RepositoryModelLoad`.
///
/// # Errors
/// Why the model was not loaded.
pub(super) async fn load(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    let RepositoryModelLoadRequest { model_name, parameters, .. } = call.read_small(body).await?;
    if let Some((name, _)) = parameters.first_key_value() {
        let text = format!("loading takes no parameter `{}`: Weir loads what is on disk", cut(name));
        return Err(Error::new(ErrorCode::Unsupported, text));
    }
    control(&call)?.load(model_name.parse().map_err(|_| no_model(&model_name))?).await?;
    call.reply(&RepositoryModelLoadResponse {})
}

/// `RepositoryModelUnload`. `unload_dependents` changes nothing: no model depends on another.
///
/// # Errors
/// Why the model serves on.
pub(super) async fn unload(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    let RepositoryModelUnloadRequest { model_name, parameters, .. } = call.read_small(body).await?;
    if let Some(name) = parameters.keys().find(|name| *name != "unload_dependents") {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("unloading takes no parameter `{}`", cut(name)),
        ));
    }
    control(&call)?.unload(model_name.parse().map_err(|_| no_model(&model_name))?).await?;
    call.reply(&RepositoryModelUnloadResponse {})
}

fn control(call: &Call) -> Result<&ModelControl, Error> {
    call.shared.control().ok_or_else(|| {
        let text = "clients load and unload models only where `server.model_control` is \"explicit\"";
        Error::new(ErrorCode::Unsupported, text)
    })
}
