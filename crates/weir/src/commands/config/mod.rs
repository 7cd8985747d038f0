//! `weir config`.

mod keys;
mod mask;
mod show;

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use crate::{
    args::{Config, Sources},
    commands::start::prepare,
    environment,
    host::Limits,
    output::Output,
    settings::{self, Settings},
    state::Opening,
};

pub(crate) fn run(command: Config, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Config::Check(sources) => {
            let warnings = environment::misspelt(&settings::keys());
            let checked = check(&sources, &warnings, output);
            if let Err(wrong) = &checked {
                refuse(wrong, &warnings, output);
            }
            checked
        }
        Config::Show { sources, origin } => show::run(&sources, origin, output),
        Config::Keys { markdown } => Ok(keys::run(markdown, output)),
        Config::Default => {
            output.raw(weir_config::default_toml::<Settings>().as_bytes());
            Ok(ExitCode::SUCCESS)
        }
        Config::Schema { model } => {
            let schema = match model {
                true => weir_config::json_schema::<weir_artifact::Manifest>(),
                false => weir_config::json_schema::<Settings>(),
            };
            output.json(&schema);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Does everything that `serve` does before it listens, and takes no failure for granted.
fn check(sources: &Sources, warnings: &[String], output: &Output) -> anyhow::Result<ExitCode> {
    let read = settings::read_within(sources, Vec::new(), &Limits::of_this_process())?;
    let routes = read.0.value.route.len();
    let started = prepare(read, Opening::Check).load(output);
    if let Some(wrong) = started.wrong() {
        return Err(anyhow!(wrong));
    }
    let (models, awaited) = (started.loaded.len(), started.awaited);
    if output.is_json() {
        output.json(&json!({
            "ok": true, "models": models, "archives_not_fetched": awaited, "routes": routes, "warnings": warnings,
        }));
    } else {
        warnings.iter().for_each(|warning| output.note(&format!("warning: {warning}")));
        let fetched = match awaited {
            0 => String::new(),
            _ => format!("{} not fetched, ", count(awaited, "archive")),
        };
        let (models, routes) = (count(models, "model"), count(routes, "declared route"));
        output.line(&format!("ok: {models}, {fetched}{routes}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells programs on standard output, too, what is wrong: a line each, as it is written for people.
fn refuse(wrong: &anyhow::Error, warnings: &[String], output: &Output) {
    if output.is_json() {
        let wrong = format!("{wrong:#}");
        let problems: Vec<&str> = wrong.lines().collect();
        return output.json(&json!({"ok": false, "problems": problems, "warnings": warnings}));
    }
    warnings.iter().for_each(|warning| output.note(&format!("warning: {warning}")));
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
