//! Takes the two files of Swagger UI that the docs page needs out of the vendored archive and
//! lays them down as gzip, ready to be sent.
//!
//! A zip entry and a gzip file hold the same raw deflate stream with another frame around it,
//! so nothing is unpacked and nothing compressed: not here, and not when the server runs.
//! Linking the whole archive was rejected: 1.8 MB in the binary for the 440 kB that are used.

use std::{env, error::Error, fs, path::Path};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

const WANTED: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

/// Compression method 8 of APPNOTE.TXT 4.4.5.
const DEFLATE: usize = 8;

struct Entry<'a> {
    name: &'a str,
    method: usize,
    crc32: &'a [u8],
    deflated: &'a [u8],
    size: &'a [u8],
}

// A build script learns its folder from the environment and talks to cargo by printing.
#[allow(clippy::disallowed_methods, clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var("OUT_DIR")?;
    for wanted in WANTED {
        let suffix = format!("/dist/{wanted}");
        let entry = entries()?
            .into_iter()
            .find(|e| e.name.ends_with(&suffix) && !e.name.contains("/flavors/"))
            .ok_or_else(|| format!("the Swagger UI archive has no dist/{wanted}"))?;
        if entry.method != DEFLATE {
            return Err(format!("{} is not deflated, but of method {}", entry.name, entry.method).into());
        }
        fs::write(Path::new(&out).join(format!("{wanted}.gz")), gzip(&entry))?;
    }
    Ok(())
}

/// RFC 1952: ten bytes of header (no name, no time, unknown system), the stream, its CRC-32
/// and its length.
fn gzip(entry: &Entry<'_>) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], entry.deflated, entry.crc32, entry.size].concat()
}

/// Entries of the central directory (APPNOTE.TXT 4.3.12).
fn entries() -> Result<Vec<Entry<'static>>, Box<dyn Error>> {
    let end = (0..ARCHIVE.len().saturating_sub(21))
        .rev()
        .find(|&at| ARCHIVE[at..].starts_with(b"PK\x05\x06"))
        .ok_or("the Swagger UI archive has no end record")?;
    let mut at = number(end + 16, 4)?;
    let mut found = Vec::new();
    for _ in 0..number(end + 10, 2)? {
        let (name, extra, comment) = (number(at + 28, 2)?, number(at + 30, 2)?, number(at + 32, 2)?);
        let local = number(at + 42, 4)?;
        let data = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
        found.push(Entry {
            name: std::str::from_utf8(bytes(at + 46, name)?)?,
            method: number(at + 10, 2)?,
            crc32: bytes(at + 16, 4)?,
            deflated: bytes(data, number(at + 20, 4)?)?,
            size: bytes(at + 24, 4)?,
        });
        at += 46 + name + extra + comment;
    }
    Ok(found)
}

fn bytes(at: usize, length: usize) -> Result<&'static [u8], Box<dyn Error>> {
    Ok(ARCHIVE.get(at..at + length).ok_or("the Swagger UI archive is cut short")?)
}

fn number(at: usize, length: usize) -> Result<usize, Box<dyn Error>> {
    Ok(bytes(at, length)?.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
}
