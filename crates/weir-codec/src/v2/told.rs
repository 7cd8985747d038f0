//! What another server answers, believed in nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_types::{Outputs, Signature, Tensor, TensorData, TensorSpec, element_count};

use super::{bounded::Bounded, cut, data::read_data, dtype, read_raw, reason};

/// Most outputs of one answer.
const MAX_OUTPUTS: usize = 1_024;
/// Most dimensions of one tensor.
const MAX_RANK: usize = 16;

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    outputs: Bounded<Output<'a>, MAX_OUTPUTS>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Bounded<usize, MAX_RANK>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

/// Reads the answer to a request for `rows` rows under `id`: every output of `signature`, once,
/// of its type and shape, for exactly these rows. `json` is the length of the JSON where blobs
/// follow it. What is allocated is bounded by the length of `body`, whatever it claims.
///
/// # Errors
/// What is wrong with the answer, for the log.
pub fn read_response(
    signature: &Signature,
    rows: usize,
    id: &str,
    json: Option<usize>,
    body: &[u8],
) -> Result<Outputs, String> {
    let split = body.split_at_checked(json.unwrap_or(body.len()));
    let (json, mut blobs) = split.ok_or("its JSON is said to be longer than its body")?;
    let response: Response<'_> =
        serde_json::from_slice(json).map_err(|e| reason("inference response", &e))?;
    let mut collected = Collected::new(signature, rows);
    collected.check_id(response.id.as_deref(), id)?;
    for output in response.outputs.0 {
        let name = output.name.clone();
        collected.put(&name, |spec| output.read(spec, rows, &mut blobs))?;
    }
    if !blobs.is_empty() {
        return Err(format!("there are {} bytes behind the last tensor", blobs.len()));
    }
    collected.finish()
}

/// The outputs of one answer, put into the model's order.
pub(super) struct Collected<'a> {
    signature: &'a Signature,
    rows: usize,
    tensors: Vec<Option<Tensor>>,
}

impl<'a> Collected<'a> {
    pub(super) fn new(signature: &'a Signature, rows: usize) -> Self {
        Self { signature, rows, tensors: signature.outputs.iter().map(|_| None).collect() }
    }

    /// An answer may leave the id out, but not name another.
    pub(super) fn check_id(&self, told: Option<&str>, id: &str) -> Result<(), String> {
        match told.filter(|told| *told != id) {
            Some(other) => Err(format!("it answers the request {:?}, not {id:?}", cut(other))),
            None => Ok(()),
        }
    }

    /// Takes the output `name`, which `read` reads once it is known what it should be.
    pub(super) fn put(
        &mut self,
        name: &str,
        read: impl FnOnce(&TensorSpec) -> Result<(Vec<usize>, TensorData), String>,
    ) -> Result<(), String> {
        let index = self.signature.output(name);
        let slot = index.and_then(|i| Some((self.signature.outputs.get(i)?, self.tensors.get_mut(i)?)));
        let (spec, slot) = slot.ok_or_else(|| format!("nobody asked for an output {:?}", cut(name)))?;
        let read = read(spec).and_then(|(shape, data)| Tensor::new(shape, data).map_err(|e| e.to_string()));
        let tensor = read.map_err(|why| format!("output `{}`: {why}", spec.name))?;
        match slot.replace(tensor) {
            Some(_) => Err(format!("output `{}` is there twice", spec.name)),
            None => Ok(()),
        }
    }

    pub(super) fn finish(self) -> Result<Outputs, String> {
        let missing = self.signature.outputs.iter().zip(&self.tensors).find(|(_, tensor)| tensor.is_none());
        match missing {
            Some((spec, _)) => Err(format!("output `{}` is missing", spec.name)),
            None => Ok(Outputs { rows: self.rows, tensors: self.tensors.into_iter().flatten().collect() }),
        }
    }
}

impl Output<'_> {
    fn read(
        self,
        spec: &TensorSpec,
        rows: usize,
        blobs: &mut &[u8],
    ) -> Result<(Vec<usize>, TensorData), String> {
        let shape = self.shape.0;
        check(spec, rows, &self.datatype, &shape)?;
        let size = self.parameters.and_then(|p| p.binary_data_size);
        let data = match (size, self.data) {
            (Some(size), None) => {
                let split = blobs.split_at_checked(size);
                let (blob, rest) = split.ok_or("it claims more bytes than there are")?;
                *blobs = rest;
                read_raw(spec.dtype, &shape, blob)?
            }
            (None, Some(data)) => {
                let count = element_count(&shape).map_err(|e| e.to_string())?;
                read_data(spec.dtype, count, data.get())?
            }
            (Some(_), Some(_)) => return Err("it has both `data` and `binary_data_size`".into()),
            (None, None) => return Err("it has neither `data` nor `binary_data_size`".into()),
        };
        Ok((shape, data))
    }
}

/// Type and shape must be the signature's, with one row for each that was asked.
pub(super) fn check(spec: &TensorSpec, rows: usize, datatype: &str, shape: &[usize]) -> Result<(), String> {
    let found = dtype(datatype)?;
    if found != spec.dtype {
        return Err(format!("it is {found}, and was {} when the model was loaded", spec.dtype));
    }
    let fits = |(dim, n): (&weir_types::Dim, &usize)| dim.fixed().is_none_or(|d| d == *n);
    let inner = spec.shape.iter().zip(shape).skip(1).all(fits);
    if shape.len() == spec.shape.len() && shape.first() == Some(&rows) && inner {
        return Ok(());
    }
    Err(format!("its shape is {shape:?} for {rows} rows, and the model's is {spec}"))
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
