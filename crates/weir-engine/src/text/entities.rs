//! From one score a label of each token to the entities of a text, as transformers'
//! `TokenClassificationPipeline` makes them (version 5.24, `gather_pre_entities` and
//! `aggregate`): special tokens out, softmax over the labels, words, groups, `O` out.

use std::ops::Range;

use serde::Serialize;
use weir_artifact::{Activation, Aggregation};

use super::head::activate;
use crate::{EngineError, Places};

/// How the tokens of one model become entities.
pub(super) struct Entities {
    pub(super) labels: Vec<String>,
    pub(super) aggregation: Aggregation,
}

/// A token, or a word, and what it was taken for.
struct Labelled<'a> {
    label: &'a str,
    score: f32,
    bytes: Range<usize>,
}

/// An entity as it is answered.
#[derive(Debug, PartialEq, Serialize)]
struct Entity<'a> {
    entity: &'a str,
    /// `null` where it is not finite.
    score: f32,
    /// The first character, in Unicode scalar values, which is how Python counts.
    start: usize,
    /// The character behind the last.
    end: usize,
    /// The text between.
    word: &'a str,
}

impl Entities {
    /// The entities of one text as JSON; `logits` is `[tokens, width]`.
    ///
    /// # Errors
    /// [`EngineError::Runtime`] where there is not one logit a label.
    pub(super) fn json(&self, places: &Places, logits: &[f32], width: usize) -> Result<String, EngineError> {
        if width != self.labels.len() {
            let labels = self.labels.len();
            return Err(EngineError::Runtime(format!("the encoder gave {width} scores for {labels} labels")));
        }
        let mut scores = logits.to_vec();
        scores.chunks_exact_mut(width).for_each(|token| activate(Activation::Softmax, token));
        let words = self.words(places, &scores);
        let groups = match self.aggregation {
            Aggregation::None => words,
            _ => groups(words),
        };
        let mut characters = Characters::new(&places.text);
        let entities: Vec<_> = groups
            .into_iter()
            .filter_map(|group| {
                let entity = self.aggregation.entity(group.label)?;
                let (start, end) = (characters.before(group.bytes.start), characters.before(group.bytes.end));
                let word = places.text.get(group.bytes).unwrap_or_default();
                Some(Entity { entity, score: group.score, start, end, word })
            })
            .collect();
        serde_json::to_string(&entities).map_err(|e| EngineError::Runtime(e.to_string()))
    }

    /// Each token, or where a word counts as one, each word.
    fn words(&self, places: &Places, scores: &[f32]) -> Vec<Labelled<'_>> {
        let width = self.labels.len();
        let whole = !matches!(self.aggregation, Aggregation::None | Aggregation::Simple);
        let tokens = places.tokens.chunk_by(|_, next| whole && next.continues);
        let word = |tokens: &[crate::Place]| {
            let of = |token: &crate::Place| scores.get(token.index * width..(token.index + 1) * width);
            let rows: Vec<&[f32]> = tokens.iter().filter_map(of).collect();
            let (label, score) = self.decide(&rows)?;
            let bytes = tokens.first()?.bytes.start..tokens.last()?.bytes.end;
            Some(Labelled { label: self.labels.get(label)?, score, bytes })
        };
        tokens.filter_map(word).collect()
    }

    /// Label and score of a word by those of its tokens.
    fn decide(&self, tokens: &[&[f32]]) -> Option<(usize, f32)> {
        let first = tokens.first()?;
        match self.aggregation {
            Aggregation::Average if tokens.len() > 1 => {
                let mean = |label: usize| {
                    let sum: f64 =
                        tokens.iter().filter_map(|token| token.get(label)).map(|&s| f64::from(s)).sum();
                    (sum / tokens.len() as f64) as f32
                };
                best(&(0..first.len()).map(mean).collect::<Vec<_>>())
            }
            Aggregation::Max => {
                tokens.iter().filter_map(|token| best(token)).reduce(|a, b| if b.1 > a.1 { b } else { a })
            }
            _ => best(first),
        }
    }
}

