//! `grpc.health.v1`.

use hyper::body::Incoming;
use weir_types::{Access, Error};

use super::{
    call::Call,
    frame,
    generated::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
    inference, reflection,
    reply::{Part, Reply},
    stream,
};
use crate::server::Shared;

/// The status of a service, all of which are ready together; `None` for one there is none of.
fn status(shared: &Shared, service: &str) -> Option<ServingStatus> {
    let known = service.is_empty() || reflection::services().any(|name| name == service);
    known
        .then(|| if inference::is_ready(shared) { ServingStatus::Serving } else { ServingStatus::NotServing })
}

/// Of `Check`.
///
/// # Errors
/// `NotFound` for a service there is none of.
pub(super) fn check(shared: &Shared, asked: HealthCheckRequest) -> Result<HealthCheckResponse, Error> {
    match status(shared, &asked.service) {
        Some(status) => Ok(HealthCheckResponse { status: status.into() }),
        None => Err(Error::not_found("there is no such service; reflection lists those there are")),
    }
}

/// `Watch`: the status now, and each that is another than the one before.
///
/// # Errors
/// Without access, and for a request that cannot be read.
pub(super) async fn watch(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Read)?;
    let HealthCheckRequest { service } = call.read_small(body).await?;
    Ok(stream::open(call.stream_deadline, |parts| async move {
        let mut changes = call.shared.changes();
        let mut told = None;
        loop {
            let status = status(&call.shared, &service).unwrap_or(ServingStatus::ServiceUnknown);
            if told != Some(status) {
                told = Some(status);
                let message = frame::encode(&HealthCheckResponse { status: status.into() }, call.answers)?;
                if parts.send(Part::Message(message)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = call.shared.closing() => return Err(stream::closing()),
            }
        }
    }))
}
