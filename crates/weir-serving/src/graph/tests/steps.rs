//! What each kind of step answers, and what it does not ask.

use weir_types::{DType, Signature, Tensor, TensorData};

use super::*;
use crate::executor::tests::{Double, contract, local};

const CASCADE: &str = r#"
[[graph.step]]
name = "cheap"
model = "m0"
[[graph.step]]
name = "dear"
model = "m1"
[[graph.step]]
name = "answer"
kind = "cascade"
steps = ["cheap", "dear"]
confidence = "p"
threshold = 0.9
"#;

fn rows(n: usize) -> Vec<[f32; 3]> {
    (0..n).map(|i| [i as f32 * 0.1, (i % 7) as f32, 0.5]).collect()
}

fn strings(tensor: &Tensor) -> Vec<&str> {
    tensor.as_strings().unwrap().iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_cascade_asks_the_dear_model_for_the_unsure_rows_alone() {
    let models = [Model::new(0, Manner::AtOnce), Model::new(1, Manner::AtOnce)];
    let graph = graph(CASCADE, &plain(&models));
    let rows = rows(100);
    let done = graph.execute(job(&rows)).await.unwrap();
    let sure = |row: &&[f32; 3]| say(0, *row).p.into_iter().fold(0.0, f32::max) >= 0.9;
    let unsure = rows.iter().filter(|row| !sure(row)).count();
    assert!((1..100).contains(&unsure));
    assert_eq!(models[0].asked(), (1, 100));
    assert_eq!(models[1].asked(), (1, unsure));
    let words: Vec<String> = rows.iter().map(|row| say(usize::from(!sure(&row)), row).word).collect();
    assert_eq!(strings(&done.outputs.tensors[2]), words);
    // All sure: the dear model is not asked at all.
    let easy: Vec<_> = rows.iter().filter(sure).copied().collect();
    graph.execute(job(&easy)).await.unwrap();
    assert_eq!(models[1].asked().0, 1);
}

#[tokio::test]
async fn no_rows_are_no_calls_of_branches() {
    let models = [Model::new(0, Manner::AtOnce), Model::new(1, Manner::AtOnce)];
    let graph = graph(CASCADE, &plain(&models));
    let done = graph.execute(job(&[])).await.unwrap();
    assert_eq!(
        done.outputs.tensors.iter().map(|t| t.shape().to_vec()).collect::<Vec<_>>(),
        [vec![0, 2], vec![0], vec![0]]
    );
    assert_eq!(models[1].asked().0, 0);
}

#[tokio::test]
async fn ties_of_votes_go_to_the_earliest_and_weights_decide() {
    let toml = |weights: &str| {
        format!(
            "[[graph.step]]\nname = 'v'\nkind = 'vote'\nof = ['m1.word', 'm0.word']\n{weights}\n\
             [[graph.step]]\nmodel = 'm0'\n[[graph.step]]\nmodel = 'm1'"
        )
    };
    let models = [Model::new(0, Manner::AtOnce), Model::new(1, Manner::AtOnce)];
    let rows = rows(20);
    for (weights, winner) in [("", 1), ("weights = [1, 1.5]", 0), ("weights = [0, 1]", 0)] {
        let done = graph(&toml(weights), &plain(&models)).execute(job(&rows)).await.unwrap();
        let words: Vec<String> = rows.iter().map(|row| say(winner, row).word).collect();
        assert_eq!(strings(&done.outputs.tensors[0]), words, "{weights}");
    }
}

#[tokio::test]
async fn the_mean_is_rounded_once() {
    let toml = "[[graph.step]]\nname = 'mean'\nkind = 'mean'\nof = ['m0.p', 'm0.p', 'm0.p']\nweights = [0.1, 0.2, 0.3]\n\
                [[graph.step]]\nmodel = 'm0'";
    let models = [Model::new(0, Manner::AtOnce)];
    let rows = rows(50);
    let done = graph(toml, &plain(&models)).execute(job(&rows)).await.unwrap();
    let own: Vec<f32> = rows.iter().flat_map(|row| say(0, row).p).collect();
    assert_eq!(done.outputs.tensors[0].as_f32(), Some(&own[..]), "the mean of equal numbers is that number");
    assert_eq!(models[0].asked(), (1, 50), "a step runs once, however often it is used");
}

#[tokio::test]
async fn a_graph_keeps_the_contract_of_executors() {
    let double = Double::light();
    let tensor = |name: &str| tensor(name, DType::Float32, &[]);
    let signature = Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")] };
    let versions = [served("add", signature, Arc::new(local(&double, |_| {})))];
    contract(&graph("[[graph.step]]\nmodel = 'add'", &versions), double.clock()).await;
}

#[test]
fn whole_numbers_and_truth_values_decide_too() {
    let on = |data: TensorData| Tensor::new(vec![data.len()], data).unwrap();
    let is =
        |value: weir_types::Scalar| weir_artifact::Test { one_of: Some(vec![value]), ..Default::default() };
    let tests = [is(weir_types::Scalar::Int(2)), weir_artifact::Test::default()];
    let ints = on(TensorData::Uint8(vec![2, 3, 2]));
    assert_eq!(super::super::combine::cases(&ints, 0, &tests), Some(vec![0, 1, 0]));
    let tests = [is(weir_types::Scalar::Bool(true)), weir_artifact::Test::default()];
    let flags = on(TensorData::Bool(vec![false, true]));
    assert_eq!(super::super::combine::cases(&flags, 0, &tests), Some(vec![1, 0]));
    assert_eq!(super::super::combine::cases(&flags, 1, &tests), None, "there is no such column");
}
