//! What is in the repository.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;

/// The folder that holds the workspace.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The folder that cargo builds into, wherever the user's configuration puts it.
///
/// # Errors
/// Cargo cannot be asked.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec().context("cargo metadata")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// One file that git tracks or would track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Its text; `None` where it is not UTF-8.
    pub(crate) text: Option<String>,
}

/// Every file that git tracks, and those it would track at the next `git add`: what is
/// wrong with a new file should be said before it is committed.
///
/// # Errors
/// Git is missing or this is not a checkout.
pub(crate) fn files() -> Result<Vec<File>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("git is not installed; tidy asks it for the list of files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<File> = names.split_terminator('\0').filter_map(read).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

/// Reads one; `None` for what git still lists but is deleted, and for links.
fn read(path: &str) -> Option<File> {
    let full: PathBuf = root().join(path);
    if !full.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let text = String::from_utf8(std::fs::read(full).ok()?).ok();
    Some(File { path: path.to_owned(), text })
}
