//! Reading the files of a model folder: bounded, regular, and never outside the folder.

use std::path::{Component, Path, PathBuf};

pub(crate) use weir_config::files::{read, text};

/// Most bytes of each kind of file. Beyond these a file is not what it claims to be.
pub(crate) mod limits {
    /// An artefact: protobuf cannot hold more than 2 GiB.
    pub(crate) const ARTIFACT_BYTES: u64 = (2 << 30) - 1;
    /// A `tokenizer.json`: multilingual vocabularies reach some 20 MB.
    pub(crate) const TOKENIZER_BYTES: u64 = 128 << 20;
    /// A linear head.
    pub(crate) const HEAD_BYTES: u64 = 256 << 20;
    /// Golden rows: they run at every load.
    pub(crate) const SAMPLES_BYTES: u64 = 64 << 20;
}

/// Where a model's files may lie: the version's own folder first, then the folder whose
/// `model.toml` its versions share.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    own: PathBuf,
    shared: Option<PathBuf>,
}

impl Folders {
    /// `own` holds the artefact, `manifest` is the `model.toml` that names files.
    pub(crate) fn new(own: &Path, manifest: Option<&Path>) -> Self {
        let shared = manifest.and_then(Path::parent).filter(|p| *p != own).map(Path::to_owned);
        Self { own: own.to_owned(), shared }
    }

    /// The file that `name` in `model.toml` means.
    ///
    /// # Errors
    /// A sentence when it is absolute, leaves the folder (by `..` or by a link), does not
    /// exist or is no regular file.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, String> {
        let relative = Path::new(name);
        let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || name.contains('\0') || !relative.components().all(plain) {
            return Err(format!("`{}` must be a path inside the model folder", name.escape_debug()));
        }
        let folders = std::iter::once(&self.own).chain(&self.shared);
        let mut found = folders.map(|f| (f, f.join(relative))).filter(|(_, p)| p.symlink_metadata().is_ok());
        let Some((folder, path)) = found.next() else {
            return Err(format!("`{name}` does not exist in {}", self.own.display()));
        };
        inside(folder, &path)?;
        Ok(path)
    }
}

/// Checks that `path`, links followed, is a regular file below `folder`.
pub(crate) fn inside(folder: &Path, path: &Path) -> Result<(), String> {
    let real = |p: &Path| p.canonicalize().map_err(|e| format!("{} cannot be read: {e}", p.display()));
    let (root, target) = (real(folder)?, real(path)?);
    if !target.starts_with(&root) {
        return Err(format!("{} leads outside the model folder: copy the file there", path.display()));
    }
    if !target.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_found() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::fs::write(model.join("real"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", model.join("out")).unwrap();
        std::os::unix::fs::symlink("real", model.join("in")).unwrap();
        let folders = Folders::new(&model, None);
        for bad in ["../secret", "/etc/passwd", "out", "", "a/../../secret", "re\0al", ".", "missing", ".."] {
            assert!(folders.find(bad).is_err(), "{bad:?}");
        }
        for good in ["real", "./real", "in"] {
            assert!(folders.find(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_version_finds_shared_files_but_prefers_its_own() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("3");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(root.path().join("a"), "").unwrap();
        std::fs::write(root.path().join("b"), "").unwrap();
        std::fs::write(own.join("a"), "").unwrap();
        let folders = Folders::new(&own, Some(&root.path().join("model.toml")));
        assert_eq!(folders.find("a"), Ok(own.join("a")));
        assert_eq!(folders.find("b"), Ok(root.path().join("b")));
    }
}
