//! Checks and helpers for developers: `cargo xtask <command>`.

mod ci;
mod codegen;
mod demo;
mod fetch;
mod release;
mod repo;
mod say;
mod suite;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "cargo xtask <command>
  tidy                  check what the compiler does not: layers, homes, lengths, texts
  codegen [--check]     make the Rust of the .proto files again, or say whether it is up to date
  fetch                 get the files of the sentiment model into .cache/sentiment
  demo [--port N]       build, fetch, serve both demo models and ask each a question
  release [--binary P]  the release archive, its bill of materials and their digests
  test                  cargo test --workspace, with one closing line of totals
  ci                    everything that CI checks, with timings (what `make test` runs)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            say::note(format!("{} {error:#}", say::Style::of_stderr().red("error:")));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["tidy"] => tidy::run(),
        ["codegen"] => codegen::command(false),
        ["codegen", "--check"] => codegen::command(true),
        ["fetch"] => Ok(fetch::command()),
        ["demo", rest @ ..] => demo::run(rest),
        ["release", rest @ ..] => release::run(rest),
        ["test"] => suite::command(),
        ["ci"] => ci::run(),
        _ => {
            say::note(USAGE);
            Ok(ExitCode::from(2))
        }
    }
}
