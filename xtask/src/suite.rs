//! All tests of the workspace in one run, with one line of totals at its end.

use std::{
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};

use crate::{repo, say};

/// What a run of tests came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of failed tests, as libtest printed them.
    failures: Vec<String>,
}

impl Totals {
    /// The closing line: it stands alone on its line.
    pub(crate) fn line(&self) -> String {
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }

    /// Adds what one line of libtest's output says.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let Some((count, word)) = part.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// `cargo xtask test`: the tests, then the totals.
///
/// # Errors
/// Cargo cannot be started.
pub(crate) fn command() -> Result<ExitCode> {
    let (totals, code) = run()?;
    say::result(totals.line());
    Ok(code)
}

/// Runs them all, doc tests included, and goes on after a failure. No test at all is a
/// failure too: it means that the build broke, or that nothing was found to run.
///
/// # Errors
/// Cargo cannot be started.
pub(crate) fn run() -> Result<(Totals, ExitCode)> {
    let mut child = Command::new("cargo")
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(repo::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let mut totals = Totals::default();
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.context("the output of cargo test")?;
        totals.add(&line);
        say::result(line);
    }
    let ended_well = child.wait().context("cargo test")?.success();
    totals.failures.iter().for_each(|name| say::note(format!("failed: {name}")));
    let good = ended_well && totals.failed == 0 && totals.passed > 0;
    Ok((totals, if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(output: &str) -> Totals {
        let mut totals = Totals::default();
        output.lines().for_each(|line| totals.add(line));
        totals
    }

    #[test]
    fn totals_are_summed_over_binaries() {
        let output = "running 2 tests\n\
            test a::b ... ok\n\
            test a::c ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 7 filtered out; finished in 1.25s\n";
        let totals = totals(output);
        assert_eq!(totals.line(), "41 passed, 1 failed, 2 skipped");
        assert_eq!(totals.failures, ["a::c"]);
    }

    #[test]
    fn nothing_skipped_is_not_mentioned() {
        let totals = totals("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
        assert_eq!(totals.line(), "3 passed, 0 failed");
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(totals("5 passed; 5 failed\nthe test result: ok. 5 passed\n"), Totals::default());
    }
}
