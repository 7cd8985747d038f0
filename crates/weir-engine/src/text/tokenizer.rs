//! From strings to token ids.

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::{EngineError, TokenBatch, onnx::guarded};

/// The version in `Cargo.toml`, part of what an answer depends on; a test compares the two.
pub(super) const VERSION: &str = "0.23.2";

/// A tokenizer that cuts at our limit and never pads: what `tokenizer.json` says about both
/// is about the training set-up (all-MiniLM-L6-v2 pads every text to 128) and is overridden.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// Longest a text can be.
    pub(super) max_tokens: usize,
    max_chars: usize,
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
        Ok(Self { tokenizer, max_tokens, max_chars, pad, pairs })
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
        let mut batch =
            TokenBatch { ids: Vec::with_capacity(texts.len()), type_ids: Vec::with_capacity(texts.len()) };
        for (i, text) in texts.iter().enumerate() {
            self.check_length(i, text)?;
            let query = queries.and_then(|all| all.get(i));
            if let Some(query) = query {
                self.check_length(i, query)?;
            }
            let encoding = guarded(|| match query {
                Some(query) => self.tokenizer.encode_fast((query.as_str(), text.as_str()), true),
                None => self.tokenizer.encode_fast(text.as_str(), true),
            })?
            .map_err(|e| EngineError::Runtime(format!("the tokenizer failed: {e}")))?;
            batch.ids.push(encoding.get_ids().to_vec());
            batch.type_ids.push(encoding.get_type_ids().to_vec());
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

/// What the file pads with, else the id of the token that models use for it.
fn pad_id(tokenizer: &Tokenizer) -> u32 {
    match tokenizer.get_padding() {
        Some(padding) => padding.pad_id,
        None => ["[PAD]", "<pad>"].iter().find_map(|t| tokenizer.token_to_id(t)).unwrap_or(0),
    }
}
