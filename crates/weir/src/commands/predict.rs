//! `weir predict`: JSON rows in, JSON answers out, one a line.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use weir_api::config::ServerConfig;
use weir_artifact::{Candidate, Kind};
use weir_clients::Client;
use weir_codec::{BodyShape, DecodeLimits, RowDecoder, write_answer, write_string};
use weir_serving::{Job, Loader, ServedVersion, ServingSnapshot};
use weir_types::{Answer, Clock, Deadline, SequenceId, SequenceStep, SystemClock};

use crate::{
    args::Predict,
    output::Output,
    settings::{self, failure_lines},
};

/// Longest row, bytes.
const MAX_ROW_BYTES: u64 = 16 << 20;
/// A row that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Predict, output: &Output) -> anyhow::Result<ExitCode> {
    let mut predictor: Box<dyn Predictor> = match &options.url {
        Some(url) => Box::new(Remote::new(url, options)?),
        None => Box::new(Local::load(options)?),
    };
    let mut failures = 0usize;
    for (index, row) in rows(io::stdin().lock()).enumerate() {
        let row = row.with_context(|| format!("line {}", index + 1))?;
        match predictor.predict(&row) {
            Ok(answer) => output.raw(&answer),
            Err(problem) => {
                failures += 1;
                // A line for a line, so that answers can be pasted beside their rows.
                output.line(&error_line(&problem));
                output.error(&format!("line {}: {problem}", index + 1));
            }
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn error_line(problem: &str) -> String {
    let mut line = b"{\"error\":".to_vec();
    write_string(problem, &mut line);
    line.push(b'}');
    String::from_utf8_lossy(&line).into_owned()
}

/// The lines of `input` that hold anything, each of bounded length.
pub(super) fn rows(input: impl Read) -> impl Iterator<Item = anyhow::Result<Vec<u8>>> {
    let mut input = BufReader::new(input);
    let mut next = move || -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        input.by_ref().take(MAX_ROW_BYTES + 1).read_until(b'\n', &mut line)?;
        if line.len() as u64 > MAX_ROW_BYTES {
            bail!("a row is longer than {MAX_ROW_BYTES} bytes: put one JSON object a line");
        }
        Ok((!line.is_empty()).then_some(line))
    };
    std::iter::from_fn(move || next().transpose())
        .filter(|row| !matches!(row, Ok(r) if r.trim_ascii().is_empty()))
}

/// Answers one row with a line of JSON.
trait Predictor {
    fn predict(&mut self, row: &[u8]) -> Result<Vec<u8>, String>;
}

/// A model in this process.
struct Local {
    version: Arc<ServedVersion>,
    decoder: RowDecoder,
    answer: Answer,
    runtime: tokio::runtime::Runtime,
    /// Whether no row was answered yet.
    first: bool,
}

impl Local {
    fn load(options: &Predict) -> anyhow::Result<Self> {
        let path = Path::new(&options.model);
        if !path.exists() {
            bail!(
                "{} does not exist: name a model file or folder, or a served model with --url",
                path.display()
            );
        }
        let load = settings::load_options(&ServerConfig::default(), Arc::new(SystemClock));
        let version = match graph_at(path) {
            Some(candidate) => settings::graph(&candidate)?,
            None => {
                let loader = Loader::new(vec![path.to_owned()], load);
                only_model(&loader.load(&ServingSnapshot::default(), &BTreeSet::new(), &|_| {}))?
            }
        };
        let answer = local_answer(&version, &options.outputs)?;
        let decoder =
            RowDecoder::new(Arc::new(version.spec.schema.clone()), BodyShape::Row, DecodeLimits::default())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { version, decoder, answer, runtime, first: true })
    }
}

/// The newest version at `path`, if it is a graph and no other model is there: what it asks
/// lies beside it.
fn graph_at(path: &Path) -> Option<Candidate> {
    let mut found = weir_artifact::discover(path).found;
    let newest = found.pop().filter(|newest| found.iter().all(|one| one.name == newest.name))?;
    (newest.kind == Kind::Graph).then_some(newest)
}

