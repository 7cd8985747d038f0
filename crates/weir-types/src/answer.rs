//! What a word such as `prediction` means for one model.

use crate::Scalar;

/// How one row's answer is read out of a model's outputs. Resolved once when a model
/// loads (`weir-artifact`), followed for every response (`weir-api`).
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One element of a numeric output: `output[row, column]`.
    Number {
        /// Index into the signature's outputs.
        output: usize,
        /// Element of the row.
        column: usize,
    },
    /// The class that the model itself decided for: `labels[i]` where `classes[i]` is what
    /// `output[row]` holds. Where a model says its class this is its answer: votes, margins
    /// and tuned thresholds need not agree with the highest score.
    Class {
        /// Index into the signature's outputs (classes, `[rows]`: integers or strings).
        output: usize,
        /// What the output holds for each label.
        classes: Vec<Scalar>,
        /// Label of each class.
        labels: Vec<String>,
    },
    /// The score of the class that the model itself decided for: `scores[row, i]` where
    /// `classes[i]` is what `output[row]` holds.
    ClassScore {
        /// Index into the signature's outputs (classes, `[rows]`: integers or strings).
        output: usize,
        /// What the output holds for each column of the scores.
        classes: Vec<Scalar>,
        /// Index into the signature's outputs (scores, `[rows, labels]`).
        scores: usize,
    },
    /// The label whose score is highest: `labels[argmax(output[row, ..])]`.
    Label {
        /// Index into the signature's outputs (scores, `[rows, labels]`).
        output: usize,
        /// Label of each column.
        labels: Vec<String>,
    },
    /// The highest score itself: `max(output[row, ..])`.
    Score {
        /// Index into the signature's outputs (scores, `[rows, labels]`).
        output: usize,
    },
    /// `[{"label": …, "score": …}, …]`, one entry a label, in the model's order.
    LabelScores {
        /// Index into the signature's outputs (scores, `[rows, labels]`).
        output: usize,
        /// Label of each column.
        labels: Vec<String>,
    },
    /// `{"<label>": score, …}` in the model's order.
    ScoreMap {
        /// Index into the signature's outputs (scores, `[rows, labels]`).
        output: usize,
        /// Label of each column.
        labels: Vec<String>,
    },
    /// `[{"entity": …, "score": …, "start": …, "end": …, "word": …}, …]`: the row's element of a
    /// string output, which is that JSON.
    Entities {
        /// Index into the signature's outputs (JSON, `[rows]`).
        output: usize,
        /// What an entity can be called.
        names: Vec<String>,
    },
    /// The row of an output as it is: a number for one element, else nested lists.
    Raw {
        /// Index into the signature's outputs.
        output: usize,
    },
    /// An object of several answers.
    Record(Vec<(String, Answer)>),
}
