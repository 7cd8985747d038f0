//! Files of bodies: a line with a length in decimal digits, that many bytes, a line feed.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

/// Reads all bodies of a file.
///
/// # Errors
/// What is no such file, and one without a body.
pub(crate) fn read(path: &str) -> Result<Vec<Bytes>> {
    let mut rest = Bytes::from(std::fs::read(path).with_context(|| path.to_owned())?);
    let mut bodies = Vec::new();
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let length: usize = std::str::from_utf8(&rest.split_to(end))?.parse()?;
        ensure!(rest.len() > length + 1, "{path}: body {} is cut off", bodies.len());
        bodies.push(rest.slice(1..=length));
        rest = rest.slice(length + 2..);
    }
    ensure!(!bodies.is_empty(), "{path}: no body");
    Ok(bodies)
}

/// Writes such a file.
///
/// # Errors
/// What the disk says.
pub(crate) fn write(path: &str, bodies: &[Bytes]) -> Result<()> {
    let mut out = Vec::new();
    for body in bodies {
        out.extend_from_slice(format!("{}\n", body.len()).as_bytes());
        out.extend_from_slice(body);
        out.push(b'\n');
    }
    std::fs::write(path, out).with_context(|| path.to_owned())
}
