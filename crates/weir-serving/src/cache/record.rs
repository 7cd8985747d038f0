//! An answer as bytes: in memory, and in Redis.
//!
//! ```text
//! stored  = "WRC1", checksum u64 of all that follows, computed at u64 (ms since 1970),
//!           fresh for u64 ms, then stale for u64 ms, size of the identity, identity, answer
//! answer  = rows, tensors, for each: type, dimensions; tokens of each row or none;
//!           nanoseconds that it took; the elements of each tensor
//! ```
//!
//! Numbers are little-endian; sizes are LEB128. Redis is believed in nothing: what does not fit
//! to the last byte is no answer.

use weir_types::{Outputs, Tensor, TensorData};

use crate::stored::{Cursor, put_form, put_rows, put_size, seal, unseal};

const MAGIC: &[u8; 4] = b"WRC1";
/// Most tensors that are read.
const MAX_TENSORS: usize = 1_024;

/// When an answer was computed and for how long it is good, as it is stored in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    /// Milliseconds since 1970.
    pub(super) computed_ms: u64,
    /// Milliseconds after that for which it is fresh.
    pub(super) fresh_ms: u64,
    /// Milliseconds after those for which it may be given while it is computed anew.
    pub(super) stale_ms: u64,
}

/// The parts of what is stored in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    /// When.
    pub(super) dates: Dates,
    /// Of what.
    pub(super) identity: &'a [u8],
    /// What.
    pub(super) answer: &'a [u8],
}

impl<'a> Stored<'a> {
    /// The bytes to store.
    pub(super) fn write(&self) -> Vec<u8> {
        seal(&[], MAGIC, 40 + self.identity.len() + self.answer.len(), |bytes| {
            for number in [self.dates.computed_ms, self.dates.fresh_ms, self.dates.stale_ms] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            put_size(bytes, self.identity.len());
            bytes.extend_from_slice(self.identity);
            bytes.extend_from_slice(self.answer);
        })
    }

    /// What `bytes` are; `None` where they are nothing that was stored whole.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let ([], mut cursor) = unseal(bytes, MAGIC).ok()?;
        let dates = Dates { computed_ms: cursor.u64()?, fresh_ms: cursor.u64()?, stale_ms: cursor.u64()? };
        let size = cursor.size()?;
        let identity = cursor.take(size)?;
        let stored = Self { dates, identity, answer: cursor.0 };
        // What is not an answer to the last byte is refused here and not when it is given.
        let mut whole = Stitch::default();
        whole.push(stored.answer)?;
        Some(stored)
    }
}

/// What a value says that the cache stored in Redis: its answer, where it is one that was stored
/// whole. The bytes may be anybody's.
pub fn stored_answer(bytes: &[u8]) -> Option<Outputs> {
    bare_answer(Stored::read(bytes)?.answer)
}

/// The same without the envelope: for the fuzz target, which would not get past the checksum.
#[doc(hidden)]
pub fn bare_answer(bytes: &[u8]) -> Option<Outputs> {
    let mut whole = Stitch::default();
    whole.push(bytes)?;
    whole.finish().map(|(outputs, _)| outputs)
}

/// Appends one row of `outputs` as an answer, or all of them; `tokens` are those rows', and `ns` what
/// the model took for them.
pub(super) fn write_answer(
    bytes: &mut Vec<u8>,
    outputs: &Outputs,
    row: Option<usize>,
    tokens: Option<&[u32]>,
    ns: u64,
) {
    put_size(bytes, if row.is_some() { 1 } else { outputs.rows });
    put_size(bytes, outputs.tensors.len());
    for tensor in &outputs.tensors {
        let mut shape = tensor.shape().to_vec();
        if let (Some(first), Some(_)) = (shape.first_mut(), row) {
            *first = 1;
        }
        put_form(bytes, tensor, &shape);
    }
    put_size(bytes, tokens.map_or(0, |tokens| tokens.len() + 1));
    tokens.unwrap_or_default().iter().for_each(|n| put_size(bytes, *n as usize));
    put_size(bytes, ns as usize);
    for tensor in &outputs.tensors {
        put_rows(bytes, tensor, row.map_or(0..tensor.rows(), |row| row..row + 1));
    }
}

