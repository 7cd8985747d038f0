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
#[derive(Debug, Clone)]
pub struct Watch {
    paths: Vec<PathBuf>,
    reach: Reach,
    known: Fingerprint,
    last: Fingerprint,
}

/// How far a [`Watch`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Folders, and what lies beside a file.
    Around,
    /// The files alone: others in their folder may change all the time.
    Alone,
}

impl Watch {
    /// Watches `paths`; what is there now counts as seen. Made before the first load, it
    /// notices what changes during it.
    pub fn new(paths: &[PathBuf]) -> Self {
        Self::reaching(paths, Reach::Around)
    }

    /// Watches these files and nothing beside them. Where one is a link (each file of a Kubernetes
    /// volume is, through `..data`), what it leads to counts.
    pub fn of_files(files: &[PathBuf]) -> Self {
        Self::reaching(files, Reach::Alone)
    }

    fn reaching(paths: &[PathBuf], reach: Reach) -> Self {
        let now = fingerprint(paths, reach);
        Self { paths: paths.to_vec(), reach, known: now.clone(), last: now }
    }

    /// Watches other paths from now on. What is there counts as unseen: it may have changed since whoever
    /// named them read it.
    pub(crate) fn turn_to(&mut self, paths: &[PathBuf]) {
        if self.paths != paths {
            self.paths = paths.to_vec();
            self.known = Fingerprint::new();
        }
    }

    /// What is there now is being read by somebody else.
    pub(crate) fn seen(&mut self) {
        self.known = fingerprint(&self.paths, self.reach);
        self.last.clone_from(&self.known);
    }

    /// Whether files changed since they were seen and kept still since the last look: one
    /// that is being copied is not read half.
    pub(crate) fn settled(&mut self) -> bool {
        let now = fingerprint(&self.paths, self.reach);
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
fn fingerprint(paths: &[PathBuf], reach: Reach) -> Fingerprint {
    let mut seen = Vec::new();
    for path in paths {
        if reach == Reach::Alone {
            look(path, MAX_DEPTH, &mut seen);
            continue;
        }
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
        let before = fingerprint(std::slice::from_ref(&model), Reach::Around);
        fs::write(folder.path().join("model.toml"), "").unwrap();
        assert_ne!(before, fingerprint(&[model], Reach::Around));
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
            fingerprint(&paths, Reach::Around)
        };
        assert_ne!(put("a"), put("b"));
    }

    #[test]
    fn a_volume_of_kubernetes_changes_by_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("weir.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/weir.toml", at("weir.toml")).unwrap();
        let mut watch = Watch::of_files(&[at("weir.toml")]);
        fs::write(at("weir-state.redb"), "x").unwrap();
        assert!(!watch.settled() && !watch.settled(), "what lies beside it is none of ours");
        std::os::unix::fs::symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(!watch.settled(), "it may still change");
        assert!(watch.settled());
    }

    #[test]
    fn other_paths_are_unseen_and_the_same_ones_are_not() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [old, new] = [&old, &new].map(|folder| vec![folder.path().to_owned()]);
        fs::write(new[0].join("model.onnx"), "a").unwrap();
        let mut watch = Watch::new(&old);
        watch.turn_to(&old);
        assert!(!watch.settled() && !watch.settled());
        watch.turn_to(&new);
        assert!(!watch.settled());
        assert!(watch.settled(), "read once more, in case it changed meanwhile");
        assert!(!watch.settled());
    }
}
