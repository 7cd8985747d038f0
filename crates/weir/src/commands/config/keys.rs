//! `weir config keys`: what may be written, and what a reload changes.

use std::{fmt::Write, process::ExitCode};

use serde_json::{Value, json};
use weir_config::Key;

use crate::{output::Output, settings};

pub(super) fn run(markdown: bool, output: &Output) -> ExitCode {
    let keys = settings::keys();
    if output.is_json() {
        output.json(&Value::Array(keys.iter().map(document).collect()));
    } else if markdown {
        output.raw(table(&keys).as_bytes());
    } else {
        let row = |key: &Key| {
            vec![key.path.clone(), changes(key).into(), default(key), key.takes.clone(), key.about.clone()]
        };
        let rows: Vec<_> = keys.iter().map(row).collect();
        output.table(&["key", "changes", "default", "takes", "meaning"], &rows);
    }
    ExitCode::SUCCESS
}

fn document(key: &Key) -> Value {
    let Key { path, takes, default, about } = key;
    json!({"key": path, "reload": settings::is_live(path), "default": default, "takes": takes, "meaning": about})
}

/// When a new value counts.
fn changes(key: &Key) -> &'static str {
    if settings::is_live(&key.path) { "at a reload" } else { "at a restart" }
}

fn default(key: &Key) -> String {
    key.default.clone().unwrap_or_else(|| "–".into())
}

/// The keys as a Markdown table.
fn table(keys: &[Key]) -> String {
    let mut out = String::from("| key | changes | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let default = key.default.as_ref().map_or("–".into(), |default| format!("`{default}`"));
        let about = key.about.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {} | {default} | {about} |", key.path, changes(key));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_reference_has_the_table_that_the_command_prints() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
        let page = fs::read_to_string(file).unwrap();
        let (start, end) = ("<!-- keys -->\n", "<!-- /keys -->");
        let written = page.split_once(start).and_then(|(_, rest)| rest.split_once(end)).unwrap().0;
        assert!(
            written.trim() == table(&settings::keys()).trim(),
            "put the output of `cargo run -p weir -- config keys --markdown` between {start} and {end}"
        );
    }
}
