//! From the encoder's output to one vector a text: pooling, normalising, head, scores.

use weir_artifact::{Activation, Pooling, Task, TextSpec};

use super::{
    head::{Head, activate, usual},
    pool::{normalize, pool},
};
use crate::EngineError;

/// How one model's vectors are made.
pub(super) struct Vectors {
    pooling: Pooling,
    normalize: bool,
    head: Option<Head>,
    /// Whether the vectors are logits to be made scores of.
    scores: bool,
    /// How; otherwise what is usual for the number of labels and `multi_label`.
    activation: Option<Activation>,
    multi_label: bool,
}

impl Vectors {
    /// Reads the head, which must fit vectors of `width`, where that is known.
    ///
    /// # Errors
    /// [`EngineError::Artifact`] where it does not, or is broken.
    pub(super) fn new(text: &TextSpec, task: Task, width: Option<usize>) -> Result<Self, EngineError> {
        let head = text.head.as_deref().map(Head::new).transpose()?;
        if let (Some(head), Some(width)) = (&head, width)
            && head.hidden != width
        {
            let hidden = head.hidden;
            return Err(EngineError::Artifact(format!(
                "the head takes vectors of {hidden}, the encoder gives {width}"
            )));
        }
        let TextSpec { pooling, normalize, multi_label, activation, .. } = *text;
        Ok(Self { pooling, normalize, head, scores: task != Task::Embedding, activation, multi_label })
    }

    /// Width of the vectors when no text tells; 0 where the graph does not either.
    pub(super) fn width_unasked(&self, encoder: Option<usize>) -> usize {
        encoder.or(self.head.as_ref().map(|h| h.hidden)).unwrap_or(0)
    }

    /// Pools the encoder's output for one text into `out`.
    pub(super) fn pool(&self, tokens: &[f32], out: &mut [f32]) {
        pool(self.pooling, tokens, out);
    }

    /// Normalises, projects and scores the pooled vectors; gives the last dimension too.
    pub(super) fn finish(
        &self,
        width: usize,
        mut vectors: Vec<f32>,
    ) -> Result<(usize, Vec<f32>), EngineError> {
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
