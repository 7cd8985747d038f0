//! What a store holds of tensors, as bytes: answers of the cache and states of sequences.
//!
//! ```text
//! sealed = head, name of the format (4 bytes), checksum u64 of the head and of the body, body
//! tensor = type, dimensions; elsewhere its elements
//! ```
//!
//! Numbers are little-endian; sizes are LEB128. A store is believed in nothing: what does not fit to the
//! last byte is not what was written.

use std::{hash::Hasher, ops::Range};

use siphasher::sip::SipHasher13;
use weir_types::{DType, Tensor, TensorData, element_count};

/// Most dimensions of a tensor that are read.
const MAX_DIMS: usize = 64;
/// Bytes of a format's name.
const NAME: usize = 4;

/// Writes `head`, and under the checksum of both, `room` bytes or so of `body`.
pub(crate) fn seal(
    head: &[u8],
    format: &[u8; NAME],
    room: usize,
    body: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let at = head.len() + NAME;
    let mut bytes = Vec::with_capacity(at + 8 + room);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(format);
    bytes.extend_from_slice(&[0; 8]);
    body(&mut bytes);
    let sum = checksum(&[head, &bytes[at + 8..]]);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Head and body of what was [sealed](seal) under `format`.
///
/// # Errors
/// What is wrong with it, for the log.
pub(crate) fn unseal<'a, const HEAD: usize>(
    bytes: &'a [u8],
    format: &[u8; NAME],
) -> Result<(&'a [u8; HEAD], Cursor<'a>), &'static str> {
    let (head, rest) = bytes.split_first_chunk().ok_or("it is too short")?;
    let (name, rest) = rest.split_first_chunk().ok_or("it is too short")?;
    let (sum, body) = rest.split_first_chunk().ok_or("it is too short")?;
    if name != format {
        return Err("it is of another format");
    }
    match checksum(&[head, body]) == u64::from_le_bytes(*sum) {
        true => Ok((head, Cursor(body))),
        false => Err("its checksum is wrong"),
    }
}

/// A checksum against damage: 64 bits of SipHash-1-3 of the parts, one behind the other, which miss one
/// change in 2^64.
pub(crate) fn checksum(parts: &[&[u8]]) -> u64 {
    let mut sip = SipHasher13::new_with_keys(1, 2);
    parts.iter().for_each(|part| sip.write(part));
    sip.finish()
}

/// Appends type and dimensions.
pub(crate) fn put_form(bytes: &mut Vec<u8>, tensor: &Tensor, shape: &[usize]) {
    bytes.push(tensor.dtype() as u8);
    put_size(bytes, shape.len());
    shape.iter().for_each(|dim| put_size(bytes, *dim));
}

/// Appends a number, seven bits a byte, the lowest first (LEB128).
pub(crate) fn put_size(bytes: &mut Vec<u8>, size: usize) {
    let mut rest = size as u64;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// Appends the elements of some rows.
pub(crate) fn put_rows(bytes: &mut Vec<u8>, tensor: &Tensor, rows: Range<usize>) {
    let width = tensor.row_width();
    let range = match tensor.shape().is_empty() {
        true => 0..tensor.data().len(),
        false => rows.start * width..rows.end * width,
    };
    macro_rules! numbers {
        ($values:expr) => {
            $values[range].iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()))
        };
    }
    match tensor.data() {
        TensorData::Bool(v) => v[range].iter().for_each(|value| bytes.push(u8::from(*value))),
        TensorData::Int8(v) => numbers!(v),
        TensorData::Int16(v) => numbers!(v),
        TensorData::Int32(v) => numbers!(v),
        TensorData::Int64(v) => numbers!(v),
        TensorData::Uint8(v) => bytes.extend_from_slice(&v[range]),
        TensorData::Uint16(v) | TensorData::Float16(v) | TensorData::Bfloat16(v) => numbers!(v),
        TensorData::Uint32(v) => numbers!(v),
        TensorData::Uint64(v) => numbers!(v),
        TensorData::Float32(v) => numbers!(v),
        TensorData::Float64(v) => numbers!(v),
        TensorData::String(v) => v[range].iter().for_each(|value| {
            put_size(bytes, value.len());
            bytes.extend_from_slice(value.as_bytes());
        }),
    }
}

