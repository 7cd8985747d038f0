//! The encoder's inputs and its output, over whatever engine runs it.

use std::sync::Arc;

use half::{bf16, f16, slice::HalfBitsSliceExt};
use weir_artifact::{Reading, encoder_output};
use weir_types::{Batch, DType, Dim, Signature, Tensor, TensorData, TensorSpec};

use crate::{CancelFlag, Context, Engine, EngineError};

/// What an input of the encoder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
}

/// One text's tokens.
pub(super) type Row<'a> = (&'a [u32], &'a [u32]);

/// A graph that turns token ids into vectors.
pub(super) struct Encoder {
    engine: Arc<dyn Engine>,
    /// One an input, in the graph's order, with its element type.
    inputs: Vec<(Role, DType)>,
    /// Index of the output that is read.
    output: usize,
    /// Length that every text is padded to, where the graph fixes it.
    fixed_length: Option<usize>,
    /// Most texts in one call.
    pub(super) max_rows: usize,
    /// Elements of a vector, where the graph says.
    pub(super) width: Option<usize>,
}

impl Encoder {
    /// Wraps `engine`, whose graph has `signature`.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] for an input that a tokenizer does not fill or a shape
    /// that texts do not fit.
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        signature: &Signature,
        reading: Reading,
    ) -> Result<Self, EngineError> {
        let unsupported = |why: String| EngineError::Unsupported { engine: engine.info().name, why };
        let inputs = signature.inputs.iter().map(role).collect::<Result<Vec<_>, _>>().map_err(unsupported)?;
        if !inputs.iter().any(|(role, _)| *role == Role::Ids) {
            return Err(unsupported("the encoder has no input `input_ids`".into()));
        }
        let output = encoder_output(signature, reading).map_err(unsupported)?;
        let spec = &signature.outputs[output];
        let fixed =
            |axis: usize| signature.inputs.iter().find_map(|i| i.shape.get(axis).and_then(Dim::fixed));
        let max_rows = match fixed(0) {
            None => usize::MAX,
            Some(1) => 1,
            Some(n) => {
                return Err(unsupported(format!(
                    "the encoder takes {n} texts at once, neither one nor any number: export it with a free batch dimension"
                )));
            }
        };
        let width = spec.shape.last().and_then(Dim::fixed);
        Ok(Self { inputs, output, fixed_length: fixed(1), max_rows, width, engine })
    }

    /// Most tokens of a text, where the graph fixes it.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.fixed_length
    }

    /// Encodes `rows` in one call, short ones filled up with `pad`. Gives the vectors,
    /// `[rows, length, width]` or `[rows, width]`, and their shape.
    pub(super) fn run(
        &self,
        rows: &[Row<'_>],
        pad: u32,
        cancel: &CancelFlag,
    ) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        let longest = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let length = self.fixed_length.unwrap_or(longest);
        let inputs = self.inputs.iter().map(|&(role, dtype)| fill(role, dtype, rows, length, pad));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let prepared = self.engine.prepare(Batch { rows: rows.len(), inputs })?;
        let mut context =
            Context { outputs: Some(vec![self.output]), cancel: cancel.clone(), ..Context::default() };
        let mut outputs = self.engine.execute(&[&prepared], &mut context)?;
        if outputs.tensors.len() <= self.output {
            return Err(EngineError::Runtime("the encoder left its output out".into()));
        }
        let tensor = outputs.tensors.swap_remove(self.output);
        let shape = tensor.shape().to_vec();
        let expected = [&[rows.len()][..], &[length][..shape.len().saturating_sub(2).min(1)]].concat();
        if !shape.starts_with(&expected) || shape.last() == Some(&0) {
            return Err(EngineError::Runtime(format!(
                "the encoder answered {shape:?} for {expected:?} texts and tokens"
            )));
        }
        Ok((shape, floats(tensor.into_data())?))
    }
}

fn role(spec: &TensorSpec) -> Result<(Role, DType), String> {
    let role = match spec.name.as_str() {
        "input_ids" => Role::Ids,
        "attention_mask" => Role::Mask,
        "token_type_ids" => Role::Types,
        "position_ids" => {
            return Err(
                "the encoder has an input `position_ids`, and where counting starts differs from model \
                        to model: export it without"
                    .into(),
            );
        }
        _ => return Err(format!("the encoder has an input `{spec}`, which a tokenizer does not fill")),
    };
    match (spec.dtype, spec.shape.len()) {
        (DType::Int64 | DType::Int32, 2) => Ok((role, spec.dtype)),
        _ => Err(format!("the encoder's input `{spec}` is not int64 or int32 [texts, tokens]")),
    }
}

fn fill(role: Role, dtype: DType, rows: &[Row<'_>], length: usize, pad: u32) -> Result<Tensor, EngineError> {
    let cell = |&(ids, types): &Row<'_>, i: usize| match role {
        Role::Ids => ids.get(i).copied().unwrap_or(pad),
        Role::Mask => u32::from(i < ids.len()),
        Role::Types => types.get(i).copied().unwrap_or(0),
    };
    let cells = rows.iter().flat_map(|row| (0..length).map(move |i| cell(row, i)));
    let data = match dtype {
        // Vocabularies have far fewer than 2^31 tokens; `role` lets no third type through.
        DType::Int32 => TensorData::Int32(cells.map(|v| v as i32).collect()),
        _ => TensorData::Int64(cells.map(i64::from).collect()),
    };
    Tensor::new(vec![rows.len(), length], data).map_err(|e| EngineError::Runtime(e.to_string()))
}

fn floats(data: TensorData) -> Result<Vec<f32>, EngineError> {
    Ok(match data {
        TensorData::Float32(v) => v,
        TensorData::Float64(v) => v.into_iter().map(|x| x as f32).collect(),
        TensorData::Float16(v) => v.reinterpret_cast::<f16>().iter().map(|x| x.to_f32()).collect(),
        TensorData::Bfloat16(v) => v.reinterpret_cast::<bf16>().iter().map(|x| x.to_f32()).collect(),
        other => return Err(EngineError::Runtime(format!("the encoder answered {}", other.dtype()))),
    })
}
