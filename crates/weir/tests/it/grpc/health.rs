//! `grpc.health.v1`.

use rustix::process::Signal;
use tokio_stream::once;
use tonic::{Code, Request, Streaming};
use weir_api::grpc::wire::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use super::client::{Client, HEALTH, INFERENCE};
use crate::drain::serve;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_known_and_serving() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    for service in ["", INFERENCE, HEALTH] {
        let answer: HealthCheckResponse =
            client.call(HEALTH, "Check", Request::new(of(service))).await.unwrap();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = client.call::<_, HealthCheckResponse>(HEALTH, "Check", Request::new(of("x"))).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let mut stream: Streaming<HealthCheckResponse> =
        client.stream(HEALTH, "Watch", once(of("x"))).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    drop(stream);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_drain() {
    let (_place, mut server) = serve(&["examples/models/housing"], "drain_delay = \"1s\"");
    let client = Client::connect(server.address).await;
    let mut stream: Streaming<HealthCheckResponse> =
        client.stream(HEALTH, "Watch", once(of(""))).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.signal(Signal::TERM);
    assert_eq!(stream.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    drop((stream, client));
    assert!(tokio::task::spawn_blocking(move || server.wait()).await.unwrap().success());
}
