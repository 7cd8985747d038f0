//! `weir man`.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;

use crate::{args::Arguments, output::Output};

pub(crate) fn run(folder: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let failed = || format!("{} cannot be written to", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    // The pages of `weir help` say what the others do.
    let command = Arguments::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(failed)?;
    let pages = folder.read_dir().with_context(failed)?.count();
    output.line(&format!("{pages} pages in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}
