//! What the compiler and clippy do not check, checked from `cargo metadata` and the files.

mod commands;
mod graph;
mod homes;
mod layers;
mod lengths;
mod lints;
mod texts;

use std::process::ExitCode;

use anyhow::Result;

use crate::{repo, say};

/// Runs every check and prints all that is wrong, not only the first.
///
/// # Errors
/// Cargo or git cannot be asked, or `deny.toml` cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    let crates = graph::workspace()?;
    let files = repo::files()?;
    let homes = homes::table(&files)?;
    let mut problems = layers::check(&crates);
    problems.extend(homes::check(&crates, &homes));
    problems.extend(lengths::check(&files));
    problems.extend(lints::check(&crates, &files));
    problems.extend(texts::check(&files));
    problems.extend(commands::check(&files));
    report(&problems, crates.len(), files.len())
}

fn report(problems: &[String], crates: usize, files: usize) -> Result<ExitCode> {
    problems.iter().for_each(say::note);
    if problems.is_empty() {
        say::note(format!("tidy: {crates} crates and {files} files are in order"));
        return Ok(ExitCode::SUCCESS);
    }
    say::note(format!("tidy: {} to put right", problems.len()));
    Ok(ExitCode::FAILURE)
}
