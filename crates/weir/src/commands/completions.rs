//! `weir completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{args::Arguments, output::Output};

pub(crate) fn run(shell: Shell, output: &Output) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "weir", &mut script);
    output.raw(&script);
    Ok(ExitCode::SUCCESS)
}
