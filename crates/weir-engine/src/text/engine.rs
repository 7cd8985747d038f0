//! The engine over the parts.

use std::sync::Arc;

use weir_artifact::{Activation, Pooling, Task, TextSpec};
use weir_types::{Batch, Outputs, Signature, Tensor, TensorData};

use super::{
    encoder::{Encoder, Row},
    head::{Head, activate, usual},
    pool::{normalize, pool},
    runs,
    tokenizer::{self, Tokens},
};
use crate::{Context, Cost, Engine, EngineError, EngineInfo, Payload, Prepared};

/// Bounds on one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Tokens that a text is cut to, special tokens included.
    pub max_tokens: usize,
    /// Characters (Unicode scalar values) beyond which a text is refused: it bounds the time
    /// that tokenising takes, which reads all of a text that is cut afterwards.
    pub max_chars: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        Self { max_tokens: 256, max_chars: 100_000 }
    }
}

/// A text model: `text: string[N]` in, `scores: float32[N, labels]` or
/// `embedding: float32[N, hidden]` out; a reranker takes `query: string[N]` before it and
/// gives `score: float32[N, 1]`.
pub struct TextEngine {
    info: EngineInfo,
    tokens: Tokens,
    encoder: Encoder,
    pooling: Pooling,
    normalize: bool,
    head: Option<Head>,
    /// Whether the vectors are logits to be made scores of.
    scores: bool,
    /// How; otherwise what is usual for the number of labels and `multi_label`.
    activation: Option<Activation>,
    multi_label: bool,
}

impl TextEngine {
    /// Puts a text model together: `encoder` runs the graph, whose signature is `signature`.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] for a broken tokenizer or head, [`EngineError::Unsupported`]
    /// for an encoder that texts do not fit or a task that is not about texts.
    pub fn new(
        encoder: Arc<dyn Engine>,
        signature: &Signature,
        text: &TextSpec,
        task: Task,
        limits: TextLimits,
    ) -> Result<Self, EngineError> {
        let mut info = encoder.info().clone();
        info.version = format!("{}+tokenizers.{}", info.version, tokenizer::VERSION);
        let scores = match task {
            Task::TextClassification | Task::Rerank => true,
            Task::Embedding => false,
            _ => {
                let why = "a text model classifies, embeds or reranks texts".to_owned();
                return Err(EngineError::Unsupported { engine: info.name, why });
            }
        };
        let encoder = Encoder::new(encoder, signature, text.pooling)?;
        let max_tokens = encoder.max_tokens().unwrap_or(usize::MAX).min(limits.max_tokens);
        let pairs = task == Task::Rerank;
        let tokens = Tokens::new(&text.tokenizer, max_tokens, limits.max_chars, pairs)?;
        let head = text.head.as_deref().map(Head::new).transpose()?;
        if let (Some(head), Some(width)) = (&head, encoder.width)
            && head.hidden != width
        {
            let hidden = head.hidden;
            return Err(EngineError::Artifact(format!(
                "the head takes vectors of {hidden}, the encoder gives {width}"
            )));
        }
        let TextSpec { pooling, normalize, multi_label, activation, .. } = *text;
        Ok(Self { info, tokens, encoder, pooling, normalize, head, scores, activation, multi_label })
    }

