//! Noticing that model files changed.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Deepest folder that is looked into below a model path.
const MAX_DEPTH: usize = 4;
/// Most files that are looked at.
const MAX_FILES: usize = 20_000;

/// What is seen of a file from outside: enough to notice a change.
type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Looks at files from time to time. Polling, not inotify: it sees a Kubernetes volume swap
/// its symlink and a network file system alike, and needs no library.
#[derive(Debug)]
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    known: Fingerprint,
    last: Fingerprint,
}

impl Watch {
    /// Watches `paths`; what is there now counts as seen.
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
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

fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut seen = Vec::new();
    paths.iter().for_each(|path| look(path, 0, &mut seen));
    seen
}

fn look(path: &Path, depth: usize, seen: &mut Fingerprint) {
    let Ok(meta) = path.metadata() else { return };
    if seen.len() >= MAX_FILES {
        return;
    }
    if !meta.is_dir() {
        return seen.push((path.to_owned(), meta.len(), meta.modified().ok()));
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
}
