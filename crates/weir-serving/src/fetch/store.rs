//! The folder that keeps archives by digest.
//!
//! ```text
//! sha256-<hex>/          an archive, unpacked; holds weir-package.json and the models' folders
//! sha256-<hex>/.lock     locked, shared, by every server that uses it
//! .new-<random>/         one that is being unpacked
//! .part-<random>         one that is coming
//! ```
//!
//! Several servers may share it: what is made is made under a name of its own and then renamed, and what
//! is locked is not removed. Locks go with their process, so what a killed one left behind is recognised.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File, OpenOptions, TryLockError},
    hash::BuildHasher,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use weir_artifact::archive::{self, ArchiveLimits};
use weir_clients::Sink;
use weir_types::Clock;

const LOCK: &str = ".lock";
const PREFIX: &str = "sha256-";
/// Most entries of the folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Keeps archives.
pub(super) struct Store {
    pub(super) folder: PathBuf,
    pub(super) limits: ArchiveLimits,
    /// Bytes that those may take which nobody uses.
    pub(super) keep: u64,
    pub(super) clock: Arc<dyn Clock>,
}

/// An archive that is here, and stays while this lives.
#[derive(Debug)]
pub(super) struct Kept {
    /// The folder that holds the models' folders.
    pub(super) folder: PathBuf,
    _lock: Option<File>,
}

impl Store {
    fn place(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{PREFIX}{sha256}"))
    }

    /// The archive, where it is here and whole. One that was changed is removed.
    pub(super) fn find(&self, sha256: &str) -> Option<Kept> {
        let kept = self.take(sha256)?;
        match archive::verify(&kept.folder) {
            Ok(_) => Some(kept),
            Err(problem) => {
                tracing::warn!("fetched again: {problem}");
                drop(kept);
                self.remove(&self.place(sha256));
                None
            }
        }
    }

    /// The archive's folder, locked.
    fn take(&self, sha256: &str) -> Option<Kept> {
        let folder = self.place(sha256);
        let path = folder.join(LOCK);
        let lock = OpenOptions::new().read(true).write(true).open(&path);
        // Of a read-only volume, which nobody removes anything from.
        let Ok(lock) = lock.or_else(|_| File::open(&path)) else {
            return folder.is_dir().then_some(Kept { folder, _lock: None });
        };
        // A file system without locks keeps everything for ever.
        let _ = lock.lock_shared();
        let _ = lock.set_modified(self.clock.wall());
        // It may have been removed before the lock was had.
        path.exists().then_some(Kept { folder, _lock: Some(lock) })
    }

    /// A place for an archive that comes.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn receive(&self) -> Result<Incoming, String> {
        fs::create_dir_all(&self.folder).map_err(|e| self.cannot("made", &e))?;
        let path = self.folder.join(format!(".part-{}", random()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|e| self.cannot("written to", &e))?;
        let _ = file.lock();
        Ok(Incoming { file, path, bytes: 0, hash: Sha256::new() })
    }

    fn cannot(&self, what: &str, error: &io::Error) -> String {
        format!("{} cannot be {what}: {error}; name another folder with `fetch.cache`", self.folder.display())
    }

    /// Checks what came, unpacks it and puts it in its place, where another server may have put it already.
    ///
    /// # Errors
    /// It is another one, or cannot be unpacked.
    pub(super) fn put(&self, mut came: Incoming, sha256: &str) -> Result<Kept, String> {
        let found = came.sha256();
        if found != sha256 {
            return Err(format!(
                "it has SHA-256 {found}, and {sha256} was expected: another file lies there, or `sha256` is \
                 that of another version; nothing was unpacked"
            ));
        }
        let new = self.folder.join(format!(".new-{}", random()));
        fs::create_dir(&new).map_err(|e| self.cannot("written to", &e))?;
        let put = self.put_in(&new, &mut came, sha256);
        if new.exists() {
            let _ = fs::remove_dir_all(&new);
        }
        put?;
        self.take(sha256).ok_or_else(|| "it was removed as soon as it was unpacked".to_owned())
    }

    fn put_in(&self, new: &Path, came: &mut Incoming, sha256: &str) -> Result<(), String> {
        let lock = File::create_new(new.join(LOCK)).map_err(|e| self.cannot("written to", &e))?;
        let _ = lock.lock();
        came.file.rewind().map_err(|e| format!("what came cannot be read: {e}"))?;
        archive::unpack(&came.file, new, &self.limits).map_err(|e| e.to_string())?;
        sync_folders(new).map_err(|e| self.cannot("written to", &e))?;
        match fs::rename(new, self.place(sha256)) {
            Ok(()) => {}
            // Another server was faster.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            }
            Err(e) => return Err(self.cannot("written to", &e)),
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| self.cannot("written to", &e))
    }

    /// Removes what killed servers left behind, and of the archives that no server uses those beyond `keep`,
    /// the longest unused first.
    pub(super) fn sweep(&self) {
        let entries = self.folder.read_dir().into_iter().flatten().take(MAX_ENTRIES).flatten();
        let mut unused = Vec::new();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(".part-") {
                if let Some(_lock) = free(&path) {
                    let _ = fs::remove_file(&path);
                }
            } else if name.starts_with(".new-") {
                if let Some(_lock) = free(&path.join(LOCK)) {
                    let _ = fs::remove_dir_all(&path);
                }
            } else if name.starts_with(PREFIX)
                && let Some(lock) = free(&path.join(LOCK))
            {
                let used = lock.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                unused.push((used, path, lock));
            }
        }
        unused.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        let mut bytes: u64 = 0;
        for (_, path, _lock) in unused {
            bytes = bytes.saturating_add(size(&path));
            if bytes > self.keep {
                tracing::info!(archive = %path.display(), "removed: no server uses it");
                self.remove(&path);
            }
        }
    }

    /// Removes an archive: first its name, so that nobody finds half of it.
    fn remove(&self, path: &Path) {
        let gone = self.folder.join(format!(".new-{}", random()));
        if fs::rename(path, &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
        }
    }
}

/// The file, locked for us alone, if nobody else has it.
fn free(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

/// Bytes of an archive, as its listing says.
fn size(folder: &Path) -> u64 {
    let listing = fs::read(folder.join(archive::PACKAGE_FILE)).unwrap_or_default();
    let listing: Option<archive::PackageManifest> = serde_json::from_slice(&listing).ok();
    listing.map_or(0, |listing| listing.files.iter().map(|file| file.bytes).sum())
}

/// Names of files are on the disk once their folders are.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// A name that nobody else has: the standard library's keys are random for each one.
fn random() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8))
}

/// An archive that comes. Gone when it is dropped.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    bytes: u64,
    hash: Sha256,
}

impl Incoming {
    fn sha256(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Sink for Incoming {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.file.set_len(0)?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
