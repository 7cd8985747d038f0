//! Noticing that model files changed.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Deepest folder that is looked into below a model path.
const MAX_DEPTH: usize = 4;
/// Most files that are looked at.
const MAX_FILES: usize = 20_000;

/// What is seen of files from outside: enough to notice a change.
type Fingerprint = Vec<(PathBuf, Seen)>;

/// Length, time of the content, inode and its time. The last two tell apart what a
/// reproducible build or `cp -p` gave the same time and the same length.
type Seen = (u64, Option<SystemTime>, u64, i64, i64);

/// Looks at files from time to time. Polling, not inotify: it sees a Kubernetes volume swap
/// its symlink and a network file system alike, and needs no library.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    known: Fingerprint,
    last: Fingerprint,
}

impl Watch {
    /// Watches `paths`; what is there now counts as seen. Made before the first load, it
    /// notices what changes during it.
    pub fn new(paths: &[PathBuf]) -> Self {
        let now = fingerprint(paths);
        Self { paths: paths.to_vec(), known: now.clone(), last: now }
    }

    /// What is there now is being read by somebody else.
    pub(crate) fn seen(&mut self) {
        self.known = fingerprint(&self.paths);
        self.last.clone_from(&self.known);
    }

    /// Whether files changed since they were seen and kept still since the last look: one
    /// that is being copied is not read half.
    pub(crate) fn settled(&mut self) -> bool {
        let now = fingerprint(&self.paths);
        let settled = now != self.known && now == self.last;
        if settled {
            self.known.clone_from(&now);
        }
        self.last = now;
        settled
    }
}

/// What is seen below `paths` now. A model that is named by its file has its `model.toml`
/// and samples beside it, so its folder is looked at, but no folder below that.
fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut seen = Vec::new();
    for path in paths {
        match path.parent().filter(|_| path.is_file()) {
            Some(folder) if folder.as_os_str().is_empty() => look(Path::new("."), MAX_DEPTH - 1, &mut seen),
            Some(folder) => look(folder, MAX_DEPTH - 1, &mut seen),
            None => look(path, 0, &mut seen),
        }
    }
    seen
}

fn look(path: &Path, depth: usize, seen: &mut Fingerprint) {
    let Ok(meta) = path.metadata() else { return };
    if seen.len() >= MAX_FILES {
        return;
    }
    if !meta.is_dir() {
        let what = (meta.len(), meta.modified().ok(), meta.ino(), meta.ctime(), meta.ctime_nsec());
        return seen.push((path.to_owned(), what));
    }
    let Ok(entries) = path.read_dir() else { return };
    if depth < MAX_DEPTH {
        let mut children: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        children.sort_unstable();
        children.iter().for_each(|child| look(child, depth + 1, seen));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_counts_once_it_keeps_still() {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("housing/2");
        fs::create_dir_all(&version).unwrap();
        let mut watch = Watch::new(&[folder.path().to_owned()]);
        assert!(!watch.settled());
        fs::write(version.join("model.onnx"), "a").unwrap();
        assert!(!watch.settled(), "it may still be written");
        fs::write(version.join("model.onnx"), "ab").unwrap();
        assert!(!watch.settled(), "it was");
        assert!(watch.settled());
        assert!(!watch.settled(), "and it is known now");
        fs::remove_file(version.join("model.onnx")).unwrap();
        watch.seen();
        assert!(!watch.settled(), "somebody else reads it");
    }

    #[test]
    fn what_lies_beside_a_model_file_counts_too() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        fs::write(&model, "a").unwrap();
        let before = fingerprint(std::slice::from_ref(&model));
        fs::write(folder.path().join("model.toml"), "").unwrap();
        assert_ne!(before, fingerprint(&[model]));
    }

    #[test]
    fn another_file_of_the_same_length_and_time_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        let put = |text: &str| {
            let new = folder.path().join(".new");
            fs::write(&new, text).unwrap();
            fs::File::open(&new).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            fs::rename(new, folder.path().join("model.onnx")).unwrap();
            fingerprint(&paths)
        };
        assert_ne!(put("a"), put("b"));
    }
}