/// The highest score and where it is; the first of equals, as numpy's argmax.
fn best(scores: &[f32]) -> Option<(usize, f32)> {
    let all = scores.iter().copied().enumerate();
    all.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Joins neighbours of one type; the score is the mean.
fn groups(words: Vec<Labelled<'_>>) -> Vec<Labelled<'_>> {
    let joins = |a: &Labelled<'_>, b: &Labelled<'_>| {
        let (begins, kind) = tag(b.label);
        !begins && kind == tag(a.label).1
    };
    let group = |words: &[Labelled<'_>]| -> Option<(Range<usize>, f32)> {
        let sum: f64 = words.iter().map(|word| f64::from(word.score)).sum();
        let bytes = words.first()?.bytes.start..words.last()?.bytes.end;
        Some((bytes, (sum / words.len() as f64) as f32))
    };
    words
        .chunk_by(joins)
        .filter_map(|words| {
            let (bytes, score) = group(words)?;
            Some(Labelled { label: words.first()?.label, score, bytes })
        })
        .collect()
}

/// Whether a label says that an entity begins, and its type. A label that is neither `B-…`
/// nor `I-…` is its own type and goes on.
fn tag(label: &str) -> (bool, &str) {
    match label.strip_prefix("B-") {
        Some(kind) => (true, kind),
        None => (false, label.strip_prefix("I-").unwrap_or(label)),
    }
}

/// Counts characters up to places of a text. It walks from the place before, so that all of a
/// text's entities cost about one walk over it.
struct Characters<'a> {
    text: &'a str,
    byte: usize,
    count: usize,
}

impl<'a> Characters<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, byte: 0, count: 0 }
    }

    /// Characters before `byte`, or before the one that it lies in.
    fn before(&mut self, byte: usize) -> usize {
        let byte = self.text.floor_char_boundary(byte);
        let between = |from: usize, to: usize| self.text.get(from..to).map_or(0, |part| part.chars().count());
        self.count = match byte >= self.byte {
            true => self.count + between(self.byte, byte),
            false => self.count - between(byte, self.byte),
        };
        self.byte = byte;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    /// Tokens `[from, to, continues]` of `text`, and logits that make `scores` likely.
    fn json(
        aggregation: Aggregation,
        labels: &[&str],
        text: &str,
        tokens: &[(Range<usize>, bool)],
        logits: &[f32],
    ) -> String {
        let place = |(index, (bytes, continues)): (usize, &(Range<usize>, bool))| Place {
            index,
            bytes: bytes.clone(),
            continues: *continues,
        };
        let places = Places { text: text.to_owned(), tokens: tokens.iter().enumerate().map(place).collect() };
        let entities = Entities { labels: labels.iter().map(|l| (*l).to_owned()).collect(), aggregation };
        entities.json(&places, logits, labels.len()).unwrap()
    }

    const LABELS: [&str; 4] = ["O", "B-PER", "I-PER", "S-LOC"];

    /// Logits with 100 at the label of each token: its score is 1.
    fn sure(labels: &[usize]) -> Vec<f32> {
        labels.iter().flat_map(|&label| (0..4).map(move |i| if i == label { 100.0 } else { 0.0 })).collect()
    }

    #[test]
    fn offsets_count_characters_and_words_are_the_text_between() {
        let text = "für 😀 Zoë";
        let tokens = [(0..4, false), (5..9, false), (10..14, false)];
        assert_eq!(
            json(Aggregation::None, &LABELS, text, &tokens, &sure(&[0, 1, 3])),
            r#"[{"entity":"B-PER","score":1.0,"start":4,"end":5,"word":"😀"},{"entity":"S-LOC","score":1.0,"start":6,"end":9,"word":"Zoë"}]"#
        );
    }

    #[test]
    fn neighbours_of_a_type_are_joined_unless_one_begins() {
        let tokens = [(0..1, false), (2..3, false), (4..5, false), (6..7, false), (8..9, false)];
        let got = json(Aggregation::Simple, &LABELS, "a b c d e", &tokens, &sure(&[2, 2, 1, 3, 3]));
        assert_eq!(
            got,
            r#"[{"entity":"PER","score":1.0,"start":0,"end":3,"word":"a b"},{"entity":"PER","score":1.0,"start":4,"end":5,"word":"c"},{"entity":"LOC","score":1.0,"start":6,"end":9,"word":"d e"}]"#
        );
        let got = json(Aggregation::Simple, &LABELS, "a b c", &tokens[..3], &sure(&[2, 0, 2]));
        assert_eq!(got.matches("PER").count(), 2, "what is outside parts them: {got}");
    }

    #[test]
    fn a_word_is_what_its_strategy_says() {
        // Two tokens of one word: the first leans to X, the second is surer of Y.
        let (labels, tokens) = (["X", "Y"], [(0..2, false), (2..4, true)]);
        let logits = [1.0, 0.0, 0.0, 3.0];
        let of = |aggregation| json(aggregation, &labels, "abcd", &tokens, &logits);
        let one = |name: &str, score: &str| {
            format!(r#"[{{"entity":"{name}","score":{score},"start":0,"end":4,"word":"abcd"}}]"#)
        };
        assert_eq!(of(Aggregation::First), one("X", "0.7310586"));
        assert_eq!(of(Aggregation::Max), one("Y", "0.95257413"));
        assert_eq!(of(Aggregation::Average), one("Y", "0.61075777"));
        assert_eq!(of(Aggregation::Simple).matches("word").count(), 2);
    }

    #[test]
    fn no_tokens_are_no_entities_and_a_score_that_is_no_number_is_null() {
        assert_eq!(json(Aggregation::Simple, &LABELS, "", &[], &[]), "[]");
        let got = json(Aggregation::Simple, &["X", "Y"], "a", &[(0..1, false)], &[f32::NAN, 1.0]);
        assert_eq!(got, r#"[{"entity":"X","score":null,"start":0,"end":1,"word":"a"}]"#);
    }

    #[test]
    fn a_place_may_come_before_the_last_one() {
        let mut characters = Characters::new("aäo");
        assert_eq!([4, 1, 3, 2, 0, 99].map(|byte| characters.before(byte)), [3, 1, 2, 1, 0, 3]);
    }
}
