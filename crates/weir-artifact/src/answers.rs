//! What the words of a response mean for one model.

use weir_types::{Answer, Signature};

use crate::{
    Aggregation, Task,
    load::Parts,
    report::Report,
    task::{Decision, number_output},
};

/// The word that stands for the whole answer of `:predict`.
const ANSWER: &str = "answer";

/// All words of a model: `prediction` first, `answer` last. `prediction` is the operator's
/// word for it, if any.
pub(crate) fn answers(parts: &Parts, prediction: Option<&str>, report: &mut Report) -> Vec<(String, Answer)> {
    let words = words(parts);
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
    let natural = natural(parts.task, &parts.signature, &words);
    let whole = whole(parts.task, &natural, chosen.as_ref(), &words);
    let first = ("prediction".to_owned(), chosen.unwrap_or(natural));
    std::iter::once(first).chain(words).chain([(ANSWER.to_owned(), whole)]).collect()
}

/// The words that can stand in `[output] prediction`.
fn words(parts: &Parts) -> Vec<(String, Answer)> {
    let Parts { signature, labels, scores, decision, .. } = parts;
    let mut words = Vec::new();
    if let Some(output) = *scores {
        let (label, score) = label_and_score(output, labels, decision.as_ref());
        let labels = || labels.to_vec();
        words.push(("label".to_owned(), label));
        words.push(("score".to_owned(), score));
        words.push(("labels".to_owned(), Answer::LabelScores { output, labels: labels() }));
        words.push(("scores".to_owned(), Answer::ScoreMap { output, labels: labels() }));
        let number = |(column, label): (usize, &String)| {
            (format!("probability:{label}"), Answer::Number { output, column })
        };
        words.extend(labels().iter().enumerate().map(number));
    }
    if parts.task == Task::TokenClassification {
        let names = parts.text.as_ref().map_or(Vec::new(), |text| entity_names(labels, text.aggregation));
        words.push(("entities".to_owned(), Answer::Entities { output: 0, names }));
    }
    if let (None, Some(Decision { output, classes })) = (scores, decision.clone()) {
        let labels = labels.clone();
        words.push(("label".to_owned(), Answer::Class { output, classes, labels }));
    }
    let raw = |(output, spec): (usize, &weir_types::TensorSpec)| {
        (format!("output:{}", spec.name), Answer::Raw { output })
    };
    words.extend(signature.outputs.iter().enumerate().map(raw));
    words
}

/// What entities can be called, each once.
fn entity_names(labels: &[String], aggregation: Aggregation) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in labels.iter().filter_map(|label| aggregation.entity(label)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The label and its score: the class that the model decided for, if it says one, else the
/// highest score.
fn label_and_score(scores: usize, labels: &[String], decision: Option<&Decision>) -> (Answer, Answer) {
    let labels = labels.to_vec();
    match decision.cloned() {
        Some(Decision { output, classes }) => (
            Answer::Class { output, classes: classes.clone(), labels },
            Answer::ClassScore { output, classes, scores },
        ),
        None => (Answer::Label { output: scores, labels }, Answer::Score { output: scores }),
    }
}

/// What `prediction` means where the operator does not say.
fn natural(task: Task, signature: &Signature, words: &[(String, Answer)]) -> Answer {
    let named = |name: &str| words.iter().find(|(word, _)| word == name).map(|(_, answer)| answer.clone());
    let raw = Answer::Raw { output: 0 };
    match task {
        Task::Classification => named("label").unwrap_or(raw),
        Task::TextClassification => named("labels").unwrap_or(raw),
        Task::TokenClassification => named("entities").unwrap_or(raw),
        Task::Regression => {
            number_output(signature).map_or(raw, |output| Answer::Number { output, column: 0 })
        }
        Task::Rerank => Answer::Number { output: 0, column: 0 },
        Task::Raw if signature.outputs.len() != 1 => Answer::Record(raw_record(signature)),
        _ => raw,
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
