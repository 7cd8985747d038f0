//! `ModelStreamInfer`.

use tokio_stream::iter;
use tonic::{Code, Streaming};
use weir_api::grpc::wire::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
    infer_parameter::ParameterChoice,
};

use super::client::{Client, INFERENCE, houses, raw, typed};
use crate::drain::serve;

async fn all(mut stream: Streaming<ModelStreamInferResponse>) -> Vec<ModelStreamInferResponse> {
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers
}

fn flag(value: bool) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(value)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_order_and_are_those_of_single_calls() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let question = |i: usize| {
        let rows = houses(i % 7 + 1);
        ModelInferRequest { id: i.to_string(), ..if i.is_multiple_of(2) { raw(&rows) } else { typed(&rows) } }
    };
    let questions: Vec<_> = (0..200).map(question).collect();
    let stream = client.stream(INFERENCE, "ModelStreamInfer", iter(questions.clone())).await.unwrap();
    let answers = all(stream).await;
    assert_eq!(answers.len(), questions.len());
    for (question, answer) in questions.into_iter().zip(answers) {
        let single: ModelInferResponse = client.ask("ModelInfer", question).await.unwrap();
        assert_eq!((answer.error_message.as_str(), answer.infer_response), ("", Some(single)));
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_a_message_and_the_stream_lives_on() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let named = |id: &str, model: &str| ModelInferRequest {
        id: id.into(),
        model_name: model.into(),
        parameters: [("triton_enable_empty_final_response".to_owned(), flag(true))].into(),
        ..raw(&houses(1))
    };
    let short = ModelInferRequest { raw_input_contents: vec![vec![0; 3].into()], ..named("c", "housing") };
    let plain = ModelInferRequest { id: "e".into(), ..raw(&houses(1)) };
    let questions = vec![named("a", "housing"), named("b", "nothing"), short, named("d", "housing"), plain];
    let answers = all(client.stream(INFERENCE, "ModelStreamInfer", iter(questions)).await.unwrap()).await;
    let seen: Vec<_> = answers
        .iter()
        .map(|a| {
            let response = a.infer_response.as_ref().unwrap();
            let last = response.parameters.get("triton_final_response");
            (response.id.as_str(), a.error_message.is_empty(), last == Some(&flag(true)))
        })
        .collect();
    assert_eq!(
        seen,
        [("a", true, true), ("b", false, true), ("c", false, true), ("d", true, true), ("e", true, false)]
    );
    assert!(answers[1].error_message.contains("no model"), "{}", answers[1].error_message);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_questions_ends_well() {
    let (_place, server) = serve(&["examples/models/housing"], "");
    let client = Client::connect(server.address).await;
    let none = iter(Vec::<ModelInferRequest>::new());
    assert!(all(client.stream(INFERENCE, "ModelStreamInfer", none).await.unwrap()).await.is_empty());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_ends_the_stream() {
    let (_place, server) = serve(&["examples/models/housing"], "max_body = \"64KiB\"");
    let client = Client::connect(server.address).await;
    let questions = iter(vec![raw(&houses(1)), raw(&houses(10_000))]);
    let mut stream: Streaming<ModelStreamInferResponse> =
        client.stream(INFERENCE, "ModelStreamInfer", questions).await.unwrap();
    assert!(stream.message().await.unwrap().is_some(), "what came before is answered");
    assert_eq!(stream.message().await.unwrap_err().code(), Code::ResourceExhausted);
    server.stop();
}
