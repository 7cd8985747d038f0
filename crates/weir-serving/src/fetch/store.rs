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
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use weir_artifact::archive::{self, ArchiveError, ArchiveLimits};
use weir_clients::Sink;
use weir_types::{Clock, unique_wide};

use super::{
    NotFetched,
    not_fetched::{FOLDER, UNREADABLE},
};

const LOCK: &str = ".lock";
const PREFIX: &str = "sha256-";
/// Most entries of the folder that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// How often a name is tried whose file somebody else removes before it is locked.
const TRIES: usize = 8;
/// After so long, a folder without a lock is one that nobody is about to lock.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

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

/// What lies in an archive's place.
#[derive(Debug)]
pub(super) enum Found {
    /// The archive, whole.
    Here(Kept),
    /// Nothing.
    Absent,
    /// Other contents than were unpacked.
    Changed(String),
    /// What cannot be read now, and may be whole.
    Unreadable(String),
}

impl Store {
    fn place(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{PREFIX}{sha256}"))
    }

    /// The archive, as it lies here; nothing is changed or removed.
    pub(super) fn find(&self, sha256: &str) -> Found {
        let Some(kept) = self.take(sha256) else { return Found::Absent };
        match archive::verify(&kept.folder) {
            Ok(_) => Found::Here(kept),
            Err(problem) if differs(&problem) => Found::Changed(problem.to_string()),
            Err(problem) => Found::Unreadable(problem.to_string()),
        }
    }

    /// The archive's folder, locked.
    fn take(&self, sha256: &str) -> Option<Kept> {
        let folder = self.place(sha256);
        let path = folder.join(LOCK);
        for _ in 0..TRIES {
            let lock = OpenOptions::new().read(true).write(true).open(&path);
            let lock = match lock.or_else(|_| File::open(&path)) {
                Ok(lock) => lock,
                // Removed a moment ago, and put there again: taken without its lock, it could be removed in use.
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                // Of a volume that nobody removes anything from.
                Err(_) => return folder.is_dir().then_some(Kept { folder, _lock: None }),
            };
            // A file system without locks keeps everything for ever.
            let _ = lock.lock_shared();
            // It may have been removed, and another put there, before the lock was had.
            if is_at(&lock, &path) {
                let _ = lock.set_modified(self.clock.wall());
                return Some(Kept { folder, _lock: Some(lock) });
            }
        }
        // Put there by hand.
        (folder.is_dir() && !path.exists()).then_some(Kept { folder, _lock: None })
    }

