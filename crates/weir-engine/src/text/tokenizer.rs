//! From strings to token ids.

use std::ops::Range;

use tokenizers::{
    EncodeInput, Encoding, ModelWrapper, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::{EngineError, Place, Places, TokenBatch, onnx::guarded};

/// The version in `Cargo.toml`, part of what an answer depends on; a test compares the two.
pub(super) const VERSION: &str = "0.23.2";

/// A tokenizer that cuts at our limit and never pads: what `tokenizer.json` says about both
/// is about the training set-up (all-MiniLM-L6-v2 pads every text to 128) and is overridden.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// Longest a text can be.
    pub(super) max_tokens: usize,
    max_chars: usize,
    words: Words,
    /// Id that fills short rows; the attention mask hides it.
    pub(super) pad: u32,
    /// Whether a row is two texts.
    pub(super) pairs: bool,
}

impl Tokens {
    /// Reads `tokenizer.json`, for single texts or for `pairs`.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] where it is none, or where `max_tokens` leaves no room
    /// beside the special tokens.
    pub(super) fn new(
        json: &[u8],
        max_tokens: usize,
        max_chars: usize,
        pairs: bool,
    ) -> Result<Self, EngineError> {
        let read = guarded(|| Tokenizer::from_bytes(json));
        let mut tokenizer = read
            .map_err(|e| e.to_string())
            .and_then(|read| read.map_err(|e| e.to_string()))
            .map_err(|e| EngineError::Artifact(format!("tokenizer.json: {e}")))?;
        let pad = pad_id(&tokenizer);
        tokenizer.with_padding(None);
        let special = tokenizer.get_post_processor().map_or(0, |p| {
            use tokenizers::PostProcessor;
            p.added_tokens(pairs)
        });
        if max_tokens <= special {
            return Err(EngineError::Artifact(format!(
                "max_tokens is {max_tokens}, and the tokenizer adds {special} special tokens to every text"
            )));
        }
        let cut = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let cut = tokenizer.with_truncation(Some(cut)).map(|_| ());
        cut.map_err(|e| EngineError::Artifact(format!("tokenizer.json: {e}")))?;
        let words = Words::new(&tokenizer);
        Ok(Self { tokenizer, max_tokens, max_chars, words, pad, pairs })
    }

    /// Tokenises `texts`, special tokens included, each cut to the limit; with `queries` one
    /// in front of each text, of which the longer one is cut. On the calling thread: the tokenizer's own batch call would use every core of the machine.
    ///
    /// # Errors
    /// [`EngineError::Input`] for a text with more characters than the limit, which bounds
    /// the time that this takes.
    pub(super) fn encode(
        &self,
        queries: Option<&[String]>,
        texts: &[String],
    ) -> Result<TokenBatch, EngineError> {
        let mut batch = TokenBatch::default();
        for (i, text) in texts.iter().enumerate() {
            self.check_length(i, text)?;
            let query = queries.and_then(|all| all.get(i));
            if let Some(query) = query {
                self.check_length(i, query)?;
            }
            let input = match query {
                Some(query) => EncodeInput::from((query.as_str(), text.as_str())),
                None => EncodeInput::from(text.as_str()),
            };
            batch.push(&run(|| self.tokenizer.encode_fast(input, true))?);
        }
        Ok(batch)
    }

    /// [`encode`](Self::encode) for single texts, with the places of their tokens.
    ///
    /// # Errors
    /// As `encode`.
    pub(super) fn encode_placed(&self, texts: Vec<String>) -> Result<TokenBatch, EngineError> {
        let mut batch = TokenBatch::default();
        for (i, text) in texts.into_iter().enumerate() {
            self.check_length(i, &text)?;
            let encoding = run(|| self.tokenizer.encode(text.as_str(), true))?;
            batch.push(&encoding);
            let tokens = self.words.places(&encoding, &text);
            batch.places.push(Places { text, tokens });
        }
        Ok(batch)
    }

    fn check_length(&self, index: usize, text: &str) -> Result<(), EngineError> {
        // No text has more characters than bytes, so counting is for the long ones only.
        if text.len() <= self.max_chars || text.chars().count() <= self.max_chars {
            return Ok(());
        }
        let (chars, most) = (text.chars().count(), self.max_chars);
        Err(EngineError::Input(format!(
            "text {index} has {chars} characters, at most {most} are taken: cut it"
        )))
    }
}

fn run(encode: impl FnOnce() -> tokenizers::Result<Encoding>) -> Result<Encoding, EngineError> {
    guarded(encode)?.map_err(|e| EngineError::Runtime(format!("the tokenizer failed: {e}")))
}

impl TokenBatch {
    fn push(&mut self, encoding: &Encoding) {
        self.ids.push(encoding.get_ids().to_vec());
        self.type_ids.push(encoding.get_type_ids().to_vec());
    }
}

/// Which tokens make up a word, by the rules of transformers' token classification pipeline.
struct Words {
    /// Whether tokens within a word are told by a prefix (`##ing`), which makes them longer
    /// than what they stand for.
    prefixed: bool,
    /// Stands for a word of its own.
    unknown: Option<u32>,
}

impl Words {
    fn new(tokenizer: &Tokenizer) -> Self {
        let (prefix, unknown) = match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => {
                (Some(&model.continuing_subword_prefix), Some(model.unk_token.as_str()))
            }
            ModelWrapper::BPE(model) => {
                (model.continuing_subword_prefix.as_ref(), model.unk_token.as_deref())
            }
            ModelWrapper::WordLevel(model) => (None, Some(model.unk_token.as_str())),
            ModelWrapper::Unigram(_) => (None, None),
        };
        let unknown = unknown.into_iter().chain(["<unk>"]).find_map(|token| tokenizer.token_to_id(token));
        Self { prefixed: prefix.is_some_and(|prefix| !prefix.is_empty()), unknown }
    }

    fn places(&self, encoding: &Encoding, text: &str) -> Vec<Place> {
        let special = encoding.get_special_tokens_mask();
        let tokens = encoding.get_offsets().iter().enumerate().filter(|(i, _)| special.get(*i) == Some(&0));
        let place = |(index, &(start, end)): (usize, &(usize, usize))| Place {
            index,
            bytes: start..end,
            continues: self.continues(encoding, index, text, start..end),
        };
        tokens.map(place).collect()
    }

    fn continues(&self, encoding: &Encoding, index: usize, text: &str, bytes: Range<usize>) -> bool {
        if encoding.get_ids().get(index).copied() == self.unknown {
            return false;
        }
        if self.prefixed {
            let token = encoding.get_tokens().get(index).map_or(0, |token| token.chars().count());
            let stands_for = text.get(bytes).map_or(0, |part| part.chars().count());
            return token != stands_for;
        }
        // No blank before it, nor at its beginning where the token holds the blank itself.
        let before = text.get(..bytes.start).and_then(|part| part.chars().next_back());
        let first = text.get(bytes.start..).and_then(|part| part.chars().next());
        before.is_some_and(|c| c != ' ') && first != Some(' ')
    }
}

/// What the file pads with, else the id of the token that models use for it.
fn pad_id(tokenizer: &Tokenizer) -> u32 {
    match tokenizer.get_padding() {
        Some(padding) => padding.pad_id,
        None => ["[PAD]", "<pad>"].iter().find_map(|t| tokenizer.token_to_id(t)).unwrap_or(0),
    }
}
