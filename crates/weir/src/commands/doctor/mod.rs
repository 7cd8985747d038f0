//! `weir doctor`: whether this host or pod has what the configuration needs.
//!
//! Each module looks (`look`, which touches the system) and judges (`check`, which is a function of what
//! was seen).

mod files;
mod finding;
mod host;
mod models;
mod ports;
mod redis;

use std::{iter, process::ExitCode};

use serde_json::{Value, json};
use weir_config::Loaded;
use weir_types::{Clock, SystemClock};

use self::finding::{Finding, Level};
use crate::{
    args::Doctor,
    host::Limits,
    output::Output,
    settings::{self, Settings},
};

/// Checks of what the configuration says: without one that is right there is nothing to compare with.
const OF_CONFIGURATION: [&str; 7] = ["descriptors", "cores", "memory", "ports", "models", "files", "redis"];

pub(crate) fn run(options: &Doctor, output: &Output) -> anyhow::Result<ExitCode> {
    let limits = Limits::of_this_process();
    let loaded = settings::load_within(&options.sources, options.addresses.flags(), &limits);
    let facts = host::Facts::gather(limits, SystemClock.wall());
    let findings = match loaded {
        Ok(loaded) => {
            let right = Finding::ok("configuration", "is right by itself");
            let host = iter::once(right).chain(host::check(&facts));
            host.chain(examine(&loaded, &facts)?).collect()
        }
        Err(error) => without_configuration(&error, &facts),
    };
    report(&findings, output);
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Each error of the configuration, and what there is to say without it. Nothing is compared with defaults: they
/// are what nobody wrote, so a port of theirs that is taken would be a problem of nobody's.
fn without_configuration(error: &anyhow::Error, facts: &host::Facts) -> Vec<Finding> {
    let fix = "correct what is named; `weir config default` explains every key";
    let text = format!("{error:#}");
    let problems = text.lines().map(|problem| Finding::fail("configuration", problem, fix));
    problems.chain(host::check(facts)).chain(OF_CONFIGURATION.map(Finding::skip)).collect()
}

fn examine(loaded: &Loaded<Settings>, facts: &host::Facts) -> anyhow::Result<Vec<Finding>> {
    let settings = &loaded.value;
    let models = models::look(settings, &loaded.places);
    let mut findings = host::suffices(facts, settings, models.bytes);
    findings.extend(ports::look(&settings.server));
    findings.extend(models.findings);
    findings.extend(files::look(settings, models.awaits));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    findings.extend(runtime.block_on(redis::look(settings, &|| SystemClock.wall())));
    Ok(findings)
}

fn report(findings: &[Finding], output: &Output) {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, failures, skipped) = (count(Level::Warn), count(Level::Fail), count(Level::Skip));
    if output.is_json() {
        let all: Vec<Value> = findings.iter().map(Finding::document).collect();
        output.json(&json!({
            "ok": failures == 0, "warnings": warnings, "failures": failures, "skipped": skipped, "findings": all
        }));
        return;
    }
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let level = output.paint(colour(finding.level), &format!("{:4}", finding.level.name()));
        let mut lines = finding.found.lines();
        output.line(&format!("{level}  {:width$}  {}", finding.check, lines.next().unwrap_or_default()));
        lines.for_each(|line| output.line(&format!("      {:width$}  {line}", "")));
        if !finding.fix.is_empty() {
            output.line(&format!("      {:width$}  → {}", "", finding.fix));
        }
    }
    let checks = findings.len() - skipped;
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    output.line(&format!("{checks} checks, {warnings} warnings, {failures} failures{skipped}"));
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
