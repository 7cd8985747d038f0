//! `weir config`.

mod keys;
mod mask;
mod show;

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;

use crate::{
    args::{Config, Sources},
    commands::start::{Started, start},
    output::Output,
    settings::{self, Settings},
    state::Opening,
};

pub(crate) fn run(command: Config, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Config::Check(sources) => check(&sources, output),
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
fn check(sources: &Sources, output: &Output) -> anyhow::Result<ExitCode> {
    let loaded = settings::load(sources, Vec::new())?;
    let routes = loaded.value.route.len();
    let Started { server, models, failures, .. } =
        start(loaded.value, &loaded.places, Opening::Check, output)?;
    let awaited = server.as_ref().map_or(0, |server| server.snapshot().awaited().count());
    let models = models - awaited;
    let problems = [failures, server.err().unwrap_or_default()];
    let problems: Vec<_> = problems.into_iter().filter(|lines| !lines.is_empty()).collect();
    if !problems.is_empty() {
        return Err(anyhow!(problems.join("\n")));
    }
    if output.is_json() {
        output
            .json(&json!({"ok": true, "models": models, "archives_not_fetched": awaited, "routes": routes}));
    } else {
        let fetched = match awaited {
            0 => String::new(),
            _ => format!("{} not fetched, ", count(awaited, "archive")),
        };
        let (models, routes) = (count(models, "model"), count(routes, "declared route"));
        output.line(&format!("ok: {models}, {fetched}{routes}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
