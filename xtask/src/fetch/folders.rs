//! The model folder is there as a whole or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{error::FetchError, sources::Source};

/// Files that are committed and belong to the model.
const COMMITTED: [&str; 3] = ["model.toml", "head.safetensors", "samples.jsonl"];

/// Where things are.
#[derive(Debug)]
pub(crate) struct Folders {
    /// The committed part of the model.
    pub(crate) committed: PathBuf,
    /// The complete model.
    pub(crate) target: PathBuf,
}

impl Folders {
    /// From the folder with the committed part and the folder to make.
    pub(crate) fn new(committed: &Path, target: &Path) -> Self {
        Self { committed: committed.to_owned(), target: target.to_owned() }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.target.with_extension(ending)
    }

    /// Waits until no other fetch runs, and keeps others out while the result lives.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn lock(&self) -> Result<File, FetchError> {
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent).map_err(|e| FetchError::file(parent, e))?;
        }
        let path = self.beside("lock");
        let file = File::create(&path).map_err(|e| FetchError::file(&path, e))?;
        file.lock().map_err(|e| FetchError::file(&path, e))?;
        Ok(file)
    }

    /// Whether the target holds every file, each as pinned or as committed.
    ///
    /// # Errors
    /// A file is there but cannot be read.
    pub(crate) fn complete(&self, sources: &[Source]) -> Result<bool, FetchError> {
        for source in sources {
            if !source.matches(&self.target.join(&source.name))? {
                return Ok(false);
            }
        }
        Ok(COMMITTED.iter().all(|name| {
            let (here, there) = (fs::read(self.committed.join(name)), fs::read(self.target.join(name)));
            matches!((here, there), (Ok(a), Ok(b)) if a == b)
        }))
    }

    /// An empty folder on the same file system as the target, so that it can become it by
    /// a rename. What an interrupted run left there is removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn stage(&self) -> Result<PathBuf, FetchError> {
        let staging = self.beside("new");
        remove(&staging)?;
        fs::create_dir_all(&staging).map_err(|e| FetchError::file(&staging, e))?;
        Ok(staging)
    }

    /// Removes what a failed run staged. Best effort: the next run does it again.
    pub(crate) fn discard(&self) {
        let _ = remove(&self.beside("new"));
    }

    /// Copies the committed files.
    ///
    /// # Errors
    /// One cannot be read or written.
    pub(crate) fn copy_committed(&self, staging: &Path) -> Result<(), FetchError> {
        for name in COMMITTED {
            let from = self.committed.join(name);
            fs::copy(&from, staging.join(name)).map_err(|e| FetchError::file(&from, e))?;
        }
        Ok(())
    }

    /// Puts the staging folder in the target's place.
    ///
    /// # Errors
    /// A rename fails; the old folder is then still there under its own name or as `.old`.
    pub(crate) fn publish(&self, staging: &Path) -> Result<(), FetchError> {
        let old = self.beside("old");
        remove(&old)?;
        if self.target.exists() {
            fs::rename(&self.target, &old).map_err(|e| FetchError::file(&self.target, e))?;
        }
        fs::rename(staging, &self.target).map_err(|e| FetchError::file(staging, e))?;
        remove(&old)
    }
}

fn remove(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FetchError::file(folder, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sources::example, *};

    fn committed(root: &Path) -> Folders {
        let folders = Folders::new(&root.join("committed"), &root.join("cache/model"));
        fs::create_dir_all(&folders.committed).unwrap();
        COMMITTED.iter().for_each(|name| fs::write(folders.committed.join(name), name).unwrap());
        folders
    }

    fn assemble(folders: &Folders) {
        let _lock = folders.lock().unwrap();
        let staging = folders.stage().unwrap();
        fs::write(staging.join("big.bin"), b"big").unwrap();
        folders.copy_committed(&staging).unwrap();
        folders.publish(&staging).unwrap();
    }

    #[test]
    fn the_folder_is_complete_only_when_every_file_is_right() {
        let root = tempfile::tempdir().unwrap();
        let folders = committed(root.path());
        let sources = [example("big.bin", b"big")];
        assert!(!folders.complete(&sources).unwrap());
        assemble(&folders);
        assert!(folders.complete(&sources).unwrap());
        fs::write(folders.committed.join("model.toml"), "edited").unwrap();
        assert!(!folders.complete(&sources).unwrap(), "the committed part changed");
        assemble(&folders);
        assert!(folders.complete(&sources).unwrap());
    }

    #[test]
    fn what_an_interrupted_or_failed_run_left_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let folders = committed(root.path());
        let _lock = folders.lock().unwrap();
        fs::write(folders.stage().unwrap().join("half"), "x").unwrap();
        let staging = folders.stage().unwrap();
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
        folders.discard();
        assert!(!staging.exists());
    }

    #[test]
    fn nothing_but_the_target_and_the_lock_stays() {
        let root = tempfile::tempdir().unwrap();
        let folders = committed(root.path());
        assemble(&folders);
        assemble(&folders);
        let mut left: Vec<_> =
            fs::read_dir(root.path().join("cache")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["model", "model.lock"]);
    }
}
