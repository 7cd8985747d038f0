//! `weir cache explain`.

use std::{fs, process::ExitCode};

use anyhow::Context;
use serde_json::{Value, json, value::RawValue};

use super::{Admin, count};
use crate::{args::Explain, output::Output};

/// Longest value that a table shows, characters.
const LONGEST_VALUE: usize = 40;

pub(super) fn run(options: &Explain, output: &Output) -> anyhow::Result<ExitCode> {
    let first = body(&options.body)?;
    let second = options.other.as_deref().map(body).transpose()?;
    let second = second.as_deref().unwrap_or(&first);
    let explained = Admin::at(&options.place)?.post_raw(&asked(options, [&first, second])?)?;
    if output.is_json() {
        output.json(&explained);
        return Ok(ExitCode::SUCCESS);
    }
    print(&explained, options.other.is_some(), output);
    Ok(ExitCode::SUCCESS)
}

/// A body as it was written: reading and writing it again would lose what may make a difference.
fn body(argument: &str) -> anyhow::Result<Box<RawValue>> {
    let text = match argument.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?,
        None => argument.to_owned(),
    };
    RawValue::from_string(text.trim().to_owned())
        .with_context(|| format!("{argument:?} is no JSON; write @ before a file's name"))
}

fn asked(options: &Explain, bodies: [&RawValue; 2]) -> anyhow::Result<Vec<u8>> {
    let place = match &options.path {
        Some(path) => json!({ "path": path }),
        None => match &options.version {
            Some(version) => json!({"model": options.model, "version": version}),
            None => json!({"model": options.model}),
        },
    };
    #[derive(serde::Serialize)]
    struct Asked<'a> {
        #[serde(flatten)]
        place: Value,
        bodies: [&'a RawValue; 2],
    }
    Ok(serde_json::to_vec(&Asked { place, bodies })?)
}

fn print(explained: &Value, two: bool, output: &Output) {
    let text = |key: &str| explained[key].as_str().unwrap_or_default();
    let entries = [0, 1].map(|i| count(&explained["entries"][i]));
    let unit = if explained["by_row"].as_bool() == Some(true) { "a row" } else { "a request" };
    let mut pairs = vec![
        ("model", format!("{}/{}", text("model"), text("version"))),
        ("digest", text("digest").to_owned()),
        (
            "entries",
            if two {
                format!("{} and {}, one {unit}", entries[0], entries[1])
            } else {
                format!("{}, one {unit}", entries[0])
            },
        ),
    ];
    let shown = explained["pairs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if two {
        let shared = shown.iter().filter(|pair| pair["shared"] == true).count();
        pairs.push(("shared", format!("{shared} of {}", shown.len())));
    }
    output.pairs(&pairs);
    if two {
        let rows: Vec<_> = shown.iter().enumerate().flat_map(|(entry, pair)| compared(entry, pair)).collect();
        output.table(&["entry", "shared", "field", "first", "second"], &rows);
    } else {
        let identity = |pair: &Value| pair["identities"][0].as_str().unwrap_or_default().to_owned();
        let rows: Vec<_> =
            shown.iter().enumerate().map(|(i, pair)| vec![i.to_string(), identity(pair)]).collect();
        output.table(&["entry", "identity"], &rows);
    }
}

/// One line a difference, or one that says that there is none.
fn compared(entry: usize, pair: &Value) -> Vec<Vec<String>> {
    let differences = pair["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
    if differences.is_empty() {
        return vec![vec![entry.to_string(), "yes".into()]];
    }
    let line = |difference: &Value| {
        let value = |i: usize| cut(difference["values"][i].as_str().unwrap_or_default());
        let field = difference["field"].as_str().unwrap_or_default().to_owned();
        vec![entry.to_string(), "no".into(), field, value(0), value(1)]
    };
    differences.iter().map(line).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_passed_on_as_they_were_written() {
        let raw = body(" {\"a\": 1.0,  \"a\": 1e0} ").unwrap();
        assert_eq!(raw.get(), "{\"a\": 1.0,  \"a\": 1e0}");
        let error = body("good").unwrap_err().to_string();
        assert!(error.contains("@ before a file"), "{error}");
    }

    #[test]
    fn every_difference_has_a_line_and_none_has_one_too() {
        let pair = json!({"differences": [
            {"row": 0, "field": "a", "values": ["1", "2"]},
            {"row": 0, "field": "b", "values": ["\"x\"", "x".repeat(100)]},
        ]});
        let lines = compared(3, &pair);
        assert_eq!(lines[0], ["3", "no", "a", "1", "2"]);
        assert_eq!(lines[1][4].chars().count(), LONGEST_VALUE + 1);
        assert_eq!(compared(0, &json!({"differences": []})), [["0", "yes"]]);
    }
}
