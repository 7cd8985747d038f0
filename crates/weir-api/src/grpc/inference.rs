//! The methods of `inference.GRPCInferenceService` that are not streams.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use hyper::body::Incoming;
use tokio::time::timeout_at;
use weir_serving::Room;
use weir_types::{Access, Deadline, Error, trace::Scope};

use super::{
    call::{Call, late},
    frame,
    generated::inference::*,
    keyed, messages,
    reply::Reply,
    weight,
};
use crate::{
    respond,
    server::Shared,
    v2::core::{
        self, ModelView, Refused, Timeline, Transport, UNLOAD_PARAMETERS, control, datatype, model_name,
        repository_index,
    },
};

/// Of `ServerLive`.
pub(super) fn live(_: &Shared, _: ServerLiveRequest) -> Result<ServerLiveResponse, Error> {
    Ok(ServerLiveResponse { live: true })
}

/// Whether every model can answer and the server goes on to.
pub(super) fn is_ready(shared: &Shared) -> bool {
    !shared.is_draining() && shared.face().snapshot.can_answer()
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
    let core::ServerMetadata { name, version, extensions } = core::server_metadata(shared);
    let extensions = extensions.into_iter().map(str::to_owned).collect();
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
    let versions = face.v2.asked(Some(&asked.name), Some(&asked.version))?;
    let model_stats = versions.iter().map(|v| super::config::statistics(core::statistics(v))).collect();
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

/// `ModelInfer`. What it counts for is its model, once that is known.
///
/// # Errors
/// Whatever stands in the way.
pub(super) async fn infer(call: Call, body: Incoming) -> Result<Reply, Error> {
    if call.deadline.is_past(call.shared.predictor.clock().now()) {
        return Err(late());
    }
    let mut room = call.shared.predictor.room();
    let messages = call.messages(body, call.shared.body_limits(), Some(call.deadline));
    let message = messages.only(&mut room).await?;
    let question = read(message, &mut room)?;
    let view = view(&call, &question)?;
    call.counts_for(view.grpc(&call.shared, false));
    if call.is_keyed() {
        return keyed::infer(call, view, question, room).await;
    }
    let until = Until::Deadline(call.deadline);
    let times = (call.received, until);
    let (answer, told) = ask((&call, call.trace.as_ref()), &view, question, room, times).await?;
    call.tells(told);
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

/// The version that `question` names.
///
/// # Errors
/// `NotFound`; `Unavailable` for what failed to load.
pub(super) fn view(call: &Call, question: &ModelInferRequest) -> Result<Arc<ModelView>, Error> {
    let face = call.shared.face();
    Ok(face.v2.view(&question.model_name, Some(&question.model_version))?.clone())
}

/// Until when an answer is worked on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// It is given up when it comes too late.
    Deadline(Deadline),
    /// What has begun before then is done to its end, whoever waits.
    Done(Deadline),
}

/// Asks the version behind `view`; the question was received and is of use until then. Returns the answer,
/// and what metadata tell beside it.
///
/// # Errors
/// What is wrong with the question, and what the model says.
pub(super) async fn ask(
    (call, scope): (&Call, Option<&Scope>),
    view: &ModelView,
    question: ModelInferRequest,
    room: Room,
    (received, until): (Instant, Until),
) -> Result<(ModelInferResponse, HeaderMap), Refused> {
    let name = &view.version().spec.name;
    let sender = call.sender(Access::Invoke(name), scope)?;
    let trace = call.shared.tracer.sample(name.as_str());
    let mut line = Timeline::new(call.shared.predictor.shared_clock(), received, trace, scope);
    line.read();
    let run = async {
        let (Until::Deadline(deadline) | Until::Done(deadline)) = until;
        let mut admitted = room.admit(sender, deadline);
        admitted.cache(call.cache_control());
        admitted.would_run(view.version())?;
        let (request, form) = messages::request(question).map_err(Refused::always)?;
        let answer = core::infer(admitted, view, request, &mut line);
        let answer = match until {
            Until::Deadline(at) => timeout_at(at.instant().into(), answer).await.map_err(|_| late())??,
            Until::Done(_) => answer.await?,
        };
        let mut told = HeaderMap::new();
        respond::cached(answer.cache, &mut told);
        respond::looked_up(answer.feature_asof, &mut told);
        Ok((messages::response(answer, form), told))
    };
    let answer = run.await;
    if answer.is_ok() {
        line.encoded();
    }
    line.finish(view, Transport::Grpc);
    answer
}

/// `RepositoryModelLoad`.
///
/// # Errors
/// Why the model was not loaded.
pub(super) async fn load(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    let RepositoryModelLoadRequest { model_name: asked, parameters, .. } = call.read_small(body).await?;
    let control = control(&call.shared)?;
    core::refuse_parameters("loading", parameters.keys().map(String::as_str), &[])?;
    control.load(model_name(&asked)?).await?;
    call.reply(&RepositoryModelLoadResponse {})
}

/// `RepositoryModelUnload`. `unload_dependents` changes nothing: a model
/// that a graph asks is not unloaded.
///
/// # Errors
/// Why the model serves on.
pub(super) async fn unload(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Deploy)?;
    let RepositoryModelUnloadRequest { model_name: asked, parameters, .. } = call.read_small(body).await?;
    let control = control(&call.shared)?;
    core::refuse_parameters("unloading", parameters.keys().map(String::as_str), &UNLOAD_PARAMETERS)?;
    control.unload(model_name(&asked)?).await?;
    call.reply(&RepositoryModelUnloadResponse {})
}
