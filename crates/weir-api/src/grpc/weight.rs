//! What a request takes in memory once decoded, told before it is.
//!
//! Two bytes can be an empty tensor, which takes a hundred times as much in memory, and one
//! byte an INT64. So the wire format (<https://protobuf.dev/programming-guides/encoding>) is
//! walked first, without keeping anything: entries are counted against a limit, and what the
//! elements take beyond the message itself is told, so that room can be taken for it.

use prost::{
    DecodeError,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use weir_types::Error;

use crate::v2::core::MAX_RANK;

/// Most inputs, outputs, raw contents, parameters and their names in one request.
const MAX_ENTRIES: usize = 4_096;
/// Bytes that one element of BYTES takes besides its own.
const BYTES_ELEMENT: usize = 32;
/// Bytes of the largest number.
const NUMBER: usize = 8;

/// Fields of `ModelInferRequest`.
mod request {
    pub(super) const INPUTS: u32 = 5;
}

/// Fields of `InferInputTensor`.
mod input {
    pub(super) const SHAPE: u32 = 3;
    pub(super) const CONTENTS: u32 = 5;
}

/// Field of `InferTensorContents`.
const BYTES_CONTENTS: u32 = 8;

#[derive(Default)]
struct Weight {
    entries: usize,
    bytes: usize,
}

/// Bytes that the elements of a serialised `ModelInferRequest` take beyond the message.
///
/// # Errors
/// `InvalidArgument` for what is no such message, and for one of too many entries.
pub(super) fn of_request(message: &[u8]) -> Result<u64, Error> {
    let mut weight = Weight::default();
    walk(message, &mut |field, value| {
        weight.entry()?;
        match (field, value) {
            (request::INPUTS, Value::Bytes(input)) => weight.input(input),
            _ => Ok(()),
        }
    })?;
    Ok(weight.bytes as u64)
}

impl Weight {
    fn entry(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            let text = format!("a request has at most {MAX_ENTRIES} inputs, outputs and parameters together");
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    fn input(&mut self, input: &[u8]) -> Result<(), Error> {
        let mut rank = 0;
        walk(input, &mut |field, value| match (field, value) {
            (input::SHAPE, value) => {
                rank += value.elements();
                if rank > MAX_RANK {
                    return Err(Error::invalid(format!("a shape has at most {MAX_RANK} dimensions")));
                }
                Ok(())
            }
            (input::CONTENTS, Value::Bytes(contents)) => self.contents(contents),
            _ => self.entry(),
        })
    }

    fn contents(&mut self, contents: &[u8]) -> Result<(), Error> {
        walk(contents, &mut |field, value| {
            let each = if field == BYTES_CONTENTS { BYTES_ELEMENT } else { NUMBER };
            let elements = if field == BYTES_CONTENTS { 1 } else { value.elements() };
            // At most 32 times a message's length, which is bounded.
            self.bytes += each * elements;
            Ok(())
        })
    }
}

/// The value of one field.
enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// Most numbers that are in it: a packed one takes a byte at least.
    fn elements(&self) -> usize {
        match self {
            Value::Number => 1,
            Value::Bytes(packed) => packed.len(),
        }
    }
}

fn walk<'a>(
    mut message: &'a [u8],
    visit: &mut impl FnMut(u32, Value<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    while message.has_remaining() {
        let (field, wire) = decode_key(&mut message).map_err(unreadable)?;
        let value = match wire {
            WireType::LengthDelimited => {
                let length = decode_varint(&mut message).map_err(unreadable)?;
                let length = usize::try_from(length).ok().filter(|n| *n <= message.len());
                let length = length.ok_or_else(|| Error::invalid("the message ends within a field"))?;
                let (value, rest) = message.split_at(length);
                message = rest;
                Value::Bytes(value)
            }
            wire => {
                skip_field(wire, field, &mut message, DecodeContext::default()).map_err(unreadable)?;
                Value::Number
            }
        };
        visit(field, value)?;
    }
    Ok(())
}

fn unreadable(error: DecodeError) -> Error {
    Error::invalid(format!("the message cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{
        super::generated::inference::{
            InferTensorContents, ModelInferRequest,
            model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        },
        *,
    };

    fn of(contents: InferTensorContents, shape: Vec<i64>) -> Result<u64, Error> {
        let input = InferInputTensor { shape, contents: Some(contents), ..Default::default() };
        of_request(&ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec())
    }

    #[test]
    fn elements_are_weighed_as_they_are_kept() {
        let ints = InferTensorContents { int64_contents: vec![1; 1000], ..Default::default() };
        assert_eq!(of(ints, vec![1000]), Ok(8000));
        let texts = InferTensorContents { bytes_contents: vec!["a".into(); 100], ..Default::default() };
        assert_eq!(of(texts, vec![100]), Ok(3200));
        let floats = InferTensorContents { fp32_contents: vec![1.0; 10], ..Default::default() };
        assert!(of(floats, vec![10]).unwrap() >= 40);
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        let refused = |r: Result<u64, Error>| r.unwrap_err().message.into_owned();
        let empty = InferTensorContents::default;
        assert!(refused(of(empty(), vec![1; MAX_RANK + 1])).contains("32 dimensions"));
        let inputs = vec![InferInputTensor::default(); 5000];
        let many = ModelInferRequest { inputs, ..Default::default() }.encode_to_vec();
        assert!(refused(of_request(&many)).contains("4096"));
        let outputs = vec![InferRequestedOutputTensor::default(); 5000];
        let many = ModelInferRequest { outputs, ..Default::default() }.encode_to_vec();
        assert!(refused(of_request(&many)).contains("4096"));
        let parameter = (0..5000).map(|i| (i.to_string(), Default::default())).collect();
        let input = InferInputTensor { parameters: parameter, ..Default::default() };
        let many = ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec();
        assert!(refused(of_request(&many)).contains("4096"));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for bytes in [&b"\x2a\x05"[..], b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff", b"\x0b"] {
            assert!(of_request(bytes).is_err(), "{bytes:?}");
        }
    }
}
