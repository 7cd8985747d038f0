//! tonic's client, which nobody here wrote.

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use tokio_stream::Stream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_prost::prost::Message;
use weir_api::grpc::wire::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor,
};

/// Services by their names in paths.
pub(super) const INFERENCE: &str = "inference.GRPCInferenceService";
pub(super) const HEALTH: &str = "grpc.health.v1.Health";

/// A connection.
#[derive(Clone)]
pub(super) struct Client(Grpc<Channel>);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self(Grpc::new(endpoint.connect().await.unwrap()))
    }

    /// Compresses what it sends and reads what comes compressed.
    pub(super) fn compressing(self, coding: CompressionEncoding) -> Self {
        Self(self.0.send_compressed(coding).accept_compressed(coding))
    }

    /// One call of `inference.GRPCInferenceService`.
    pub(super) async fn ask<Q, A>(&self, method: &str, question: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.call(INFERENCE, method, Request::new(question)).await
    }

    /// One call.
    pub(super) async fn call<Q, A>(
        &self,
        service: &str,
        method: &str,
        question: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        Ok(self.respond(service, method, question).await?.into_inner())
    }

    /// One call, and the metadata of its answer.
    pub(super) async fn respond<Q, A>(
        &self,
        service: &str,
        method: &str,
        question: Request<Q>,
    ) -> Result<Response<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut inner = self.0.clone();
        inner.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
        inner.unary(question, path(service, method), ProstCodec::<Q, A>::default()).await
    }

    /// One call with a stream of questions.
    pub(super) async fn stream<Q, A>(
        &self,
        service: &str,
        method: &str,
        questions: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut inner = self.0.clone();
        inner.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(inner.streaming(Request::new(questions), path(service, method), codec).await?.into_inner())
    }

    /// The code and text of a request that is refused.
    pub(super) async fn refused(&self, request: ModelInferRequest) -> (Code, String) {
        let answer = self.ask::<_, ModelInferResponse>("ModelInfer", request).await;
        let status = answer.unwrap_err();
        (status.code(), status.message().to_owned())
    }
}

fn path(service: &str, method: &str) -> PathAndQuery {
    format!("/{service}/{method}").parse().unwrap()
}

/// `count` block groups, each another one.
pub(super) fn houses(count: usize) -> Vec<[f32; 8]> {
    let house = |i: usize| {
        let x = i as f32;
        [4.375 + x / 10.0, 38.0, 5.4, 0.97, 828.0 + x, 3.49, 32.0 + x / 20.0, -118.17]
    };
    (0..count).map(house).collect()
}

/// Asks housing by typed contents.
pub(super) fn typed(rows: &[[f32; 8]]) -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: rows.concat(), ..Default::default() };
    let input = InferInputTensor {
        name: "input".into(),
        datatype: "FP32".into(),
        shape: vec![rows.len() as i64, 8],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "housing".into(),
        id: "7".into(),
        inputs: vec![input],
        ..Default::default()
    }
}

/// Asks housing by raw contents.
pub(super) fn raw(rows: &[[f32; 8]]) -> ModelInferRequest {
    let mut request = typed(rows);
    request.inputs[0].contents = None;
    let bytes: Vec<u8> = rows.concat().iter().flat_map(|x| x.to_le_bytes()).collect();
    request.raw_input_contents = vec![bytes.into()];
    request
}
