//! `weir cache purge`.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::{Admin, count};
use crate::{args::Purge, commands::load::print::grouped, output::Output};

pub(super) fn run(options: &Purge, output: &Output) -> anyhow::Result<ExitCode> {
    let words = [("model", &options.model), ("version", &options.version), ("tag", &options.tag)];
    let asked = words.into_iter().filter_map(|(key, word)| Some((key.to_owned(), word.clone()?.into())));
    let asked = Value::Object(asked.collect::<Map<_, _>>());
    // With 503, what this process had is gone and what Redis has is not; unless it is another 503, of a
    // server that did nothing.
    let done = Admin::at(&options.place)?.post("/admin/v1/cache:purge", &asked, is_told)?;
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

/// Whether an answer says what was done.
fn is_told(status: u16, body: &Value) -> bool {
    matches!(status, 200 | 503) && body["memory"].is_object()
}

fn told(done: &Value) -> String {
    let memory = grouped(count(&done["memory"]["entries"]));
    match done["redis"]["entries"].as_u64() {
        Some(redis) => format!("forgot {memory} entries in memory and {} in Redis", grouped(redis)),
        None => format!("forgot {memory} entries in memory"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_is_busy_purged_nothing() {
        let half = json!({"memory": {"entries": 3}, "redis": {"error": "away"}});
        assert!(is_told(503, &half) && is_told(200, &json!({"memory": {"entries": 3}, "redis": null})));
        let busy = json!({"title": "Service Unavailable", "status": 503, "detail": "too much", "code": "overloaded"});
        assert!(!is_told(503, &busy) && !is_told(404, &half));
    }
}