    /// Removes an archive that differs from what was unpacked.
    ///
    /// # Errors
    /// Somebody uses it.
    pub(super) fn clear(&self, sha256: &str) -> Result<(), NotFetched> {
        let folder = self.place(sha256);
        let path = folder.join(LOCK);
        // A folder that was put there by hand may have none.
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = match lock {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.cannot("written to", &e)),
        };
        let Some(_lock) = alone(lock, &path) else {
            let why = "was changed, and another server uses it: it is fetched again once no server does";
            return Err(NotFetched::passing(format!("it {why}"), format!("{} {why}", folder.display())));
        };
        // Another server may have brought it anew since.
        if archive::verify(&folder).is_err_and(|problem| differs(&problem)) {
            self.remove(&folder);
        }
        Ok(())
    }

    /// A place for an archive that comes.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn receive(&self) -> Result<Incoming, NotFetched> {
        fs::create_dir_all(&self.folder).map_err(|e| self.cannot("made", &e))?;
        for _ in 0..TRIES {
            let path = self.folder.join(format!(".part-{:032x}", unique_wide()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(|e| self.cannot("written to", &e))?;
            let _ = file.lock();
            // Before it was locked, it looked like one that was left behind.
            if is_at(&file, &path) {
                return Ok(Incoming { file, path, bytes: 0, hash: Sha256::new() });
            }
        }
        Err(self.removed())
    }

    /// A folder to unpack in, with its lock.
    fn new_folder(&self) -> Result<(PathBuf, File), NotFetched> {
        for _ in 0..TRIES {
            let new = self.folder.join(format!(".new-{:032x}", unique_wide()));
            fs::create_dir(&new).map_err(|e| self.cannot("written to", &e))?;
            let path = new.join(LOCK);
            let Ok(lock) = File::create_new(&path) else { continue };
            let _ = lock.lock();
            if is_at(&lock, &path) {
                return Ok((new, lock));
            }
        }
        Err(self.removed())
    }

    fn removed(&self) -> NotFetched {
        let folder = self.folder.display();
        let full = format!("what is written to {folder} is removed at once by somebody else");
        NotFetched::passing(FOLDER, full)
    }

    fn cannot(&self, what: &str, error: &io::Error) -> NotFetched {
        NotFetched::of_folder(format!("{} cannot be {what}", self.folder.display()), error)
    }

    /// Unpacks what came, which has this digest, and puts it in its place, where another server may have put it
    /// already.
    ///
    /// # Errors
    /// It cannot be unpacked.
    pub(super) fn put(&self, mut came: Incoming, sha256: &str) -> Result<Kept, NotFetched> {
        for _ in 0..TRIES {
            if let Some(kept) = self.put_once(&mut came, sha256)? {
                return Ok(kept);
            }
        }
        Err(self.removed())
    }

    /// What was just put in its place, its lock no longer ours alone. flock(2) may give the lock to a sweep between
    /// the two, which then removes the archive: `None`.
    fn share(&self, lock: File, sha256: &str) -> Option<Kept> {
        let folder = self.place(sha256);
        let _ = lock.lock_shared();
        let _ = lock.set_modified(self.clock.wall());
        is_at(&lock, &folder.join(LOCK)).then_some(Kept { folder, _lock: Some(lock) })
    }

    /// `None` where another server removed it before it was locked: to its sweep it was one that nobody uses.
    fn put_once(&self, came: &mut Incoming, sha256: &str) -> Result<Option<Kept>, NotFetched> {
        let (new, lock) = self.new_folder()?;
        let put = self.put_in(&new, came, sha256);
        if new.exists() {
            let _ = fs::remove_dir_all(&new);
        }
        if put? {
            return Ok(self.share(lock, sha256));
        }
        drop(lock);
        match self.find(sha256) {
            Found::Here(kept) => Ok(Some(kept)),
            Found::Absent => Ok(None),
            Found::Changed(why) | Found::Unreadable(why) => Err(NotFetched::passing(UNREADABLE, why)),
        }
    }

    /// Unpacks into `new` and renames it; false where the archive's place was taken.
    fn put_in(&self, new: &Path, came: &mut Incoming, sha256: &str) -> Result<bool, NotFetched> {
        came.file.rewind().map_err(|e| self.cannot("read", &e))?;
        archive::unpack(&came.file, new, &self.limits).map_err(|e| NotFetched::of_archive(&e))?;
        sync_folders(new).map_err(|e| self.cannot("written to", &e))?;
        let placed = match fs::rename(new, self.place(sha256)) {
            Ok(()) => true,
            // Another server was faster.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                false
            }
            Err(e) => return Err(self.cannot("written to", &e)),
        };
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| self.cannot("written to", &e))?;
        Ok(placed)
    }

    fn entries(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let entries = self.folder.read_dir().into_iter().flatten().take(MAX_ENTRIES).flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
    }

    /// Removes what killed servers left behind of archives that were coming.
    pub(super) fn sweep_leftovers(&self) {
        for (name, path) in self.entries() {
            if name.starts_with(".part-") {
                if let Some(_lock) = free(&path) {
                    let _ = fs::remove_file(&path);
                }
            } else if name.starts_with(".new-") {
                let lock = path.join(LOCK);
                if let Some(_lock) = free(&lock) {
                    let _ = fs::remove_dir_all(&path);
                } else if !lock.exists() && self.is_old(&path) {
                    // Killed before it made the lock, or after it removed it.
                    let _ = fs::remove_dir_all(&path);
                }
            }
        }
    }

    fn is_old(&self, path: &Path) -> bool {
        let changed = path.metadata().and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|changed| self.clock.wall().duration_since(changed).ok());
        age.is_some_and(|age| age > LEFT_BEHIND)
    }

    /// Removes what killed servers left behind, and of the archives that no server uses those beyond `keep`,
    /// the longest unused first.
    pub(super) fn sweep(&self) {
        self.sweep_leftovers();
        let mut unused = Vec::new();
        for (name, path) in self.entries() {
            if name.starts_with(PREFIX)
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
        let gone = self.folder.join(format!(".new-{:032x}", unique_wide()));
        if fs::rename(path, &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
        }
    }
}

/// The file, locked for us alone, if nobody else has it.
fn free(path: &Path) -> Option<File> {
    alone(File::open(path).ok()?, path)
}

/// `file`, locked for us alone, if nobody else has it and it still is the one at `path`.
fn alone(file: File, path: &Path) -> Option<File> {
    // A file system without locks says nothing of who uses what.
    file.try_lock().ok()?;
    is_at(&file, path).then_some(file)
}

/// Whether `file` is the one that lies at `path`, and no other that had its name before.
fn is_at(file: &File, path: &Path) -> bool {
    let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(of).is_ok_and(|own| path.metadata().map(of).is_ok_and(|there| own == there))
}

/// Whether the contents are others than were unpacked, and not merely out of reach.
fn differs(problem: &ArchiveError) -> bool {
    match problem {
        ArchiveError::Refused(_) => true,
        ArchiveError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
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

/// An archive that comes. Gone when it is dropped.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    bytes: u64,
    hash: Sha256,
}

impl Incoming {
    /// SHA-256 of what came so far, in hex.
    pub(super) fn sha256(&self) -> String {
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

#[cfg(test)]
mod tests;
