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
mod telemetry;

use std::{process::ExitCode, sync::Arc};

use serde_json::{Value, json};
use weir_config::{Loaded, Places};
use weir_types::{Clock, SystemClock};

use self::finding::{Finding, Level};
use crate::{
    args::Doctor,
    host::Limits,
    output::Output,
    settings::{self, Settings},
};

pub(crate) fn run(options: &Doctor, output: &Output) -> anyhow::Result<ExitCode> {
    let limits = Limits::of_this_process();
    let (loaded, mut findings) =
        match settings::load_within(&options.sources, options.addresses.flags(), &limits) {
            Ok(loaded) => (loaded, vec![Finding::ok("configuration", "is right by itself")]),
            // The host is looked at all the same: all problems at once.
            Err(error) => {
                let fix = "correct what is named; `weir config default` explains every key";
                let nothing = Loaded { value: Settings::default(), places: Places::default() };
                (nothing, vec![Finding::fail("configuration", format!("{error:#}"), fix)])
            }
        };
    findings.extend(examine(&loaded, limits)?);
    report(&findings, output);
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn examine(loaded: &Loaded<Settings>, limits: Limits) -> anyhow::Result<Vec<Finding>> {
    let settings = &loaded.value;
    let models = models::look(settings, &loaded.places);
    let facts = host::Facts::gather(limits, SystemClock.wall());
    let mut findings = host::check(&facts, settings, models.bytes);
    findings.extend(ports::look(&settings.server));
    findings.extend(models.findings);
    findings.extend(files::look(settings, models.awaits));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    findings.extend(runtime.block_on(redis::look(settings, &|| SystemClock.wall())));
    findings.extend(runtime.block_on(telemetry::look(settings, &loaded.places, Arc::new(SystemClock))));
    Ok(findings)
}

fn report(findings: &[Finding], output: &Output) {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    if output.is_json() {
        let all: Vec<Value> = findings.iter().map(Finding::document).collect();
        output
            .json(&json!({"ok": failures == 0, "warnings": warnings, "failures": failures, "findings": all}));
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
    output.line(&format!("{} checks, {warnings} warnings, {failures} failures", findings.len()));
}

/// The ANSI colour of a level.
fn colour(level: Level) -> &'static str {
    match level {
        Level::Ok => "32",
        Level::Warn => "33",
        Level::Fail => "1;31",
    }
}
