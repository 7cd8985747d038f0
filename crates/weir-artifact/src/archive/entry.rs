//! One header of a tar in the `ustar` form (IEEE Std 1003.1-1988, section 10.1.1): 512 bytes, numbers
//! as octal text.

use super::ArchiveError;

/// Size of a header, and what contents are padded to.
pub(crate) const BLOCK: usize = 512;
/// Longest path that the form holds: a name of 100 bytes behind a folder of 155.
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Deepest folder: a model's, its version's, and a few of a layout's own.
const MAX_DEPTH: usize = 8;

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Folder,
    /// Words about the next entry, or about all: a `pax` header (POSIX.1-2001).
    Pax,
}

/// A header that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it lies, `/` between its parts, none before or behind.
    pub(crate) path: String,
    pub(crate) what: What,
    /// Bytes of contents behind the header.
    pub(crate) bytes: u64,
}

/// Bytes of padding behind contents of `bytes`.
pub(crate) fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64) - bytes
}

/// The header of a file of `bytes`, or of a folder, owned by nobody in particular at no time in
/// particular: the same contents make the same archive.
///
/// # Errors
/// The path does not fit.
pub(crate) fn header(path: &str, what: What, bytes: u64) -> Result<[u8; BLOCK], ArchiveError> {
    let (mode, kind) = match what {
        What::Folder => ("0000755\0", b'5'),
        What::File | What::Pax => ("0000644\0", b'0'),
    };
    let folder = if what == What::Folder { "/" } else { "" };
    let whole = format!("{path}{folder}");
    let (prefix, name) = split(&whole).ok_or_else(|| {
        ArchiveError::refused(format!("{path}: the path is too long for a tar; shorten names of folders"))
    })?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, mode.as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{bytes:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    Ok(block)
}

/// Prefix and name of a path, cut at a `/`.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES {
        return Some(("", path));
    }
    let cuts = path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    cuts.into_iter()
        .find(|(prefix, name)| prefix.len() <= PREFIX_BYTES && !name.is_empty() && name.len() <= NAME_BYTES)
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let byte = |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    block.iter().enumerate().map(byte).sum()
}

/// Reads a header.
///
/// # Errors
/// What is damaged, and all that may not stand in an archive of models.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Entry, ArchiveError> {
    let damaged = || ArchiveError::refused("the archive is damaged: a header's checksum or number is none");
    let sum = octal(&block[148..156]).ok_or_else(damaged)?;
    if sum != u64::from(checksum(block)) || &block[257..262] != b"ustar" {
        return Err(damaged());
    }
    let bytes = octal(&block[124..136]).ok_or_else(damaged)?;
    let name = text(&block[..NAME_BYTES])?;
    // GNU's form has times where POSIX's has the prefix, and says so by its version.
    let prefix = if &block[257..265] == b"ustar  \0" { "" } else { text(&block[345..500])? };
    let whole = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let what = match block[156] {
        b'0' | b'\0' => What::File,
        b'5' => What::Folder,
        b'x' | b'g' => What::Pax,
        kind => return Err(forbidden(kind, &whole)),
    };
    if what == What::Folder && bytes != 0 {
        return Err(damaged());
    }
    let path = if what == What::Pax { String::new() } else { plain(&whole, what)? };
    Ok(Entry { path, what, bytes })
}

fn forbidden(kind: u8, path: &str) -> ArchiveError {
    let name = match kind {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'6' => "a named pipe",
        b'L' | b'K' => "a name longer than 100 bytes in GNU's form",
        b'S' => "a sparse file",
        _ => "an entry of an unknown kind",
    };
    let path = path.chars().take(200).collect::<String>();
    ArchiveError::Refused(format!(
        "`{}` is {name}: archives of models hold files and folders alone; make it with `weir package`",
        path.escape_debug()
    ))
}

/// A field that a NUL ends where it is not full.
fn text(field: &[u8]) -> Result<&str, ArchiveError> {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end])
        .map_err(|_| ArchiveError::refused("a path in the archive is not UTF-8"))
}

/// Octal digits, spaces before, a NUL or space behind. Numbers in base 256 (GNU's, for more than
/// 8 GiB) are none: no artefact is that large.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    digits.then(|| u64::from_str_radix(text, 8).ok()).flatten()
}

/// The path as it may be joined to a folder: parts that are names, and nothing that another reader
/// could take for a way out, in any system's spelling.
///
/// # Errors
/// Everything else.
pub(crate) fn plain(path: &str, what: What) -> Result<String, ArchiveError> {
    let refuse = |why: &str| {
        let shown = path.chars().take(200).collect::<String>();
        Err(ArchiveError::Refused(format!("the path `{}` {why}", shown.escape_debug())))
    };
    // `tar -C models -cf a.tar ./housing` writes `./housing/`.
    let inner = path.strip_prefix("./").unwrap_or(path);
    let inner = if what == What::Folder { inner.strip_suffix('/').unwrap_or(inner) } else { inner };
    if what == What::Folder && matches!(inner, "" | ".") {
        return Ok(String::new());
    }
    let bad = |c: char| c.is_control() || matches!(c, '\\' | ':' | '%');
    if inner.chars().any(bad) {
        return refuse("has a character that is none of a file of a model (control, `\\`, `:`, `%`)");
    }
    if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("leads out of the archive, or nowhere");
    }
    if inner.split('/').any(|part| part.starts_with('.')) {
        return refuse("is hidden: no model has hidden files (on macOS, set COPYFILE_DISABLE=1)");
    }
    if inner.split('/').count() > MAX_DEPTH {
        return refuse("lies in too many folders");
    }
    Ok(inner.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let long = format!("housing/{}/{}", "a".repeat(90), "b".repeat(95));
        for (path, what, bytes) in [
            ("housing/model.onnx", What::File, 0o7_654),
            ("housing", What::Folder, 0),
            (&long, What::File, 1),
        ] {
            let entry = parse(&header(path, what, bytes).unwrap()).unwrap();
            assert_eq!(entry, Entry { path: path.to_owned(), what, bytes });
        }
        assert!(header(&"a".repeat(300), What::File, 0).is_err());
    }

    #[test]
    fn no_spelling_of_a_way_out_is_a_path() {
        for bad in [
            "../a",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/./b",
            "..",
            ".",
            "",
            "a\\..\\b",
            "C:/a",
            "a\0b",
            "%2e%2e/a",
            "a/..",
            "./../a",
            "././a",
            "a/.git/b",
            "a\nb",
            "\u{202e}/..",
            "a/b/c/d/e/f/g/h/i",
            "a/",
        ] {
            assert!(plain(bad, What::File).is_err(), "{bad:?}");
        }
        for good in ["housing/model.onnx", "./housing/1/model.onnx", "h/a b.json", "h/ä.txt"] {
            assert!(plain(good, What::File).is_ok(), "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic_and_paths_stay_inside(bytes in prop::collection::vec(any::<u8>(), BLOCK), fix: bool) {
            let mut block: [u8; BLOCK] = bytes.try_into().unwrap();
            if fix {
                block[257..265].copy_from_slice(b"ustar\x0000");
                block[124..136].copy_from_slice(b"00000000017\0");
                let sum = format!("{:06o}\0 ", checksum(&block));
                block[148..156].copy_from_slice(sum.as_bytes());
            }
            if let Ok(entry) = parse(&block) {
                prop_assert!(entry.path.split('/').all(|part| part != ".."));
                prop_assert!(!entry.path.starts_with('/'));
            }
        }
    }
}
