//! Reading the files that an operator names: bounded, and never waiting for somebody to write.

use std::{fs::File, io::Read, path::Path};

/// Most bytes of a file that holds one secret, or some headers.
pub const SECRET_BYTES: u64 = 64 << 10;

/// Reads a whole regular file of at most `max` bytes.
///
/// # Errors
/// A sentence that names the file: it is none, cannot be read, or has more bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let failed = |e| format!("{} cannot be read: {e}", path.display());
    // Asked before it is opened: opening a FIFO waits for somebody to write to it.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let too_large = || format!("{} has more than {max} bytes, the most that is read", path.display());
    if size > max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // One byte more than allowed, to notice a file that grows while it is read.
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a whole UTF-8 file of at most `max` bytes.
///
/// # Errors
/// As [`read`], and for bytes that are no UTF-8; nothing of what it holds is repeated.
pub fn text(path: &Path, max: u64) -> Result<String, String> {
    String::from_utf8(read(path, max)?)
        .map_err(|e| format!("{} is not UTF-8 text (byte {})", path.display(), e.utf8_error().valid_up_to()))
}

/// Reads a password, key or token: what the file holds but for the ends of lines after it.
///
/// # Errors
/// As [`text`] with [`SECRET_BYTES`], and for a file that holds nothing: one that was mounted before it was filled.
pub fn secret(path: &Path) -> Result<String, String> {
    let mut text = text(path, SECRET_BYTES)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn large_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5), Ok(b"12345".to_vec()));
        assert!(read(&path, 4).unwrap_err().contains("more than 4 bytes"));
    }

    #[test]
    fn what_would_never_end_is_refused_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        for endless in [&*path, Path::new("/dev/zero"), root.path()] {
            assert!(read(endless, 5).unwrap_err().contains("no regular file"), "{}", endless.display());
        }
    }

    #[test]
    fn a_secret_is_what_is_there_without_the_end_of_its_line() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        for (held, meant) in [("s3 cret ", "s3 cret "), ("a\r\n", "a"), ("a\nb\n\n", "a\nb")] {
            fs::write(&path, held).unwrap();
            assert_eq!(secret(&path).as_deref(), Ok(meant));
        }
        for (held, told) in [("", "is empty"), ("\n", "is empty")] {
            fs::write(&path, held).unwrap();
            assert!(secret(&path).unwrap_err().ends_with(told));
        }
        fs::write(&path, b"hush\xff").unwrap();
        let told = secret(&path).unwrap_err();
        assert!(told.contains("not UTF-8") && !told.contains("hush"), "{told}");
    }
}
