//! The cache in gRPC's metadata.

use tonic::{Code, Request};
use weir_api::grpc::wire::inference::{ModelInferResponse, ModelStatisticsRequest, ModelStatisticsResponse};

use super::client::{Client, INFERENCE, houses, typed};
use crate::drain::serve;

#[tokio::test(flavor = "multi_thread")]
async fn metadata_ask_and_tell_what_headers_do() {
    let (_place, server) = serve(&["examples/models/housing"], "[cache]\nall = true");
    let client = Client::connect(server.address).await;
    let ask = async |income: f32, directive: &'static str| {
        let mut rows = houses(1);
        rows[0][0] = income;
        let mut question = Request::new(typed(&rows));
        question.metadata_mut().insert("cache-control", directive.parse().unwrap());
        let answer = client.respond::<_, ModelInferResponse>(INFERENCE, "ModelInfer", question).await?;
        let text = |name| answer.metadata().get(name).map(|v| v.to_str().unwrap().to_owned());
        Ok::<_, tonic::Status>((text("x-cache").unwrap_or_default(), text("age").is_some()))
    };
    let said = |verdict: &str, age| (verdict.to_owned(), age);
    assert_eq!(ask(1.0, "max-age=0").await.unwrap(), said("miss", false));
    assert_eq!(ask(1.0, "only-if-cached").await.unwrap(), said("hit", true));
    assert_eq!(ask(1.0, "no-cache").await.unwrap(), said("miss", false));
    ask(2.0, "no-store").await.unwrap();
    let refused = ask(2.0, "only-if-cached").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "not to be tried again: {refused}");
    let question = ModelStatisticsRequest { name: "housing".into(), version: String::new() };
    let stats: ModelStatisticsResponse = client.ask("ModelStatistics", question).await.unwrap();
    let stats = stats.model_stats[0].inference_stats.unwrap();
    assert_eq!(stats.cache_hit.unwrap().count, 1);
    assert!(stats.cache_miss.unwrap().count >= 2);
    server.stop();
}