fn only_model(snapshot: &ServingSnapshot) -> anyhow::Result<Arc<ServedVersion>> {
    if !snapshot.failures().is_empty() {
        bail!("{}", failure_lines(snapshot.failures()));
    }
    let mut models = snapshot.models();
    match (models.next(), models.next()) {
        (Some((name, _)), None) => Ok(snapshot.version(name.as_str(), None)?.clone()),
        (Some(_), Some(_)) => bail!("there are several models here: name the folder of one"),
        _ => bail!("there is no model here"),
    }
}

/// An object of the words asked for; `prediction` alone without any.
fn local_answer(version: &ServedVersion, words: &[String]) -> anyhow::Result<Answer> {
    let default = ["prediction".to_owned()];
    let words = if words.is_empty() { &default[..] } else { words };
    let resolve = |word: &String| {
        let known = || version.spec.answers.iter().map(|(w, _)| w.as_str()).collect::<Vec<_>>().join(", ");
        let answer = version.spec.answer(word).cloned();
        Ok((word.clone(), answer.ok_or_else(|| anyhow!("unknown word `{word}`, one of: {}", known()))?))
    };
    words.iter().map(resolve).collect::<anyhow::Result<_>>().map(Answer::Record)
}

impl Predictor for Local {
    fn predict(&mut self, row: &[u8]) -> Result<Vec<u8>, String> {
        let batch = self.decoder.decode(row).map_err(|rejection| rejection.to_string())?;
        let deadline = Deadline::after(SystemClock.now(), TIMEOUT);
        // Rows for a model that keeps state are the steps of one sequence.
        let start = std::mem::take(&mut self.first);
        let sequence = self.version.spec.sequence.as_ref().and_then(|_| SequenceId::number(1));
        let sequence = sequence.map(|id| SequenceStep { id, start, end: false });
        let job = Job { sequence, ..Job::new(batch, deadline) };
        let execution = self.version.executor.execute(job);
        let done = self.runtime.block_on(execution).map_err(|e| e.to_string())?;
        let mut line = Vec::new();
        let _ = write_answer(&self.answer, &done.outputs, 0, &mut line);
        line.push(b'\n');
        Ok(line)
    }
}

/// A model on a server.
struct Remote {
    client: Client,
    path: String,
}

impl Remote {
    fn new(url: &str, options: &Predict) -> anyhow::Result<Self> {
        let name: weir_types::ModelName = options.model.parse()?;
        let words =
            if options.outputs.is_empty() { "prediction".to_owned() } else { options.outputs.join(",") };
        let words: String = form_urlencoded::byte_serialize(words.as_bytes()).collect();
        let path = format!("/v1/models/{name}:predict?outputs={words}");
        Ok(Self { client: Client::new(url, TIMEOUT), path })
    }
}

impl Predictor for Remote {
    fn predict(&mut self, row: &[u8]) -> Result<Vec<u8>, String> {
        let reply = self.client.post_json(&self.path, row).map_err(|e| e.to_string())?;
        let body: Value = serde_json::from_slice(&reply.body)
            .map_err(|_| format!("the server answered {} without JSON", reply.status))?;
        match body["predictions"].get(0) {
            Some(answer) if reply.status == 200 => Ok(format!("{answer}\n").into_bytes()),
            _ => Err(body.get("detail").unwrap_or(&body).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_lines_that_hold_anything() {
        let lines: Vec<_> = rows(&b"{}\n\n  \r\n{\"a\":1}"[..]).map(Result::unwrap).collect();
        assert_eq!(lines, [b"{}\n".to_vec(), b"{\"a\":1}".to_vec()]);
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let endless = io::repeat(b'x');
        assert!(rows(endless).next().unwrap().is_err());
    }
}
