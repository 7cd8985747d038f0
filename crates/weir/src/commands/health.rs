//! `weir health`: for container health checks, where there is no curl.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use serde_json::{Value, json};
use weir_clients::Client;

use crate::{args::Health, output::Output};

pub(crate) fn run(options: &Health, output: &Output) -> anyhow::Result<ExitCode> {
    let asked = ask(options, output);
    if let Err(error) = &asked
        && output.is_json()
    {
        // Programs read standard output: what it says of a server that is there.
        output.json(&json!({"ready": false, "error": format!("{error:#}")}));
    }
    asked
}

fn ask(options: &Health, output: &Output) -> anyhow::Result<ExitCode> {
    let timeout =
        Duration::try_from_secs_f64(options.timeout).context("--timeout takes a number of seconds")?;
    let reply = Client::new(&options.url, timeout).get("/readyz")?;
    let body: Value = serde_json::from_slice(&reply.body)
        .with_context(|| format!("{} answers, but not as Weir does", options.url))?;
    let ready = reply.status == 200;
    if output.is_json() {
        output.json(&body);
    } else {
        output.line(if ready { "ready" } else { "not ready" });
        for failure in body["failures"].as_array().into_iter().flatten() {
            let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
            output.pairs(&[(&format!("{}/{}", text("model"), text("version")), text("reason"))]);
        }
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
