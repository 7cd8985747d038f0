//! Models and routes: they are loaded as `serve` does it, and what that takes is measured.

use std::{path::Path, process};

use weir_artifact::Kind;
use weir_serving::{Archives, Failure, ServedVersion};

use super::{finding::Finding, host::Facts, memory, report::Report};
use crate::{
    commands::start::{Prepared, Started},
    host::{Resident, free_memory},
    output::size,
    settings::failure_lines,
};

/// Loads every model, runs its golden rows and compiles the routes, unless memory does not suffice beside what
/// runs: a load that comes too near to it ends the doctor. Nothing is fetched.
pub(super) fn look(mut prepared: Prepared, facts: &Facts, report: &Report<'_>) -> anyhow::Result<()> {
    // They are told by now.
    prepared.problems.clear();
    let settings = prepared.settings.clone();
    if settings.server.models.is_empty() && settings.archive.is_empty() {
        return Ok(());
    }
    let free = || free_memory(Path::new("/"));
    let least = least(&prepared);
    if let Some(left) = free().filter(|left| !memory::fits(least, Some(*left))) {
        report.add([memory::short(facts, least, left)]);
        return Ok(());
    }
    let before = Resident::of_this_process().map_or(0, |resident| resident.now);
    let give_up = |left| {
        let grown = Resident::of_this_process().map_or(0, |resident| resident.now.saturating_sub(before));
        report.add([memory::short(facts, grown.max(least), left)]);
        process::exit(i32::from(!report.end()));
    };
    let (routes, quiet) = (settings.route.len(), report.output());
    let started = memory::watched(&free, &give_up, || prepared.load(quiet))?;
    let most = Resident::of_this_process().map_or(0, |resident| resident.most.saturating_sub(before));
    report.add(check(&started, routes));
    report.add([memory::check(facts, &settings, most)]);
    Ok(())
}

/// Bytes that the models take at least: what their artefacts have, or the largest one where the others may sleep.
fn least(prepared: &Prepared) -> u64 {
    let fetched = prepared.archives.iter().flat_map(Archives::folders);
    let paths = prepared.settings.server.models.iter().cloned().chain(fetched);
    let found = paths.flat_map(|path| weir_artifact::discover(&path).found);
    let here = found.filter(|candidate| !matches!(candidate.kind, Kind::Remote | Kind::Graph));
    let bytes = here.filter_map(|candidate| Some(candidate.artifact.metadata().ok()?.len()));
    match prepared.settings.server.memory_budget {
        Some(_) => bytes.max().unwrap_or(0),
        None => bytes.fold(0, u64::saturating_add),
    }
}

fn check(started: &Started, routes: usize) -> Vec<Finding> {
    let mut findings: Vec<_> = started.loaded.iter().map(|version| loaded(version)).collect();
    findings.extend(started.failures.iter().map(failed));
    if findings.is_empty() && started.awaited == 0 {
        let fix = "name the folders of models in server.models, and let this user read them";
        findings.push(Finding::fail("models", "there is none where models are looked for", fix));
    }
    findings.push(match &started.problems[..] {
        [] => Finding::ok("routes", format!("{routes} declared, all of them right")),
        problems => {
            Finding::fail("routes", problems.join("\n"), "correct what is named: the server would not start")
        }
    });
    findings
}

fn loaded(version: &ServedVersion) -> Finding {
    let (spec, engine) = (&version.spec, &version.engine);
    let bytes = match spec.artifact_bytes {
        0 => String::new(),
        bytes => format!(", {}", size(bytes)),
    };
    let found = format!("{}/{}{bytes} on {} {}", spec.name, spec.version, engine.name, engine.version);
    Finding::ok("models", found.trim_end())
}

fn failed(failure: &Failure) -> Finding {
    let found = failure_lines(std::slice::from_ref(failure));
    if failure.transient {
        let fix = "bring its server back; Weir starts without it and asks again";
        return Finding::warn("models", found, fix);
    }
    let fix = "correct the path or the model, and let this user read it; `weir inspect` explains one. For ONNX \
               Runtime, install onnxruntime 1.24 or later with pip, or name its library in server.onnxruntime";
    Finding::fail("models", found, fix)
}