/// What is left to read of stored bytes. Each method is `None` where they are none that were written here.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// LEB128 of at most 63 bits.
    pub(crate) fn size(&mut self) -> Option<usize> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).ok();
            }
        }
        None
    }

    /// What [`put_form`] wrote, but for the dimensions themselves: they are compared or
    /// [read](Self::shape).
    pub(crate) fn type_and_rank(&mut self) -> Option<(DType, usize)> {
        let dtype = DType::ALL.get(usize::from(self.byte()?)).copied()?;
        let rank = self.size()?;
        (rank <= MAX_DIMS).then_some((dtype, rank))
    }

    /// So many dimensions, and how many elements they are.
    pub(crate) fn shape(&mut self, rank: usize) -> Option<(Vec<usize>, usize)> {
        let shape = (0..rank).map(|_| self.size()).collect::<Option<Vec<_>>>()?;
        let count = element_count(&shape).ok()?;
        Some((shape, count))
    }

    /// Appends `count` elements to `data`: what [`put_rows`] wrote.
    pub(crate) fn elements(&mut self, data: &mut TensorData, count: usize) -> Option<()> {
        macro_rules! numbers {
            ($values:ident, $type:ty) => {{
                let bytes = self.take(count.checked_mul(size_of::<$type>())?)?;
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                $values.extend(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk)));
            }};
        }
        match data {
            TensorData::Bool(v) => {
                let bytes = self.take(count)?;
                if bytes.iter().any(|byte| *byte > 1) {
                    return None;
                }
                v.extend(bytes.iter().map(|byte| *byte == 1));
            }
            TensorData::Int8(v) => numbers!(v, i8),
            TensorData::Int16(v) => numbers!(v, i16),
            TensorData::Int32(v) => numbers!(v, i32),
            TensorData::Int64(v) => numbers!(v, i64),
            TensorData::Uint8(v) => numbers!(v, u8),
            TensorData::Uint16(v) | TensorData::Float16(v) | TensorData::Bfloat16(v) => numbers!(v, u16),
            TensorData::Uint32(v) => numbers!(v, u32),
            TensorData::Uint64(v) => numbers!(v, u64),
            TensorData::Float32(v) => numbers!(v, f32),
            TensorData::Float64(v) => numbers!(v, f64),
            TensorData::String(v) => {
                for _ in 0..count {
                    let size = self.size()?;
                    v.push(std::str::from_utf8(self.take(size)?).ok()?.to_owned());
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_behind_the_other() {
        let whole = checksum(&[b"a token and what is behind it"]);
        assert_eq!(checksum(&[b"", b"a token and what is behind it"]), whole);
        assert_eq!(checksum(&[b"a token", b" and what is behind it"]), whole);
        assert_ne!(checksum(&[b"a token", b"and what is behind it"]), whole);
    }

    #[test]
    fn what_is_sealed_is_its_own_format_s_and_whole() {
        let sealed = seal(b"head", b"TST1", 4, |bytes| bytes.extend_from_slice(b"body"));
        let (head, body) = unseal(&sealed, b"TST1").unwrap();
        assert_eq!((head, body.0), (b"head", &b"body"[..]));
        assert_eq!(unseal::<4>(&sealed, b"TST2").err(), Some("it is of another format"));
        assert_eq!(unseal::<4>(&sealed[..15], b"TST1").err(), Some("it is too short"));
        for at in (0..sealed.len()).filter(|at| !(4..8).contains(at)) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(unseal::<4>(&changed, b"TST1").err(), Some("its checksum is wrong"), "{at}");
        }
    }
}
