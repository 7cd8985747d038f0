//! `weir cache purge`.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::{Admin, count};
use crate::{args::Purge, commands::load::print::grouped, output::Output};

pub(super) fn run(options: &Purge, output: &Output) -> anyhow::Result<ExitCode> {
    let words = [("model", &options.model), ("version", &options.version), ("tag", &options.tag)];
    let asked = words.into_iter().filter_map(|(key, word)| Some((key.to_owned(), word.clone()?.into())));
    let asked = Value::Object(asked.collect::<Map<_, _>>());
    // With 503, what this process had is gone and what Redis has is not.
    let done = Admin::at(&options.place)?.post("/admin/v1/cache:purge", &asked, &[200, 503])?;
    let problem = done["redis"]["error"].as_str();
    if output.is_json() {
        output.json(&done);
    } else {
        output.line(&told(&done));
    }
    if let Some(problem) = problem {
        output.error(&format!("Redis could not be told, purge again: {problem}"));
    }
    Ok(if problem.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(done: &Value) -> String {
    let memory = grouped(count(&done["memory"]["entries"]));
    match done["redis"]["entries"].as_u64() {
        Some(redis) => format!("forgot {memory} entries in memory and {} in Redis", grouped(redis)),
        None => format!("forgot {memory} entries in memory"),
    }
}
