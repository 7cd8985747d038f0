//! `weir config`.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::{Value, json};
use weir_config::Origin;

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
        Config::Show { sources, origin } => show(&sources, origin, output),
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
    let problems = [failures, server.err().unwrap_or_default()];
    let problems: Vec<_> = problems.into_iter().filter(|lines| !lines.is_empty()).collect();
    if !problems.is_empty() {
        return Err(anyhow!(problems.join("\n")));
    }
    if output.is_json() {
        output.json(&json!({"ok": true, "models": models, "routes": routes}));
    } else {
        output.line(&format!("ok: {models} models, {routes} declared routes"));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(sources: &Sources, origin: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let loaded = settings::load(sources, Vec::new())?;
    if output.is_json() {
        output.json(&serde_json::to_value(&loaded.value)?);
    } else if origin {
        let value = serde_json::to_value(&loaded.value)?;
        let mut rows = Vec::new();
        flatten("", &value, &mut rows);
        let place = |key: &str| match loaded.places.origin(key) {
            Origin::File { line, column } => format!("{line}:{column}"),
            Origin::Override(source) => source,
            Origin::Default => "default".into(),
        };
        let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![place(&key), key, value]).collect();
        output.table(&["origin", "key", "value"], &rows);
    } else {
        output.raw(toml::to_string(&loaded.value)?.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// Key paths and values, one a scalar or list.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let join = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&join(key), value, rows)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(i, item)| flatten(&format!("{prefix}[{i}]"), item, rows));
        }
        Value::Null => {}
        other => rows.push((prefix.to_owned(), other.to_string())),
    }
}