/// Answers put together to one, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Stitch {
    rows: usize,
    tensors: Vec<(Vec<usize>, TensorData)>,
    tokens: Option<Vec<u32>>,
    ns: u64,
    /// Answers that will come, to make room for.
    expected: usize,
}

impl Stitch {
    /// For so many answers of about the same size.
    pub(super) fn expecting(answers: usize) -> Self {
        Self { expected: answers, ..Self::default() }
    }

    /// Adds an answer. `None`, and the rest is undefined, where it is none or does not fit to
    /// those before.
    pub(super) fn push(&mut self, answer: &[u8]) -> Option<()> {
        let mut cursor = Cursor(answer);
        let (rows, tensors) = (cursor.size()?, cursor.size()?);
        let first = self.rows == 0 && self.tensors.is_empty();
        if tensors > MAX_TENSORS || !(first || tensors == self.tensors.len()) {
            return None;
        }
        let mut counts = [0usize; 8];
        let mut many = Vec::new();
        let counts = match counts.get_mut(..tensors) {
            Some(few) => few,
            None => {
                many.resize(tensors, 0);
                &mut many[..]
            }
        };
        for (i, count) in counts.iter_mut().enumerate() {
            *count = self.form(i, &mut cursor)?;
        }
        self.read_tokens(&mut cursor, rows, first)?;
        self.ns = self.ns.saturating_add(cursor.size()? as u64);
        for ((_, data), count) in self.tensors.iter_mut().zip(counts) {
            cursor.elements(data, *count)?;
        }
        self.rows = self.rows.checked_add(rows)?;
        cursor.0.is_empty().then_some(())
    }

    /// Reads type and dimensions of tensor `i` and gives its number of elements.
    fn form(&mut self, i: usize, cursor: &mut Cursor<'_>) -> Option<usize> {
        let (dtype, dims) = cursor.type_and_rank()?;
        if let Some((shape, data)) = self.tensors.get_mut(i) {
            if data.dtype() != dtype || shape.len() != dims {
                return None;
            }
            // A tensor without dimensions is one value for all rows: there can be one answer only.
            let (rows, rest) = shape.split_first_mut()?;
            let more = cursor.size()?;
            let count = rest
                .iter()
                .try_fold(more, |n, dim| (cursor.size()? == *dim).then_some(n.checked_mul(*dim)?))?;
            *rows = rows.checked_add(more)?;
            return Some(count);
        }
        let (shape, count) = cursor.shape(dims)?;
        // Every element takes a byte at least: room is made for what can be there.
        let room = count.min(cursor.0.len()).saturating_mul(self.expected.max(1));
        self.tensors.push((shape, TensorData::with_capacity(dtype, room)));
        Some(count)
    }

    fn read_tokens(&mut self, cursor: &mut Cursor<'_>, rows: usize, first: bool) -> Option<()> {
        let count = match cursor.size()? {
            0 if first || self.tokens.is_none() => return Some(()),
            0 => return None,
            count => count - 1,
        };
        if count != rows || !(first || self.tokens.is_some()) {
            return None;
        }
        let tokens = self.tokens.get_or_insert_default();
        for _ in 0..count {
            tokens.push(u32::try_from(cursor.size()?).ok()?);
        }
        Some(())
    }

    /// Nanoseconds that the model took for all of them.
    pub(super) fn ns(&self) -> u64 {
        self.ns
    }

    /// The answer, and the tokens of each of its rows.
    pub(super) fn finish(self) -> Option<(Outputs, Option<Vec<u32>>)> {
        let tensors = self.tensors.into_iter().map(|(shape, data)| Tensor::new(shape, data).ok());
        Some((Outputs { rows: self.rows, tensors: tensors.collect::<Option<_>>()? }, self.tokens))
    }
}
