//! Counting and hashing what passes by.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Bytes that are copied at once.
const PIECE: usize = 256 * 1024;

/// SHA-256 in lower-case hex.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of `bytes` in lower-case hex.
pub(crate) fn of(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// Writes on, and knows what passed.
#[derive(Debug)]
pub(crate) struct Summed<W> {
    pub(crate) inner: W,
    pub(crate) hash: Sha256,
    pub(crate) bytes: u64,
}

impl<W> Summed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies exactly `bytes` from `input` to `output` and hashes them.
///
/// # Errors
/// Either side's, told apart: `Err(Ok(e))` is the input's, `Err(Err(e))` the output's.
pub(crate) fn copy(
    input: &mut impl Read,
    output: &mut impl Write,
    bytes: u64,
) -> Result<String, Result<io::Error, io::Error>> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE.min(usize::try_from(bytes).unwrap_or(PIECE))];
    let mut left = bytes;
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match input.read(&mut piece[..most]) {
            Ok(0) => return Err(Ok(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Ok(e)),
        };
        hash.update(&piece[..read]);
        output.write_all(&piece[..read]).map_err(Err)?;
        left -= read as u64;
    }
    Ok(hex(hash))
}
