//! What the words of a response mean for one model.

use weir_types::{Answer, Signature};

use crate::{Task, report::Report, task::number_output};

/// The word that stands for the whole answer of `:predict`.
const ANSWER: &str = "answer";

/// All words of a model: `prediction` first, `answer` last. `prediction` is the operator's
/// word for it, if any.
pub(crate) fn answers(
    task: Task,
    signature: &Signature,
    labels: &[String],
    scores: Option<usize>,
    prediction: Option<&str>,
    report: &mut Report,
) -> Vec<(String, Answer)> {
    let words = words(signature, labels, scores);
    let find = |word: &str| words.iter().find(|(name, _)| name == word).map(|(_, answer)| answer.clone());
    let chosen = prediction.and_then(|word| {
        let answer = find(word);
        if answer.is_none() {
            let known: Vec<_> = words.iter().take(20).map(|(name, _)| format!("`{name}`")).collect();
            let message = format!(
                "`prediction` cannot be `{}`: this model has {}",
                word.escape_debug(),
                known.join(", ")
            );
            report.at("output.prediction", message);
        }
        answer
    });
    let natural = natural(task, signature, labels, scores);
    let whole = whole(task, &natural, chosen.as_ref(), &words);
    let first = ("prediction".to_owned(), chosen.unwrap_or(natural));
    std::iter::once(first).chain(words).chain([(ANSWER.to_owned(), whole)]).collect()
}

/// The words that can stand in `[output] prediction`.
fn words(signature: &Signature, labels: &[String], scores: Option<usize>) -> Vec<(String, Answer)> {
    let mut words = Vec::new();
    if let Some(output) = scores {
        let labels = || labels.to_vec();
        words.push(("label".to_owned(), Answer::Label { output, labels: labels() }));
        words.push(("score".to_owned(), Answer::Score { output }));
        words.push(("labels".to_owned(), Answer::LabelScores { output, labels: labels() }));
        words.push(("scores".to_owned(), Answer::ScoreMap { output, labels: labels() }));
        let number = |(column, label): (usize, &String)| {
            (format!("probability:{label}"), Answer::Number { output, column })
        };
        words.extend(labels().iter().enumerate().map(number));
    }
    let raw = |(output, spec): (usize, &weir_types::TensorSpec)| {
        (format!("output:{}", spec.name), Answer::Raw { output })
    };
    words.extend(signature.outputs.iter().enumerate().map(raw));
    words
}

/// What `prediction` means where the operator does not say.
fn natural(task: Task, signature: &Signature, labels: &[String], scores: Option<usize>) -> Answer {
    match (task, scores) {
        (Task::Classification, Some(output)) => Answer::Label { output, labels: labels.to_vec() },
        (Task::TextClassification, Some(output)) => Answer::LabelScores { output, labels: labels.to_vec() },
        (Task::Regression, _) => number_output(signature)
            .map_or(Answer::Raw { output: 0 }, |output| Answer::Number { output, column: 0 }),
        (Task::Raw, _) if signature.outputs.len() != 1 => Answer::Record(raw_record(signature)),
        _ => Answer::Raw { output: 0 },
    }
}

/// The full answer of a typed `:predict`.
fn whole(task: Task, natural: &Answer, chosen: Option<&Answer>, words: &[(String, Answer)]) -> Answer {
    let named = |name: &str| words.iter().find(|(word, _)| word == name).cloned();
    match task {
        Task::Classification => {
            let prediction = chosen.map(|answer| ("prediction".to_owned(), answer.clone()));
            let rest = ["label", "score", "scores"].into_iter().filter_map(named);
            Answer::Record(prediction.into_iter().chain(rest).collect())
        }
        Task::Raw => {
            let prediction = chosen.map(|answer| ("prediction".to_owned(), answer.clone()));
            let outputs = words.iter().filter_map(|(word, answer)| {
                Some((word.strip_prefix("output:")?.to_owned(), answer.clone()))
            });
            Answer::Record(prediction.into_iter().chain(outputs).collect())
        }
        _ => chosen.unwrap_or(natural).clone(),
    }
}

fn raw_record(signature: &Signature) -> Vec<(String, Answer)> {
    signature.outputs.iter().enumerate().map(|(output, o)| (o.name.clone(), Answer::Raw { output })).collect()
}
