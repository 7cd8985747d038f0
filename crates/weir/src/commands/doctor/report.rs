//! Findings, told as they are found: where the examination itself is cut short, what was found stays told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::finding::{Finding, Level};
use crate::output::Output;

/// Characters of the longest name of a check.
const WIDTH: usize = "root filesystem".len();

/// What was found so far.
pub(super) struct Report<'a> {
    output: &'a Output,
    findings: Mutex<Vec<Finding>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, findings: Mutex::default() }
    }

    /// Where it is told.
    pub(super) fn output(&self) -> &'a Output {
        self.output
    }

    /// Tells findings, at once where people read.
    pub(super) fn add(&self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if !self.output.is_json() {
                self.print(&finding);
            }
            self.findings().push(finding);
        }
    }

    /// Tells what comes of it all; whether nothing failed.
    pub(super) fn end(&self) -> bool {
        let findings = self.findings();
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (warnings, failures, skipped) = (count(Level::Warn), count(Level::Fail), count(Level::Skip));
        if self.output.is_json() {
            let all: Vec<Value> = findings.iter().map(Finding::document).collect();
            self.output.json(&json!({
                "ok": failures == 0, "warnings": warnings, "failures": failures, "skipped": skipped, "findings": all
            }));
        } else {
            let checks = findings.len() - skipped;
            let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
            self.output.line(&format!("{checks} checks, {warnings} warnings, {failures} failures{skipped}"));
        }
        failures == 0
    }

    fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, finding: &Finding) {
        let output = self.output;
        let level = output.paint(colour(finding.level), &format!("{:4}", finding.level.name()));
        let mut lines = finding.found.lines();
        output.line(&format!("{level}  {:WIDTH$}  {}", finding.check, lines.next().unwrap_or_default()));
        lines.for_each(|line| output.line(&format!("      {:WIDTH$}  {line}", "")));
        if !finding.fix.is_empty() {
            output.line(&format!("      {:WIDTH$}  → {}", "", finding.fix));
        }
    }
}

/// The ANSI colour of a level.
fn colour(level: Level) -> &'static str {
    match level {
        Level::Ok => "32",
        Level::Warn => "33",
        Level::Fail => "1;31",
        Level::Skip => "2",
    }
}
