//! Everything that CI checks, one stage after the other.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    fetch, repo,
    say::{self, Style},
    suite::{self, Totals},
    tidy,
};

/// The stages that are other programs. Order: what the later ones need, then the cheapest.
const COMMANDS: &[(&str, &[&str])] = &[
    ("environments", &["make", "--no-print-directory", "venvs"]),
    ("servers", &["make", "--no-print-directory", "servers"]),
    ("format", &["cargo", "fmt", "--all", "--check"]),
    ("codegen", &["cargo", "xtask", "codegen", "--check"]),
    ("deny", &["make", "--no-print-directory", "deny"]),
    ("files", &["make", "--no-print-directory", "lint-files"]),
    ("clippy", &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
];

/// How one stage went.
#[derive(Debug)]
struct Outcome {
    stage: &'static str,
    good: bool,
    took: Duration,
}

impl Outcome {
    fn row(&self, style: Style) -> String {
        let word = if self.good { style.green("ok") } else { style.red("FAILED") };
        format!("{:<14}{:>7.1} s  {word}", self.stage, self.took.as_secs_f64())
    }
}

/// Runs every stage, also after one has failed, so that one run tells all that is wrong.
///
/// # Errors
/// A program cannot be started.
pub(crate) fn run() -> Result<ExitCode> {
    let style = Style::of_stderr();
    let mut outcomes = Vec::new();
    for (stage, words) in COMMANDS {
        outcomes.push(timed(stage, style, || command(words))?);
    }
    outcomes.push(timed("tidy", style, || Ok(tidy::run()? == ExitCode::SUCCESS))?);
    outcomes.push(timed("fetch", style, || Ok(fetch::command() == ExitCode::SUCCESS))?);
    let mut totals = Totals::default();
    outcomes.push(timed("tests", style, || {
        let (found, code) = suite::run()?;
        totals = found;
        Ok(code == ExitCode::SUCCESS)
    })?);
    say::note(format!("\n{}", style.bold("== stages")));
    outcomes.iter().for_each(|outcome| say::note(outcome.row(style)));
    // The last line of all, alone on it.
    say::result(totals.line());
    Ok(verdict(&outcomes))
}

fn timed(stage: &'static str, style: Style, work: impl FnOnce() -> Result<bool>) -> Result<Outcome> {
    say::note(format!("\n{}", style.bold(format!("== {stage}"))));
    let begun = Instant::now();
    let good = work().with_context(|| format!("stage {stage}"))?;
    Ok(Outcome { stage, good, took: begun.elapsed() })
}

fn command(words: &[&str]) -> Result<bool> {
    let (program, arguments) = words.split_first().context("a stage without a command")?;
    let status = Command::new(program).args(arguments).current_dir(repo::root()).status();
    Ok(status.with_context(|| format!("{program} cannot be started"))?.success())
}

fn verdict(outcomes: &[Outcome]) -> ExitCode {
    let good = outcomes.iter().all(|outcome| outcome.good);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(good: bool) -> Outcome {
        Outcome { stage: "a", good, took: Duration::from_millis(1500) }
    }

    #[test]
    fn one_bad_stage_fails_the_run() {
        assert_eq!(verdict(&[outcome(true)]), ExitCode::SUCCESS);
        assert_eq!(verdict(&[outcome(false), outcome(true)]), ExitCode::FAILURE);
    }

    #[test]
    fn a_row_says_how_long_and_how_it_went() {
        assert_eq!(outcome(false).row(Style { fancy: false }), "a                 1.5 s  FAILED");
    }

    #[test]
    fn a_command_that_fails_is_seen_and_one_that_is_missing_is_named() {
        assert!(command(&["true"]).unwrap());
        assert!(!command(&["false"]).unwrap());
        assert!(command(&["no-such-program"]).unwrap_err().to_string().contains("no-such-program"));
    }
}