    /// Encodes all rows: the pooled vectors in the rows' order, and their width.
    fn vectors(&self, rows: &[Row<'_>], context: &Context) -> Result<(usize, Vec<f32>), EngineError> {
        let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
        let runs = runs::plan(&lengths, self.encoder.max_rows);
        let mut width = self.width_unasked();
        let mut vectors = Vec::new();
        for range in runs.ranges {
            if context.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let indices = &runs.order[range];
            let texts: Vec<Row<'_>> = indices.iter().map(|&i| rows[i]).collect();
            let (shape, encoded) = self.encoder.run(&texts, self.tokens.pad, &context.cancel)?;
            width = shape.last().copied().unwrap_or(0);
            vectors.resize(rows.len() * width, 0.0);
            let one = encoded.len() / texts.len();
            for (&i, tokens) in indices.iter().zip(encoded.chunks_exact(one)) {
                // With pooling the padding is cut off; without, this is one vector already.
                let kept = if self.pooling == Pooling::None { width } else { lengths[i] * width };
                pool(self.pooling, &tokens[..kept], &mut vectors[i * width..][..width]);
            }
        }
        Ok((width, vectors))
    }

    /// Width of the vectors when no text tells; 0 where the graph does not either.
    fn width_unasked(&self) -> usize {
        self.encoder.width.or(self.head.as_ref().map(|h| h.hidden)).unwrap_or(0)
    }

    /// Normalises, projects and scores the pooled vectors; gives the last dimension too.
    fn finish(&self, width: usize, mut vectors: Vec<f32>) -> Result<(usize, Vec<f32>), EngineError> {
        if self.normalize && width > 0 {
            vectors.chunks_exact_mut(width).for_each(normalize);
        }
        let (width, mut vectors) = match &self.head {
            None => (width, vectors),
            Some(head) if head.hidden != width => {
                let hidden = head.hidden;
                return Err(EngineError::Runtime(format!(
                    "the head takes vectors of {hidden}, the encoder gave {width}"
                )));
            }
            Some(head) => {
                let mut out = Vec::with_capacity(vectors.len() / width * head.labels());
                vectors.chunks_exact(width).for_each(|vector| head.apply(vector, &mut out));
                (head.labels(), out)
            }
        };
        if self.scores && width > 0 {
            let activation = self.activation.unwrap_or(usual(self.multi_label, width));
            vectors.chunks_exact_mut(width).for_each(|logits| activate(activation, logits));
        }
        Ok((width, vectors))
    }
}

impl Engine for TextEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn cost(&self) -> Cost {
        Cost::Heavy
    }

    /// English has 4 to 5 bytes a token, and every text two special tokens.
    fn lengths(&self, batch: &Batch) -> Option<Vec<usize>> {
        const BYTES_A_TOKEN: usize = 4;
        let mut lengths = vec![2; batch.rows];
        for texts in batch.inputs.iter().filter_map(Tensor::as_strings) {
            lengths.iter_mut().zip(texts).for_each(|(length, text)| *length += text.len() / BYTES_A_TOKEN);
        }
        lengths.iter_mut().for_each(|length| *length = (*length).min(self.tokens.max_tokens));
        Some(lengths)
    }

    fn prepare(&self, batch: Batch) -> Result<Prepared, EngineError> {
        let wrong = || {
            let takes = if self.tokens.pairs { "`query: string[N]` and " } else { "" };
            let rows = batch.rows;
            EngineError::Input(format!(
                "the model takes {takes}`text: string[N]` with {rows} rows and nothing else"
            ))
        };
        let columns = batch.inputs.iter().map(|i| i.as_strings().filter(|texts| texts.len() == batch.rows));
        let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let mut tokens = match columns[..] {
            [text] if !self.tokens.pairs => self.tokens.encode(None, text)?,
            [query, text] if self.tokens.pairs => self.tokens.encode(Some(query), text)?,
            _ => return Err(wrong()),
        };
        // A tokenizer without special tokens makes nothing of an empty text, and an encoder
        // nothing of nothing: such a text is one token of padding.
        for (ids, types) in tokens.ids.iter_mut().zip(&mut tokens.type_ids).filter(|(ids, _)| ids.is_empty())
        {
            ids.push(self.tokens.pad);
            types.push(0);
        }
        let length = tokens.ids.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Prepared { rows: batch.rows, length, payload: Payload::Tokens(tokens) })
    }

    fn execute(&self, work: &[&Prepared], context: &mut Context) -> Result<Outputs, EngineError> {
        let mut rows: Vec<Row<'_>> = Vec::with_capacity(work.iter().map(|w| w.rows).sum());
        for one in work {
            let Payload::Tokens(tokens) = &one.payload else {
                return Err(EngineError::Runtime("got tensors where tokens belong".into()));
            };
            rows.extend(tokens.ids.iter().zip(&tokens.type_ids).map(|(ids, types)| (&ids[..], &types[..])));
        }
        let (width, data) = match context.outputs.as_deref() {
            None | Some([0]) => {
                let (width, vectors) = self.vectors(&rows, context)?;
                self.finish(width, vectors)?
            }
            Some([]) => (0, Vec::new()),
            Some(_) => return Err(EngineError::Input("the model has 1 output only".into())),
        };
        let tensor = Tensor::new(vec![rows.len(), width], TensorData::Float32(data))
            .map_err(|e| EngineError::Runtime(e.to_string()))?;
        Ok(Outputs { rows: rows.len(), tensors: vec![tensor] })
    }
}
