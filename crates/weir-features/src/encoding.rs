//! Reading and writing stored values: little endian, every length checked.

use weir_types::Scalar;

use crate::value::EventTime;

/// The rest of a stored value that is being read. Every method is `None` where it ends early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|b| b[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn time(&mut self) -> Option<EventTime> {
        EventTime::from_micros(self.i64()?)
    }

    /// Bytes behind a length of one byte.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes behind a length of four bytes.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    pub(crate) fn scalar(&mut self) -> Option<Scalar> {
        match self.u8()? {
            0 => Some(Scalar::Bool(false)),
            1 => Some(Scalar::Bool(true)),
            2 => self.i64().map(Scalar::Int),
            3 => self.u64().map(|bits| Scalar::Float(f64::from_bits(bits))),
            4 => std::str::from_utf8(self.long()?).ok().map(|s| Scalar::String(s.into())),
            _ => None,
        }
    }
}

/// Appends bytes behind a length of one byte; callers keep to 255.
pub(crate) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..length.into()]);
}

/// Appends bytes behind a length of four bytes.
pub(crate) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_scalar(out: &mut Vec<u8>, value: &Scalar) {
    match value {
        Scalar::Bool(b) => out.push(u8::from(*b)),
        Scalar::Int(i) => {
            out.push(2);
            out.extend_from_slice(&i.to_le_bytes());
        }
        Scalar::Float(f) => {
            out.push(3);
            out.extend_from_slice(&f.to_bits().to_le_bytes());
        }
        Scalar::String(s) => {
            out.push(4);
            put_long(out, s.as_bytes());
        }
    }
}
