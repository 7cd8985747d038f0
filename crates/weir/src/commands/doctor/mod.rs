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

use std::{fs, process::ExitCode};

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

pub(crate) fn run(options: &Doctor, output: &Output) -> anyhow::Result<ExitCode> {
    // Where memory runs out all the same, the system ends this process and not the server beside it. It may
    // be forbidden (a read-only /proc); the watch over memory does without.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let limits = Limits::of_this_process();
    let (facts, report) = (Facts::gather(limits, SystemClock.wall()), Report::new(output));
    match settings::read_within(&options.sources, options.addresses.flags(), &limits) {
        Ok(read) => examine(prepare(read, Opening::Check), &facts, &report)?,
        // The host is looked at all the same, as far as it does not matter what is to be served.
        Err(error) => {
            report.add([configuration(&[format!("{error:#}")])]);
            report.add(host::check(&facts));
        }
    }
    Ok(if report.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configuration(problems: &[String]) -> Finding {
    match problems {
        [] => Finding::ok("configuration", "is right by itself"),
        problems => {
            let fix = "correct what is named; `weir config keys` explains every key";
            Finding::fail("configuration", problems.join("\n"), fix)
        }
    }
}

fn misspelt(found: String) -> Finding {
    Finding::warn("environment", found, "give it that name, or remove it")
}

fn examine(prepared: Prepared, facts: &Facts, report: &Report<'_>) -> anyhow::Result<()> {
    let settings = &prepared.settings;
    report.add([configuration(&prepared.problems)]);
    report.add(environment::misspelt(&settings::keys()).into_iter().map(misspelt));
    report.add(host::check(facts));
    report.add(host::check_for(facts, settings));
    report.add(ports::look(&settings.server));
    let missing = prepared.missing();
    report.add(files::look(settings, !missing.is_empty()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    report.add(runtime.block_on(redis::look(settings, &|| SystemClock.wall())));
    report.add(runtime.block_on(stores::look(settings, missing)));
    report.add(runtime.block_on(telemetry::look(&settings.telemetry)));
    models::look(prepared, facts, report)
}
