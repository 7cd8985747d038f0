//! Weir: a trained model becomes a production real-time API.

mod archives;
mod args;
mod commands;
mod environment;
mod exposition;
mod host;
mod output;
mod settings;
mod state;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match run(arguments.command, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(options) => commands::serve::run(options, output),
        Command::Init(options) => commands::init::run(&options, output),
        Command::Inspect(options) => commands::inspect::run(&options, output),
        Command::Predict(options) => commands::predict::run(&options, output),
        Command::Package(options) => commands::package::run(&options, output),
        Command::Load(options) => commands::load::run(&options, output),
        Command::Tune(options) => commands::tune::run(&options, output),
        Command::Top(options) => commands::top::run(&options, output),
        Command::Cache(command) => commands::cache::run(*command, output),
        Command::Config(options) => commands::config::run(options, output),
        Command::Doctor(options) => commands::doctor::run(&options, output),
        Command::Health(options) => commands::health::run(&options, output),
        Command::Man { folder } => commands::man::run(&folder, output),
        Command::Completions { shell } => commands::completions::run(shell, output),
    }
}
