//! Reloading models while the server serves.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, SystemTime},
};

use weir_api::Server;
use weir_serving::Loader;

use crate::settings::lines;

/// How often the files are looked at. Polling, not inotify: it sees a Kubernetes volume
/// swap its symlink and a network file system alike, and needs no library.
const POLL: Duration = Duration::from_secs(1);
/// Deepest folder that is looked into below a model path.
const MAX_DEPTH: usize = 4;
/// Most files that are looked at.
const MAX_FILES: usize = 20_000;

/// What is seen of a file from outside: enough to notice a change.
pub(crate) type Fingerprint = Vec<(PathBuf, Seen)>;

/// Length, time of the content, inode and its time. The last two tell apart what a
/// reproducible build or `cp -p` gave the same time and the same length.
type Seen = (u64, Option<SystemTime>, u64, i64, i64);

/// Reloads on each message of `requests` and, where `watched` says what was seen before the
/// first load, when a file changed and then kept still for one look: a file that is being
/// copied is not read half. Ends when the sender is gone. Runs on a thread of its own,
/// because loading blocks.
pub(crate) fn run(server: &Server, loader: &Loader, watched: Option<Fingerprint>, requests: &Receiver<()>) {
    let mut loaded = watched;
    let mut previous = loaded.clone();
    loop {
        match requests.recv_timeout(POLL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if loaded.is_none() => continue,
            Err(RecvTimeoutError::Timeout) => {
                let now = Some(fingerprint(loader.paths()));
                let (changed, still) = (now != loaded, now == previous);
                previous = now;
                if !(changed && still) {
                    continue;
                }
            }
        }
        loaded = loaded.map(|_| fingerprint(loader.paths()));
        reload(server, loader);
    }
}

fn reload(server: &Server, loader: &Loader) {
    let snapshot = match loader.load(&server.snapshot(), |_, _, _| {}) {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            let text = lines(&problems);
            tracing::error!("reload failed, what served before serves on: {text}");
            return server.note_reload_problem(text);
        }
    };
    let (models, failures) = (snapshot.models().count(), snapshot.failures().len());
    match server.swap(snapshot) {
        Ok(()) => tracing::info!(models, failures, "reloaded"),
        Err(problems) => {
            for problem in problems {
                tracing::error!("reload failed, what served before serves on: {problem}");
            }
        }
    }
}

/// What is seen below `paths` now. A model that is named by its file has its `model.toml`
/// and samples beside it, so its folder is looked at, but no folder below that.
pub(crate) fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
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
    fn a_change_anywhere_below_changes_the_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("housing/2");
        fs::create_dir_all(&version).unwrap();
        let paths = [folder.path().to_owned()];
        let empty = fingerprint(&paths);
        fs::write(version.join("model.onnx"), "a").unwrap();
        let one = fingerprint(&paths);
        assert_ne!(empty, one);
        assert_eq!(one, fingerprint(&paths));
        fs::write(version.join("model.onnx"), "ab").unwrap();
        assert_ne!(one, fingerprint(&paths));
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
