//! Reloading models while the server serves.

use std::{
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
type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Reloads on each message of `requests` and, with `watch`, when a file changed and then
/// kept still for one look: a file that is being copied is not read half. Ends when the
/// sender is gone. Runs on a thread of its own, because loading blocks.
pub(crate) fn run(server: &Server, loader: &Loader, watch: bool, requests: &Receiver<()>) {
    let mut loaded = fingerprint(loader.paths());
    let mut previous = loaded.clone();
    loop {
        match requests.recv_timeout(POLL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if !watch => continue,
            Err(RecvTimeoutError::Timeout) => {
                let now = fingerprint(loader.paths());
                let (changed, still) = (now != loaded, now == previous);
                previous = now;
                if !(changed && still) {
                    continue;
                }
            }
        }
        loaded = fingerprint(loader.paths());
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
}
