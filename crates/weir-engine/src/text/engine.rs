//! The engine over the parts.

use std::sync::Arc;

use weir_artifact::{Reading, Task, TextSpec};
use weir_types::{Batch, Outputs, Signature, Tensor, TensorData};

use super::{
    encoder::{Encoder, Row},
    entities::Entities,
    runs,
    tokenizer::{self, Tokens},
    vectors::Vectors,
};
use crate::{Context, Cost, Engine, EngineError, EngineInfo, Payload, Places, Prepared, TokenBatch};

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

/// A text model: `text: string[N]` in, `scores: float32[N, labels]`,
/// `embedding: float32[N, hidden]` or `entities: string[N]` out; a reranker takes
/// `query: string[N]` before it and gives `score: float32[N, 1]`.
pub struct TextEngine {
    info: EngineInfo,
    tokens: Tokens,
    encoder: Encoder,
    answer: Answer,
}

/// What is made of the encoder's output.
enum Answer {
    /// One vector a text.
    Vector(Vectors),
    /// The entities of a text, as JSON.
    Entities(Entities),
}

impl TextEngine {
    /// Puts a text model together: `encoder` runs the graph, whose signature is `signature`;
    /// `labels` name the columns of its scores.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] for a broken tokenizer or head, [`EngineError::Unsupported`]
    /// for an encoder that texts do not fit or a task that is not about texts.
    pub fn new(
        encoder: Arc<dyn Engine>,
        signature: &Signature,
        text: &TextSpec,
        (task, labels): (Task, &[String]),
        limits: TextLimits,
    ) -> Result<Self, EngineError> {
        let mut info = encoder.info().clone();
        info.version = format!("{}+tokenizers.{}", info.version, tokenizer::VERSION);
        let encoder = Encoder::new(encoder, signature, Reading::of(task, text.pooling))?;
        let answer = match task {
            Task::TextClassification | Task::Rerank | Task::Embedding => {
                Answer::Vector(Vectors::new(text, task, encoder.width)?)
            }
            Task::TokenClassification => {
                Answer::Entities(Entities { labels: labels.to_vec(), aggregation: text.aggregation })
            }
            Task::Regression | Task::Classification | Task::Raw => {
                let why = "a text model classifies texts or their tokens, embeds or reranks".to_owned();
                return Err(EngineError::Unsupported { engine: info.name, why });
            }
        };
        let max_tokens = encoder.max_tokens().unwrap_or(usize::MAX).min(limits.max_tokens);
        let pairs = task == Task::Rerank;
        let tokens = Tokens::new(&text.tokenizer, max_tokens, limits.max_chars, pairs)?;
        Ok(Self { info, tokens, encoder, answer })
    }

    /// Encodes all rows and gives each one's index and output to `take`, with the size of the
    /// last dimension: `[tokens, width]` without the padding, or `[width]`.
    fn encode(
        &self,
        rows: &[Row<'_>],
        context: &Context,
        mut take: impl FnMut(usize, &[f32], usize) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
        let runs = runs::plan(&lengths, self.encoder.max_rows);
        for range in runs.ranges {
            if context.cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let indices = &runs.order[range];
            let texts: Vec<Row<'_>> = indices.iter().map(|&i| rows[i]).collect();
            let (shape, encoded) = self.encoder.run(&texts, self.tokens.pad, &context.cancel)?;
            let width = shape.last().copied().unwrap_or(0);
            let one = encoded.len() / texts.len();
            for (&i, output) in indices.iter().zip(encoded.chunks_exact(one)) {
                let kept = if shape.len() == 2 { width } else { lengths[i] * width };
                take(i, &output[..kept], width)?;
            }
        }
        Ok(())
    }

    fn vectors(&self, make: &Vectors, rows: &[Row<'_>], context: &Context) -> Result<Tensor, EngineError> {
        let mut width = make.width_unasked(self.encoder.width);
        let mut pooled = Vec::new();
        self.encode(rows, context, |i, output, size| {
            width = size;
            pooled.resize(rows.len() * width, 0.0);
            make.pool(output, &mut pooled[i * width..][..width]);
            Ok(())
        })?;
        let (width, vectors) = make.finish(width, pooled)?;
        tensor(vec![rows.len(), width], TensorData::Float32(vectors))
    }

    fn entities(
        &self,
        make: &Entities,
        rows: &[Row<'_>],
        places: &[&Places],
        context: &Context,
    ) -> Result<Tensor, EngineError> {
        let mut all = vec![String::new(); rows.len()];
        self.encode(rows, context, |i, logits, width| {
            let places = places.get(i).ok_or_else(|| misfit("tokens without their places"))?;
            all[i] = make.json(places, logits, width)?;
            Ok(())
        })?;
        tensor(vec![rows.len()], TensorData::String(all))
    }

    /// The output that is not wanted.
    fn nothing(&self, rows: usize) -> Result<Tensor, EngineError> {
        let data = match &self.answer {
            Answer::Vector(_) => TensorData::Float32(Vec::new()),
            Answer::Entities(_) => TensorData::String(Vec::new()),
        };
        tensor(vec![rows, 0], data)
    }

    fn tokenize(&self, mut inputs: Vec<Tensor>, rows: usize) -> Result<TokenBatch, EngineError> {
        let wrong = || {
            let takes = if self.tokens.pairs { "`query: string[N]` and " } else { "" };
            EngineError::Input(format!(
                "the model takes {takes}`text: string[N]` with {rows} rows and nothing else"
            ))
        };
        if matches!(&self.answer, Answer::Entities(_)) && inputs.len() == 1 {
            return match inputs.pop().map(Tensor::into_data) {
                Some(TensorData::String(texts)) if texts.len() == rows => self.tokens.encode_placed(texts),
                _ => Err(wrong()),
            };
        }
        let columns = inputs.iter().map(|i| i.as_strings().filter(|texts| texts.len() == rows));
        let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        match columns[..] {
            [text] if !self.tokens.pairs => self.tokens.encode(None, text),
            [query, text] if self.tokens.pairs => self.tokens.encode(Some(query), text),
            _ => Err(wrong()),
        }
    }
}

fn tensor(shape: Vec<usize>, data: TensorData) -> Result<Tensor, EngineError> {
    Tensor::new(shape, data).map_err(|e| EngineError::Runtime(e.to_string()))
}

/// Work that this engine did not prepare.
fn misfit(what: &str) -> EngineError {
    EngineError::Runtime(format!("got {what}"))
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
        let mut tokens = self.tokenize(batch.inputs, batch.rows)?;
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
        let mut places: Vec<&Places> = Vec::new();
        for one in work {
            let Payload::Tokens(tokens) = &one.payload else {
                return Err(misfit("tensors where tokens belong"));
            };
            rows.extend(tokens.ids.iter().zip(&tokens.type_ids).map(|(ids, types)| (&ids[..], &types[..])));
            places.extend(&tokens.places);
        }
        let output = match (context.outputs.as_deref(), &self.answer) {
            (None | Some([0]), Answer::Vector(make)) => self.vectors(make, &rows, context)?,
            (None | Some([0]), Answer::Entities(make)) => self.entities(make, &rows, &places, context)?,
            (Some([]), _) => self.nothing(rows.len())?,
            (Some(_), _) => return Err(EngineError::Input("the model has 1 output only".into())),
        };
        Ok(Outputs { rows: rows.len(), tensors: vec![output] })
    }
}
