//! `weir doctor`: whether this host or pod has what the configuration needs.
//!
//! Each module looks (`look`, which touches the system) and judges (`check`, which is a function of what
//! was seen). What costs nothing comes first; models, which cost memory, come last and under watch: the
//! doctor runs beside the server that it examines, and must not kill it.

mod files;
mod finding;
mod host;
mod memory;
mod models;
mod ports;
mod redis;
mod report;
mod stores;
mod telemetry;

use std::{fs, process::ExitCode, sync::Arc};

use weir_types::{Clock, SystemClock};

use self::{finding::Finding, host::Facts, report::Report};
use crate::{
    args::Doctor,
    commands::start::{Prepared, prepare},
    environment,
    host::Limits,
    output::Output,
    settings,
    state::Opening,
};

/// Checks of what the configuration says: without one that is right there is nothing to compare with.
const OF_CONFIGURATION: [&str; 9] =
    ["descriptors", "cores", "ports", "files", "redis", "telemetry", "models", "routes", "memory"];

pub(crate) fn run(options: &Doctor, output: &Output) -> anyhow::Result<ExitCode> {
    // Where memory runs out all the same, the system ends this process and not the server beside it. It may
    // be forbidden (a read-only /proc); the watch over memory does without.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let limits = Limits::of_this_process();
    let (facts, report) = (Facts::gather(limits, SystemClock.wall()), Report::new(output));
    match settings::read_within(&options.sources, options.addresses.flags(), &limits) {
        Ok(read) => examine(prepare(read, Opening::Check), &facts, &report)?,
        Err(error) => without_configuration(&error, &facts, &report),
    }
    Ok(if report.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each error of the configuration, and what there is to say without it. Nothing is compared with defaults: they
/// are what nobody wrote, so a port of theirs that is taken would be a problem of nobody's.
fn without_configuration(error: &anyhow::Error, facts: &Facts, report: &Report<'_>) {
    let problems: Vec<String> = format!("{error:#}").lines().map(str::to_owned).collect();
    report.add(configuration(&problems));
    report.add(host::check(facts));
    report.add(OF_CONFIGURATION.map(Finding::skip));
}

fn configuration(problems: &[String]) -> Vec<Finding> {
    let fix = "correct what is named; `weir config default` explains every key";
    match problems {
        [] => vec![Finding::ok("configuration", "is right by itself")],
        problems => problems.iter().map(|problem| Finding::fail("configuration", problem, fix)).collect(),
    }
}

fn misspelt(found: String) -> Finding {
    Finding::warn("environment", found, "give it that name, or remove it")
}

fn examine(prepared: Prepared, facts: &Facts, report: &Report<'_>) -> anyhow::Result<()> {
    let settings = &prepared.settings;
    report.add(configuration(&prepared.problems));
    report.add(environment::misspelt(&settings::keys()).into_iter().map(misspelt));
    report.add(host::check(facts));
    report.add(host::suffices(facts, settings));
    report.add(ports::look(&settings.server));
    let missing = prepared.missing();
    report.add(files::look(settings, !missing.is_empty()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    report.add(runtime.block_on(redis::look(settings, &|| SystemClock.wall())));
    report.add(runtime.block_on(stores::look(settings, missing)));
    report.add(runtime.block_on(telemetry::look(settings, &prepared.places, Arc::new(SystemClock))));
    models::look(prepared, facts, report)
}
