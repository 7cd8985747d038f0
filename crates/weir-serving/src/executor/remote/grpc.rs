//! The Open Inference Protocol V2 over gRPC, from the asking side.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use weir_artifact::{RemoteDraft, RemoteFacts};
use weir_clients::{CallError, GrpcPool};
use weir_codec::v2::{
    Asked, read_max_batch_message, read_message, read_metadata_message, read_server_message, write_message,
};
use weir_types::{Batch, Outputs, Signature};

use super::{
    Headers,
    rest::{MAX_METADATA_BYTES, named, options},
};

const SERVICE: &str = "/inference.GRPCInferenceService";

/// One model on one server.
#[derive(Debug)]
pub(super) struct Grpc {
    pool: GrpcPool,
    infer: String,
    model: Asked,
    signature: Signature,
    asked: AtomicU64,
}

impl Grpc {
    /// The model of `draft`, whose signature is known.
    pub(super) fn new(draft: &RemoteDraft, signature: Signature) -> Result<Self, String> {
        let table = draft.table();
        let pool = GrpcPool::new(&table.url, &options(table, table.max_answer.as_usize()))?;
        let infer = format!("{SERVICE}/ModelInfer");
        Ok(Self { pool, infer, model: asked(draft), signature, asked: AtomicU64::new(0) })
    }

    /// Asks once. The server is told how much time is left; dropping the future resets the
    /// stream, by which it knows that nobody waits any more.
    pub(super) async fn infer(
        &self,
        batch: &Batch,
        until: Instant,
        trace: &Headers,
    ) -> Result<Outputs, CallError> {
        let left = until.saturating_duration_since(Instant::now());
        let id = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        let message = write_message(&self.model, &self.signature, batch, &id, left);
        let answer = self.pool.unary_with(&self.infer, &message, left, trace).await?;
        read_message(&self.signature, batch.rows, &id, answer).map_err(CallError::Broken)
    }
}

fn asked(draft: &RemoteDraft) -> Asked {
    let version = draft.table().version.clone().unwrap_or_default();
    Asked { model: draft.model().to_owned(), version }
}

/// What the server of `draft` says of itself and the model.
pub(super) async fn facts(draft: &RemoteDraft) -> Result<RemoteFacts, CallError> {
    let table = draft.table();
    let pool = GrpcPool::new(&table.url, &options(table, MAX_METADATA_BYTES)).map_err(CallError::Broken)?;
    let call = async |method: &str, message: Vec<u8>| {
        pool.unary(&format!("{SERVICE}/{method}"), &message, table.timeout.get()).await
    };
    let model = asked(draft);
    // A message without fields has no bytes.
    let server = call("ServerMetadata", Vec::new()).await?;
    let server = read_server_message(server).map_err(CallError::Broken)?;
    let metadata = call("ModelMetadata", model.metadata_message()).await?;
    let metadata = read_metadata_message(metadata).map_err(CallError::Broken)?;
    // An extension of Triton's that others need not have.
    let config = call("ModelConfig", model.config_message()).await.ok();
    let max_rows = config.and_then(read_max_batch_message);
    Ok(RemoteFacts {
        server: named(&server),
        platform: metadata.platform,
        signature: metadata.signature,
        max_rows,
    })
}
